"""`GET /v1/meters/{key}/forecast`: what a meter will probably show, and when an amount is reached."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from litestar import Request, get
from litestar.types import ControllerRouterHandler

from tallystick.api import wire
from tallystick.api.auth import caller, require
from tallystick.api.fields import Fields
from tallystick.api.openapi import (
    DECIMAL,
    POSITION,
    STRING,
    TIME,
    Schema,
    array,
    nullable,
    objects,
    operation,
    query,
)
from tallystick.api.usage import PARAMETERS, check_names, narrowed, read_request
from tallystick.billing.period import parse_duration_us
from tallystick.errors import Invalid
from tallystick.flows.forecast import (
    DAY_US,
    HORIZON_DAYS_MAX,
    LEVEL_WIDE,
    Forecast,
    ForecastRequest,
    ForecastRow,
    Reach,
    forecast,
    reach,
)
from tallystick.flows.position import token_of
from tallystick.flows.usage import definition, in_questions
from tallystick.forecast.predict import Backtest
from tallystick.metering.query import Window
from tallystick.metering.window import zone_of

Connection = Request[Any, Any, Any]
HORIZON_DEFAULT = "P30D"
LEVEL_DEFAULT = 80
LEVEL_LEAST, LEVEL_MOST = 50, 99

_WITHOUT = frozenset({"from", "to", "window", "group_by", "order_by", "limit", "fill"})
REASONS = {
    "no_history": "There is no usage to continue, or of fewer than three windows: there are no figures.",
    "short_history": "There are fewer than two seasons of history: the mean of what there is is continued.",
    "not_installed": "The library of the seasonal model is not installed (pip install tallystick[forecast]): "
    "the last seasons are continued.",
}


# -- on the wire ----------------------------------------------------------------------------------------------------
def forecast_document(made: Forecast, customers: Sequence[str] | None, level: int) -> dict[str, Any]:
    """A forecast on the wire. `customers`: as they were asked for."""
    prediction = made.prediction
    named = list(customers or ())
    return {
        "meter": made.meter.key,
        "unit": made.meter.unit,
        "customer": named[0] if len(named) == 1 else named or None,
        "window": str(made.window),
        "timezone": made.timezone,
        "approximate": True,
        "method": prediction.method,
        "season": prediction.season,
        "reason": prediction.reason,
        "detail": None if prediction.reason is None else REASONS[prediction.reason],
        "level": level,
        "history": {
            "from": wire.time_text(made.from_us),
            "to": wire.time_text(made.to_us),
            "windows": made.windows,
        },
        "rows": [_row(row) for row in made.rows],
        "total": _row(made.sums[-1]) if made.sums else None,
        "backtest": _backtest(prediction.backtest, level / 100),
        "position": token_of(made.position),
    }


def _row(row: ForecastRow) -> dict[str, Any]:
    return {
        "from": wire.time_text(row.from_us),
        "to": wire.time_text(row.to_us),
        "value": wire.decimal_text(row.value),
        "low": wire.decimal_text(row.low),
        "high": wire.decimal_text(row.high),
        "low_95": wire.decimal_text(row.low_wide),
        "high_95": wire.decimal_text(row.high_wide),
    }


def _backtest(found: Backtest | None, level: float) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "error": f"{found.error:.4g}",
        "naive_error": f"{found.naive_error:.4g}",
        "coverage": f"{found.coverage[level]:.4g}",
        "coverage_95": f"{found.coverage[LEVEL_WIDE]:.4g}",
        "origins": found.origins,
    }


def reach_document(found: Reach) -> dict[str, Any]:
    """When an amount is reached, on the wire."""
    return {
        "amount": wire.decimal_text(found.amount),
        "since": wire.time_text(found.since_us),
        "used": wire.decimal_text(found.used),
        "at": wire.optional_time_text(found.at_us),
        "earliest": wire.optional_time_text(found.earliest_us),
        "latest": wire.optional_time_text(found.latest_us),
    }


_ROW = objects(
    {
        "from": TIME,
        "to": TIME,
        **dict.fromkeys(("value", "low", "high", "low_95", "high_95"), DECIMAL),
    }
)
_RATIO: Schema = {"type": "string", "description": "A ratio, rounded to four digits."}
METER_FORECAST = objects(
    {
        "meter": STRING,
        "unit": nullable(STRING),
        "customer": {"anyOf": [nullable(STRING), array(STRING)]},
        "window": {"type": "string", "enum": ["hour", "day"]},
        "timezone": STRING,
        "approximate": {
            "type": "boolean",
            "const": True,
            "description": "The model computes in binary floats.",
        },
        "method": {
            "type": "string",
            "enum": ["combined", "ets", "ets_asinh", "seasonal_median", "seasonal_naive", "mean", "none"],
            "description": "What was best on the meter's own past; `none`: there are no figures.",
        },
        "season": nullable({"type": "integer", "description": "In windows."}),
        "reason": nullable({"type": "string", "enum": list(REASONS)}),
        "detail": nullable(STRING),
        "level": {"type": "integer"},
        "history": objects({"from": TIME, "to": TIME, "windows": {"type": "integer"}}),
        "rows": array(_ROW, description="The first is the window that is open now, as a whole."),
        "total": nullable(
            {
                **_ROW,
                "description": "The sum of the rows, with an interval of its own; null where windows do not add up.",
            }
        ),
        "backtest": nullable(
            objects(
                {
                    "error": {**_RATIO, "description": "Mean absolute scaled error on the meter's own past."},
                    "naive_error": {**_RATIO, "description": "The same of repeating the last season."},
                    "coverage": {
                        **_RATIO,
                        "description": "Of what came, how much lay in the interval of `level`.",
                    },
                    "coverage_95": _RATIO,
                    "origins": {"type": "integer", "description": "Past moments it was asked from."},
                }
            )
        ),
        "reach": objects(
            {
                "amount": DECIMAL,
                "since": TIME,
                "used": DECIMAL,
                "at": nullable(TIME),
                "earliest": nullable(TIME),
                "latest": nullable(TIME),
            },
            description="With `reach`: null where it is not reached within the horizon.",
        ),
        "position": POSITION,
    },
    required=("meter", "customer", "method", "history", "rows", "total", "backtest", "position"),
)


# -- reading --------------------------------------------------------------------------------------------------------
def read_horizon(fields: Fields, name: str = "horizon") -> int:
    """An ISO 8601 duration of at most a year, in microseconds."""
    text = fields.text(name, characters_max=20) or HORIZON_DEFAULT
    found = parse_duration_us(text)
    if found is None or not 0 < found <= HORIZON_DAYS_MAX * DAY_US:
        fields.fault(
            name,
            "invalid_period",
            f"{name} must be an ISO 8601 duration such as P30D or PT24H, of at most {HORIZON_DAYS_MAX} days.",
        )
        return DAY_US
    return found


def read_level(fields: Fields) -> int:
    return fields.integer("level", least=LEVEL_LEAST, most=LEVEL_MOST) or LEVEL_DEFAULT


def _read_amount(fields: Fields) -> Decimal | None:
    text = fields.text("reach", characters_max=64)
    if text is None:
        return None
    amount = fields.faults.attempt(lambda: wire.parse_decimal(text, "reach"), None)
    if amount is not None and amount <= 0:
        fields.fault("reach", "invalid_number", "reach must be more than 0.")
        return None
    return amount


@get(
    "/v1/meters/{key:str}/forecast",
    guards=[require("usage:read")],
    opt={
        "operation": operation(
            summary="Forecast of a meter",
            tag="Usage",
            description="Usage of the windows to come, from the one that is open now on, with intervals that hold `level` and "
            "95 % of what comes, and their sum with an interval of its own. Methods compete on the meter's own past; `backtest` "
            "says how the best one did there, beside repeating the last season. `reach` asks when an amount is reached.",
            parameters=[
                query("horizon", "How far ahead: ISO 8601, at most 366 days. Default: P30D.", example="P14D"),
                query(
                    "window",
                    "Default: hour for a horizon of up to seven days, day beyond.",
                    schema={"type": "string", "enum": ["hour", "day"]},
                ),
                query(
                    "level",
                    "Percent of what comes that `low` to `high` holds.",
                    schema={
                        "type": "integer",
                        "minimum": LEVEL_LEAST,
                        "maximum": LEVEL_MOST,
                        "default": LEVEL_DEFAULT,
                    },
                ),
                query(
                    "reach",
                    "When does usage come to this amount? More than 0.",
                    schema=DECIMAL,
                    example="1000",
                ),
                query(
                    "since", "Usage counts towards `reach` from this moment on. Default: now.", schema=TIME
                ),
                *(parameter for name, parameter in PARAMETERS.items() if name not in {*_WITHOUT, "compare"}),
            ],
            answer=METER_FORECAST,
            errors=(504,),
        )
    },
)
async def forecast_of_meter(request: Connection) -> dict[str, Any]:
    """The windows to come."""
    system, who = wire.system_of(request), caller(request)
    fields = Fields.of_query(request)
    question = read_request(fields, tenant=who.tenant, meter=request.path_params["key"], without=_WITHOUT)
    horizon_us, level = read_horizon(fields), read_level(fields)
    window = fields.choice("window", ("hour", "day"))
    amount, since_us = _read_amount(fields), fields.time_us("since")
    if since_us is not None and fields.take("reach") is None:
        fields.fault("since", "missing", "since means something together with reach only.")
    if since_us is not None and since_us > system.clock.now_us():
        fields.fault("since", "invalid_time", "since must not lie in the future.")
    fields.close()
    meter = await in_questions(system, lambda: definition(system, question))
    check_names(fields, question, meter)
    try:
        zone_of(question.timezone)
    except Invalid as error:
        fields.fault("timezone", error.code, error.detail)
    fields.faults.raise_any()
    asked = question.customers
    question = await narrowed(system, who.tenant, who.customer, question)
    wanted = ForecastRequest(
        tenant=who.tenant,
        meter=question.meter,
        horizon_us=horizon_us,
        window=None if window is None else Window(window),
        timezone=question.timezone,
        customers=question.customers,
        include_children=question.include_children,
        filters=question.filters,
        level=level / 100,
        version=meter.version,
        as_of_us=question.as_of_us,
        min_position=question.min_position,
    )
    made = await forecast(system, wanted)
    document = forecast_document(made, asked, level)
    if amount is not None:
        found = await reach(system, replace(wanted, min_position=None), made, amount, since_us)
        document["reach"] = reach_document(found)
    return document


ROUTES: Sequence[ControllerRouterHandler] = (forecast_of_meter,)
