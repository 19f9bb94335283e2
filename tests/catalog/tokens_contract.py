"""What every catalog does with keys that change and with tokens; subclassed like contract.py."""

from collections.abc import Callable
from typing import Any

import pytest

from tallystick.catalog.interface import ApiKeyChange, Catalog
from tallystick.errors import Conflict, Invalid, NotFound, PreconditionFailed

from .contract import ANN, HOUR_US, NOW_US, T, code_of, everything, fault_codes, new


def key(catalog: Catalog, *scopes: str, **members: Any) -> Any:
    wanted = {"name": "k", "scopes": scopes or ("usage:read",), "expires_at_us": None, **members}
    return catalog.create_api_key(T, **wanted, actor=ANN, now_us=NOW_US)


def token(catalog: Catalog, **members: Any) -> Any:
    wanted = {
        "kind": "portal",
        "name": "portal",
        "customer": "acme",
        "scopes": ("usage:read",),
        "issued_by": None,
        "expires_at_us": NOW_US + HOUR_US,
        "now_us": NOW_US,
        **members,
    }
    return catalog.create_token(T, **wanted, actor=ANN)


class TokensContract:
    def test_a_wildcard_covers_its_noun(self, catalog: Catalog) -> None:
        made = key(catalog, "customers:*", "usage:read")
        assert made.key.scopes == ("usage:read", "customers:*")
        caller = catalog.authenticate(made.secret, now_us=NOW_US)
        assert caller is not None
        assert caller.scopes == {"customers:read", "customers:write", "usage:read"}
        assert not caller.allows("meters:read")
        with pytest.raises(Invalid):
            key(catalog, "*")

    def test_rotation_with_an_overlap(self, catalog: Catalog, side_door: Callable[[str], Any]) -> None:
        made = key(catalog)
        rotated = catalog.rotate_api_key(T, made.key.id, overlap_us=HOUR_US, actor=ANN, now_us=NOW_US)
        assert rotated.key.previous_until_us == NOW_US + HOUR_US
        old = catalog.authenticate(made.secret, now_us=NOW_US + HOUR_US - 1)
        assert old is not None
        assert (old.key_id, old.expires_at_us) == (made.key.id, NOW_US + HOUR_US)
        assert catalog.authenticate(made.secret, now_us=NOW_US + HOUR_US) is None
        current = catalog.authenticate(rotated.secret, now_us=NOW_US + HOUR_US)
        assert current is not None
        assert current.expires_at_us is None
        # The next rotation ends the one before the last at once.
        catalog.rotate_api_key(T, made.key.id, overlap_us=HOUR_US, actor=ANN, now_us=NOW_US)
        assert catalog.authenticate(made.secret, now_us=NOW_US) is None
        assert catalog.authenticate(rotated.secret, now_us=NOW_US) is not None
        catalog.revoke_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
        assert catalog.authenticate(rotated.secret, now_us=NOW_US) is None
        assert rotated.secret not in str(side_door("SELECT * FROM api_keys"))

    def test_a_key_changes(self, catalog: Catalog) -> None:
        made = key(catalog, "usage:read", expires_at_us=NOW_US + 5)
        revision = catalog.revision("keys")

        def change(**members: Any) -> Any:
            return catalog.change_api_key(
                T, made.key.id, ApiKeyChange(**members), actor=ANN, now_us=NOW_US + 9
            )

        assert change(name="k") == made.key
        assert catalog.revision("keys") == revision
        changed = change(scopes=["meters:read", "events:write"], expires_at_us=None)
        assert (changed.name, changed.scopes) == ("k", ("events:write", "meters:read"))
        assert catalog.revision("keys") > revision
        caller = catalog.authenticate(made.secret, now_us=NOW_US + 9)
        assert caller is not None
        assert caller.scopes == {"events:write", "meters:read"}
        (row, *_) = catalog.audit(T).items
        assert (row.action, row.resource) == ("api_key.change", f"api_key/{made.key.id}")
        assert row.before is not None
        assert row.before["scopes"] == ["usage:read"]
        with pytest.raises(Invalid) as error:
            change(name="", scopes=["nothing"], expires_at_us=NOW_US)
        assert fault_codes(error) == {
            "/name": "invalid_name",
            "/scopes/0": "unknown_scope",
            "/expires_at": "expires_in_past",
        }
        catalog.revoke_api_key(T, made.key.id, actor=ANN, now_us=NOW_US)
        with pytest.raises(Conflict) as conflict:
            change(name="other")
        assert code_of(conflict) == "api_key_revoked"

    def test_an_expectation_is_asked_within_the_change(self, catalog: Catalog) -> None:
        made = key(catalog)
        seen: list[Any] = []

        def refuse(present: Any) -> None:
            seen.append(present)
            raise PreconditionFailed("no")

        with pytest.raises(PreconditionFailed):
            catalog.change_api_key(
                T, made.key.id, ApiKeyChange(name="x"), expected=refuse, actor=ANN, now_us=NOW_US
            )
        assert seen == [made.key] == list(catalog.api_keys(T).items)

    def test_last_use_is_noted_without_being_a_change(self, catalog: Catalog) -> None:
        made = key(catalog)
        revision = catalog.revision()
        catalog.note_used([made.key.id, "key_unknown"], at_us=NOW_US + 7)
        catalog.note_used([made.key.id], at_us=NOW_US + 3)
        catalog.note_used([], at_us=NOW_US)
        assert catalog.api_key(T, made.key.id).last_used_at_us == NOW_US + 7
        assert catalog.revision() == revision
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        of_portal = token(catalog, issued_by=made.key.id)
        assert of_portal.token.last_used_at_us is None
        catalog.note_used([made.key.id, of_portal.token.id], at_us=NOW_US + 9)
        (shown,) = catalog.tokens(T, kind="portal", now_us=NOW_US).items
        assert shown.last_used_at_us == NOW_US + 9

    def test_a_token_authenticates(
        self, catalog: Catalog, other: Catalog, side_door: Callable[[str], Any]
    ) -> None:
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        issuer = key(catalog, "admin")
        revision = catalog.revision("keys")
        made = token(catalog, issued_by=issuer.key.id)
        assert catalog.revision("keys") == revision
        assert made.secret not in repr(made)
        assert made.secret not in str(side_door("SELECT * FROM tokens")) + str(
            side_door("SELECT * FROM audit")
        )
        caller = other.authenticate(made.secret, now_us=NOW_US)
        assert caller is not None
        assert (caller.tenant, caller.customer, caller.key_id) == (T, "acme", made.token.id)
        assert (caller.scopes, caller.expires_at_us) == ({"usage:read"}, NOW_US + HOUR_US)
        assert catalog.authenticate(made.secret, now_us=NOW_US + HOUR_US) is None
        assert catalog.authenticate(made.secret[:-1], now_us=NOW_US) is None
        # It ends with the key that made it.
        catalog.revoke_api_key(T, issuer.key.id, actor=ANN, now_us=NOW_US)
        assert catalog.authenticate(made.secret, now_us=NOW_US) is None

    def test_a_revoked_token(self, catalog: Catalog) -> None:
        catalog.create_customer(T, "acme", new(), actor=ANN, now_us=NOW_US)
        made = token(catalog)
        revision = catalog.revision("keys")
        revoked = catalog.revoke_token(T, made.token.id, kind="portal", actor=ANN, now_us=NOW_US + 1)
        assert revoked.revoked_at_us == NOW_US + 1
        assert catalog.revision("keys") > revision
        assert catalog.authenticate(made.secret, now_us=NOW_US + 1) is None
        again = catalog.revoke_token(T, made.token.id, kind="portal", actor=ANN, now_us=NOW_US + 2)
        assert again == revoked
        for tenant, token_id, kind in ((T, "tok_none", "portal"), ("other", made.token.id, "portal")):
            with pytest.raises(NotFound) as error:
                catalog.revoke_token(tenant, token_id, kind=kind, actor=ANN, now_us=NOW_US)
            assert code_of(error) == "token_not_found"
        with pytest.raises(NotFound):
            catalog.revoke_token(T, made.token.id, kind="session", actor=ANN, now_us=NOW_US)

    def test_tokens_are_listed_until_they_end_and_then_forgotten(
        self, catalog: Catalog, side_door: Callable[[str], Any]
    ) -> None:
        for customer in ("acme", "globex"):
            catalog.create_customer(T, customer, new(), actor=ANN, now_us=NOW_US)
        made = [token(catalog, customer=name).token for name in ("acme", "globex", "acme")]
        session = token(catalog, kind="session", customer=None, name="ann@example.org").token

        def listed(**wanted: Any) -> list[Any]:
            options = {"kind": "portal", "now_us": NOW_US, **wanted}
            return list(everything(lambda c: catalog.tokens(T, limit=2, cursor=c, **options)))

        assert listed() == made
        assert listed(customer="globex") == [made[1]]
        assert listed(kind="session") == [session]
        assert listed(now_us=NOW_US + HOUR_US) == []
        later_us = NOW_US + 26 * HOUR_US
        token(catalog, expires_at_us=later_us + 1, now_us=later_us)
        assert len(side_door("SELECT id FROM tokens")) == 1

    def test_what_a_token_may_not_be(self, catalog: Catalog) -> None:
        with pytest.raises(NotFound) as missing:
            token(catalog, customer="nobody")
        assert code_of(missing) == "customer_not_found"
        with pytest.raises(Invalid) as error:
            token(catalog, scopes=("root",), expires_at_us=NOW_US)
        assert fault_codes(error) == {"/scopes": "unknown_scope", "/ttl_seconds": "expires_in_past"}
