"""Subscriptions in a configuration file: those with a key of their own. What an entry leaves out stays as it is.

Another plan, other quantities and add-ons hold from now on; `end` cancels. Customer, start, anchor and the like are what the
subscription is: to change them, it is ended and another one made.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tallystick.billing.subscription import parse_subscription
from tallystick.cli.client import Api
from tallystick.cli.config.noun import Entry, Patched, Present, Step, changes_to
from tallystick.cli.config.shape import checked_members, exact_numbers, fault, moment, plain
from tallystick.errors import Fault, Invalid, TallystickError
from tallystick.money import plain as decimal_text

_NONE = type(None)
_KINDS: dict[str, tuple[type, ...]] = {
    "key": (str,),
    "customer": (str,),
    "plan": (str,),
    "version": (int, _NONE),
    "start": (str, _NONE),
    "end": (str, _NONE),
    "anchor": (str, _NONE),
    "trial_days": (int, _NONE),
    "include_children": (bool,),
    "quantities": (dict,),
    "add_ons": (dict,),
    "metadata": (dict,),
}
_TIMES = ("start", "end", "anchor")
_FIXED = ("customer", "start", "anchor", "trial_days", "include_children", "metadata")


class Subscriptions(Patched):
    name = "subscriptions"
    label = "subscription"

    def checked(self, raw: Any) -> Entry:
        entry = checked_members(exact_numbers(plain(raw)), _KINDS, required=("key", "customer", "plan"))
        faults: list[Fault] = []
        for name in _TIMES:
            if entry.get(name) is not None:
                entry[name] = moment(entry[name], f"/{name}")
        own = {name: value for name, value in entry.items() if name not in ("include_children", "add_ons")}
        quantities = parse_subscription(own).quantities
        if "quantities" in entry:
            entry["quantities"] = {key: decimal_text(quantity) for key, quantity in quantities}
        for key, instances in entry.get("add_ons", {}).items():
            if isinstance(instances, bool) or not isinstance(instances, int) or instances < 0:
                faults.append(fault(f"/add_ons/{key}", "invalid_value", "A whole number is needed."))
        if faults:
            raise Invalid(faults[0].detail, faults=faults)
        if "add_ons" in entry:
            entry["add_ons"] = {
                key: str(instances) for key, instances in entry["add_ons"].items() if instances
            }
        return {name: value for name, value in entry.items() if value is not None or name == "end"}

    def key_of(self, entry: Entry) -> str:
        return entry["key"]

    def listed(self, api: Api) -> list[Present]:
        return [self.read(one) for one in api.items("/v1/subscriptions") if one["key"] is not None]

    def read(self, document: dict[str, Any]) -> Present:
        entry: Entry = {
            name: plain(document[name]) for name in _KINDS if name not in ("quantities", "add_ons")
        }
        entry["quantities"] = {one["charge"]: one["quantity"] for one in document["quantities"]}
        add_ons = {one["add_on"]: one["quantity"] for one in document["add_ons"]}
        entry["add_ons"] = {key: instances for key, instances in add_ons.items() if Decimal(instances)}
        path = f"/v1/subscriptions/{document['id']}"
        return Present(document["key"], entry, path, kept=document["status"] == "ended")

    def ordered(self, steps: list[Step]) -> list[Step]:
        """As they are. Raises TallystickError for a change that cannot be made."""
        for step in steps:
            if step.present is not None and step.wanted is not None:
                _check_possible(step.key, changes_to(step.wanted, step.present), step.present)
        return steps

    def create(self, api: Api, entry: Entry) -> str | None:
        own = {name: value for name, value in entry.items() if name != "add_ons"}
        made = api.send("POST", "/v1/subscriptions", json=own).json()
        for key, instances in entry.get("add_ons", {}).items():
            api.send(
                "POST",
                f"/v1/subscriptions/{made['id']}/add_ons",
                json={"add_on": key, "instances": int(instances), "effective": made["start"]},
            )
        return None

    def change(
        self, api: Api, present: Present, changes: Entry, wanted: Entry, headers: Mapping[str, str]
    ) -> None:
        _check_possible(present.key, changes, present)

        def act(action: str, **body: Any) -> None:
            api.send("POST", f"{present.path}/{action}", json=body)

        if "plan" in changes or "version" in changes:
            version = {"version": wanted["version"]} if "version" in wanted else {}
            act("change", plan=wanted["plan"], **version)
        for key, quantity in changes.get("quantities", {}).items():
            if present.entry["quantities"].get(key) != quantity:
                act("quantities", charge=key, quantity=quantity)
        if "add_ons" in changes:
            before = present.entry["add_ons"]
            for key in {**before, **changes["add_ons"]}:
                instances = changes["add_ons"].get(key, "0")
                if before.get(key, "0") != instances:
                    act("add_ons", add_on=key, instances=int(instances))
        if "end" in changes:
            if present.entry["end"] is not None:
                act("uncancel")
            if changes["end"] is not None:
                act("cancel", effective=changes["end"])

    def archive(self, api: Api, present: Present) -> None:
        """It ends with the period that is open."""
        api.send("POST", f"{present.path}/cancel", json={"effective": "period_end"})

    def exported(self, present: Present) -> Entry:
        left_out: dict[str, Any] = {
            "include_children": False,
            "quantities": {},
            "add_ons": {},
            "metadata": {},
        }
        return {
            name: {key: int(one) for key, one in value.items()} if name == "add_ons" else value
            for name, value in present.entry.items()
            if value is not None and value != left_out.get(name)
        }


def _check_possible(key: str, changes: Entry, present: Present) -> None:
    fixed = [name for name in _FIXED if name in changes]
    if fixed:
        raise TallystickError(
            f"The subscription {key!r}: {', '.join(fixed)} cannot be changed. Give it an `end`, and make another one."
        )
    missing = (
        sorted(present.entry["quantities"].keys() - changes["quantities"].keys())
        if "quantities" in changes
        else []
    )
    if missing:
        raise TallystickError(
            f"The subscription {key!r}: quantities must name {', '.join(missing)} too, which it has a quantity of."
        )
