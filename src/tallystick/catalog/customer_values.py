"""What a valid customer is: every member of a change, judged at once."""

import re
from collections.abc import Collection, Mapping
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from msgspec import UnsetType

from tallystick.catalog.database import to_json
from tallystick.catalog.interface import STAGES, SUBJECTS_PER_CUSTOMER_MAX, CustomerChange
from tallystick.errors import Fault, Invalid
from tallystick.money import exponent_of

_CHARACTERS_MAX = 256
_EMAIL_CHARACTERS_MAX = 320
_EXTERNAL_IDS_MAX = 50
_TRAITS_BYTES_MAX = 64 * 1024
_FAULTS_MAX = 100
_EMAIL = re.compile(r"[^@\s\x00]+@[^@\s\x00]+\Z")


def checked_values(change: CustomerChange, faults: list[Fault]) -> dict[str, Any]:
    """Columns to set. Raises Invalid with `faults` and all that are found here."""
    values: dict[str, Any] = {}
    if not isinstance(change.name, UnsetType):
        faults.extend(text_faults("/name", change.name))
        values["name"] = change.name
    if not isinstance(change.parent, UnsetType):
        values["parent"] = change.parent
        if change.parent is not None:
            faults.extend(text_faults("/parent", change.parent))
    if not isinstance(change.currency, UnsetType):
        values["currency"] = change.currency
        if change.currency is not None and not _is_currency(change.currency):
            detail = f"{change.currency[:20]!r} is no currency code of ISO 4217, such as USD."
            faults.append(Fault("/currency", "invalid_currency", detail))
    if not isinstance(change.timezone, UnsetType):
        values["timezone"] = change.timezone
        if not _is_timezone(change.timezone):
            detail = f"{change.timezone[:40]!r} is no IANA time zone, such as Europe/Berlin."
            faults.append(Fault("/timezone", "invalid_timezone", detail))
    if not isinstance(change.email, UnsetType):
        values["email"] = change.email
        if change.email is not None and not (
            len(change.email) <= _EMAIL_CHARACTERS_MAX and _EMAIL.match(change.email)
        ):
            faults.append(Fault("/email", "invalid_email", "An email address looks like name@example.com."))
    if not isinstance(change.external_ids, UnsetType):
        values["external_ids"] = _external_ids(change.external_ids, faults)
    if not isinstance(change.traits, UnsetType):
        values["traits"] = _traits(change.traits, faults)
    if not isinstance(change.stage, UnsetType):
        values["stage"] = change.stage
        if change.stage not in STAGES:
            detail = f"stage must be one of {', '.join(STAGES)}."
            faults.append(Fault("/stage", "invalid_stage", detail))
    if not isinstance(change.subjects, UnsetType):
        _check_subjects(change.subjects, faults)
    if faults:
        shown = faults[:_FAULTS_MAX]
        raise Invalid(" ".join(fault.detail for fault in shown[:5]), faults=shown)
    return values


def text_faults(pointer: str, value: str) -> list[Fault]:
    if not 1 <= len(value) <= _CHARACTERS_MAX:
        detail = f"{pointer} must have 1 to {_CHARACTERS_MAX} characters."
    elif not _is_utf8(value):
        detail = f"{pointer} is not valid Unicode (it holds half of a surrogate pair)."
    else:
        return []
    return [Fault(pointer, "invalid_text", detail)]


def _is_utf8(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_currency(code: str) -> bool:
    try:
        exponent_of(code)
    except Invalid:
        return False
    return True


def _is_timezone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _check_subjects(subjects: Collection[str], faults: list[Fault]) -> None:
    if len(subjects) > SUBJECTS_PER_CUSTOMER_MAX:
        detail = f"A customer has at most {SUBJECTS_PER_CUSTOMER_MAX} declared subjects, not {len(subjects)}."
        faults.append(Fault("/subjects", "too_many_subjects", detail))
        return
    for index, subject in enumerate(subjects):
        faults.extend(text_faults(f"/subjects/{index}", subject))


def _external_ids(external_ids: Mapping[str, str], faults: list[Fault]) -> str:
    if len(external_ids) > _EXTERNAL_IDS_MAX:
        detail = f"A customer has at most {_EXTERNAL_IDS_MAX} external ids."
        faults.append(Fault("/external_ids", "too_many_external_ids", detail))
        return "{}"
    before = len(faults)
    for name, value in external_ids.items():
        if not (1 <= len(name) <= _CHARACTERS_MAX and _is_utf8(name)):
            detail = f"A name in external_ids has 1 to {_CHARACTERS_MAX} characters."
            faults.append(Fault("/external_ids", "invalid_text", detail))
        else:
            pointer = name.replace("~", "~0").replace("/", "~1")
            faults.extend(text_faults(f"/external_ids/{pointer}", value))
    return to_json(external_ids) if len(faults) == before else "{}"


def _traits(traits: Mapping[str, Any], faults: list[Fault]) -> str:
    try:
        encoded = to_json(traits)
    except (TypeError, ValueError, OverflowError, RecursionError):
        faults.append(Fault("/traits", "invalid_traits", "traits must be a JSON object."))
        return "{}"
    if len(encoded.encode()) > _TRAITS_BYTES_MAX:
        detail = f"traits have at most {_TRAITS_BYTES_MAX} bytes as JSON."
        faults.append(Fault("/traits", "traits_too_large", detail))
    return encoded
