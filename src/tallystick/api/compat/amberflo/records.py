"""Amberflo's meter records, as bodies hold them, made into our events.

Amberflo drops a record that equals another one in every attribute, and counts one that differs in any: its clients and
LiteLLM use one `uniqueId` for several meters, and for several dimensions of one meter. So an event's source names meter
and customer, and its id is the `uniqueId` with a digest of value, time and dimensions behind it.
"""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, cast

import msgspec
from xxhash import xxh3_128_hexdigest

from tallystick.api import wire
from tallystick.errors import BadRequest, TooLarge
from tallystick.metering.instant import instant_text

CANCEL = "aflo.cancel_previous_resource_event"
"""A dimension that takes back the record which equals this one but for it."""

METADATA = "aflo.object_metadata"
"""LiteLLM's records that describe a team or a business unit; they have no customer of their own."""

_NUMBER = re.compile(r"-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?\Z", re.ASCII)
_DIGITS_MAX = 100
_MILLISECONDS_END = 253_402_300_800_000  # the year 10000
_COLUMNS = ("uniqueId", "meterApiName", "meterValue", "customerId", "meterTimeInMillis")


class WrongRecordError(Exception):
    """What is wrong with a record, in words."""


@dataclass(slots=True)
class Translated:
    """What the records of a request became. `of`: for each event the number of its record, from 0."""

    count: int = 0
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    of: list[int] = field(default_factory=list[int])
    retract: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    refused: dict[int, str] = field(default_factory=dict[int, str])


def translated(body: bytes, content_type: str, *, bytes_max: int, records_max: int) -> Translated:
    """Records of any of the forms that Amberflo takes: an object, an array, a line each, CSV.

    Raises BadRequest for what is none of these, and TooLarge."""
    records = _records(body, content_type.partition(";")[0].strip().lower(), bytes_max)
    if len(records) > records_max:
        raise TooLarge(f"One request may hold {records_max:,} records. Split it.", code="too_many_events")
    made = Translated(count=len(records))
    for number, record in enumerate(records):
        try:
            _translate(record, number, made)
        except WrongRecordError as error:
            made.refused[number] = str(error)
    return made


# -- forms ---------------------------------------------------------------------------------------------------------
def _records(body: bytes, content_type: str, bytes_max: int) -> list[Any]:
    first = body.lstrip()[:1]
    if content_type == "text/csv" or first not in (b"", b"[", b"{"):
        return _rows(body)
    lines = body.strip().splitlines()
    if first == b"{" and len(lines) > 1 and lines[0].rstrip().endswith(b"}"):
        return [wire.parse_json(line, bytes_max=bytes_max) for line in lines if line.strip()]
    found = wire.parse_json(body, bytes_max=bytes_max)
    return cast("list[Any]", found) if isinstance(found, list) else [found]


def _rows(body: bytes) -> list[Any]:
    """CSV with a header; columns that are no attributes are dimensions."""
    try:
        reader = csv.DictReader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        header = list(reader.fieldnames or ())
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadRequest(f"The body is neither JSON nor CSV: {error}.", code="invalid_csv") from None
    if "meterApiName" not in header or len(set(header)) != len(header):
        raise BadRequest(
            "The body is neither JSON nor CSV with a header row of meterApiName, meterValue, customerId, "
            "meterTimeInMillis and dimensions.",
            code="invalid_csv",
        )
    records: list[Any] = []
    for row in rows:
        given: dict[Any, Any] = {name: cell for name, cell in row.items() if cell not in (None, "")}
        if None in given:
            records.append("a row with more cells than the header")
            continue
        dimensions = {name: cell for name, cell in given.items() if name not in _COLUMNS}
        attributes = {name: cell for name, cell in given.items() if name in _COLUMNS}
        records.append({**attributes, "dimensions": dimensions})
    return records


# -- one record ----------------------------------------------------------------------------------------------------
def _translate(record: Any, number: int, made: Translated) -> None:
    if not isinstance(record, dict):
        raise WrongRecordError("it must be an object")
    given = cast("dict[str, Any]", record)
    dimensions = _dimensions(given.get("dimensions"))
    unique_id = _text(given, "uniqueId")
    cancelled = dimensions.pop(CANCEL, "").lower() == "true"
    values = _values(given)
    # All is read before anything is kept: a record counts as a whole.
    events = [
        _event(
            meter,
            wire.decimal_text(value),
            unique_id=unique_id,
            customer=_customer(given, meter, dimensions),
            time_us=_time_us(given),
            dimensions=dimensions,
        )
        for meter, value in values.items()
    ]
    for event in events:
        if cancelled:
            made.retract.append((event["source"], event["id"]))
        else:
            made.events.append(event)
            made.of.append(number)


