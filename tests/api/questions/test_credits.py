"""Credits over HTTP: granting, what is left (in money, and in units of a meter as events arrive), voiding, topping up."""

from typing import Any

from .live import Tenant, faults

DAY = "2026-07-15"


def granted(tenant: Tenant, **members: Any) -> dict[str, Any]:
    answer = tenant.post("/v1/credits", {"customer": "acme", "amount": "100", "currency": "USD", **members})
    assert answer.status_code == 201, answer.text
    return answer.json()


def test_money_is_granted_listed_and_voided(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme", "currency": "USD"})
    empty = tenant.answer("/v1/customers/acme/credits")
    assert (empty["balance"], empty["currency"], empty["ledger"]) == ("0.00", "USD", [])
    made = granted(tenant, priority=1, rollover=True, expires_at="2027-01-01T00:00:00Z", amount=99.5)
    assert (made["balance"], made["status"], made["amount"]) == ("99.50", "active", "99.50")
    granted(tenant, source="promotional", effective_at="2026-08-01T00:00:00Z")
    found = tenant.answer("/v1/customers/acme/credits")
    assert found["balance"] == "99.50"
    assert [(one["kind"], one["amount"], one["from"], one["to"]) for one in found["ledger"]] == [
        ("grant", "99.50", "granted", "grant")
    ]
    assert [one["status"] for one in found["grants"]] == ["active", "scheduled"]
    voided = tenant.post(f"/v1/credits/{made['id']}/void").json()
    assert (voided["balance"], voided["voided"], voided["status"]) == ("0.00", "99.50", "ended")
    found = tenant.answer("/v1/customers/acme/credits")
    assert [(one["kind"], one["amount"]) for one in found["ledger"]] == [
        ("void", "-99.50"),
        ("grant", "99.50"),
    ]
    assert tenant.answer(f"/v1/credits/{made['id']}") == voided


def test_units_of_a_meter_burn_down_as_events_count(tenant: Tenant) -> None:
    tenant.meter(key="tokens", event_type="llm", aggregation="sum", value="$.n")
    tenant.post("/v1/customers", {"key": "acme"})
    one = granted(
        tenant, currency=None, meter="tokens", effective_at=f"{DAY}T00:00:00Z", expires_at=f"{DAY}T10:00:00Z",
        priority=1,
    )  # fmt: skip
    two = granted(tenant, currency=None, meter="tokens", effective_at=f"{DAY}T09:00:00Z")

    def use(id_: str, hour: int, n: int) -> None:
        event = {"id": id_, "type": "llm", "subject": "acme", "time": f"{DAY}T{hour:02d}:30:00Z"}
        tenant.record({**event, "data": {"n": n}})

    def left() -> tuple[dict[str, str], str]:
        found = tenant.answer("/v1/customers/acme/credits?meter=tokens")
        assert sum(float(entry["amount"]) for entry in found["ledger"]) == float(found["balance"])
        (balance,) = found["balances"]
        return {grant["id"]: grant["balance"] for grant in found["grants"]}, balance["overage"]

    assert left() == ({one["id"]: "0", two["id"]: "100"}, "0")
    use("a", 11, 30)
    assert left() == ({one["id"]: "0", two["id"]: "70"}, "0")
    use("late", 8, 120)  # 100 of it from the first, 20 are overage until the second begins
    assert left() == ({one["id"]: "0", two["id"]: "50"}, "0")
    use("b", 11, 60)
    assert left() == ({one["id"]: "0", two["id"]: "0"}, "10")
    retract = {"reason": "test", "retract": [{"source": "/", "id": "late"}]}
    assert tenant.post("/v1/events/corrections", retract).status_code == 200
    assert left() == ({one["id"]: "0", two["id"]: "10"}, "0")


def test_a_rule_tops_up(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    rule = {"currency": "EUR", "below": "10", "to": "40", "ceiling": "100"}
    answer = tenant.send("PUT", "/v1/customers/acme/credits/top_up", json=rule)
    assert (answer.status_code, answer.json()["per"]) == (200, "month")
    found = tenant.answer("/v1/customers/acme/credits?currency=EUR")
    assert (found["balance"], found["grants"][0]["topped_up"], found["top_ups"][0]["to"]) == (
        "40.00",
        True,
        "40",
    )
    gone = tenant.send("DELETE", "/v1/customers/acme/credits/top_up?currency=EUR")
    assert (gone.status_code, tenant.answer("/v1/customers/acme/credits")["top_ups"]) == (204, [])


def test_faults_are_told_all_at_once(tenant: Tenant) -> None:
    tenant.post("/v1/customers", {"key": "acme"})
    answer = tenant.post("/v1/credits", {"customer": "acme", "amount": "0.001", "currency": "USD", "x": 1})
    assert faults(answer) == [("/amount", "too_precise"), ("/x", "unknown_member")]
    unknown = {"customer": "acme", "amount": "1"}
    assert tenant.post("/v1/credits", {**unknown, "meter": "none"}).status_code == 404
    assert tenant.post("/v1/credits", {**unknown, "currency": "USD", "customer": "no"}).status_code == 404
    assert tenant.get("/v1/customers/no/credits").status_code == 404
    rule = {"currency": "EUR", "below": "10", "ceiling": "5", "amount": "7"}
    wrong = tenant.send("PUT", "/v1/customers/acme/credits/top_up", json=rule)
    assert faults(wrong) == [("/ceiling", "too_small")]