def _event(
    meter: str,
    figure: str,
    *,
    unique_id: str | None,
    customer: str,
    time_us: int,
    dimensions: Mapping[str, str],
) -> dict[str, Any]:
    digest = xxh3_128_hexdigest(msgspec.json.encode([figure, time_us, sorted(dimensions.items())]))
    return {
        "id": digest if unique_id is None else f"{unique_id}:{digest}",
        "source": source_of(meter, customer),
        "type": meter,
        "subject": customer,
        "time": instant_text(time_us),
        "data": {"meterValue": msgspec.Raw(figure.encode()), "dimensions": dict(dimensions)},
    }


def source_of(meter: str, customer: str) -> str:
    """`amberflo:<meter>/<customer>`, the meter's own slashes escaped."""
    return f"amberflo:{meter.replace('%', '%25').replace('/', '%2F')}/{customer}"


def _values(given: Mapping[str, Any]) -> dict[str, Decimal]:
    """Value by meter: one, or those of `values`."""
    values: Any = given.get("values")
    if values is not None:
        if not isinstance(values, dict) or not values:
            raise WrongRecordError("values must be an object of meters and numbers")
        return {meter: _number(value, meter) for meter, value in cast("dict[str, Any]", values).items()}
    meter = _text(given, "meterApiName")
    if meter is None:
        raise WrongRecordError("meterApiName is missing")
    if given.get("meterValue") is None:
        raise WrongRecordError("meterValue is missing")
    return {meter: _number(given["meterValue"], "meterValue")}


def _number(given: Any, name: str) -> Decimal:
    if isinstance(given, str) and len(given) <= _DIGITS_MAX and _NUMBER.match(given):
        given = Decimal(given)
    if isinstance(given, bool) or not isinstance(given, int | Decimal):
        raise WrongRecordError(f"{name} must be a number")
    value = Decimal(given)
    exponent = value.as_tuple().exponent
    if value and (not isinstance(exponent, int) or value.adjusted() > _DIGITS_MAX or exponent < -_DIGITS_MAX):
        raise WrongRecordError(f"{name} has too many digits")
    return value


def _customer(given: Mapping[str, Any], meter: str, dimensions: Mapping[str, str]) -> str:
    """LiteLLM's callback names a business unit instead of a customer; it stands for one."""
    customer = _text(given, "customerId") or dimensions.get("business_unit_id")
    if customer is None and meter == METADATA:
        customer = dimensions.get("parentValue") or dimensions.get("id")
    if not customer:
        raise WrongRecordError("customerId is missing")
    return customer


def _time_us(given: Mapping[str, Any]) -> int:
    time_ms: Any = given.get("meterTimeInMillis")
    if time_ms is None:
        raise WrongRecordError("meterTimeInMillis is missing")
    if isinstance(time_ms, str) and re.fullmatch(r"\d{1,15}", time_ms, re.ASCII):
        time_ms = int(time_ms)
    if (
        isinstance(time_ms, bool)
        or not isinstance(time_ms, int | Decimal)
        or not 0 <= time_ms < _MILLISECONDS_END
    ):
        raise WrongRecordError("meterTimeInMillis must be milliseconds since 1970")
    return int(time_ms * 1000)


def _dimensions(given: Any) -> dict[str, str]:
    """Dimensions are text; null is absent."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise WrongRecordError("dimensions must be an object of strings")
    found: dict[str, str] = {}
    for name, value in cast("dict[str, Any]", given).items():
        if value is None:
            continue
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str):
            found[name] = value
        elif isinstance(value, int | Decimal):
            found[name] = wire.decimal_text(_number(value, f"the dimension {name[:60]}"))
        else:
            raise WrongRecordError(f"the dimension {name[:60]} must be a string")
    return found


def _text(given: Mapping[str, Any], name: str) -> str | None:
    value: Any = given.get(name)
    if value is None or value == "":
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise WrongRecordError(f"{name} must be a string")
    return value
