"""Views and reports as people set them: checked against the meters, views and channels there are."""

import json
from functools import lru_cache
from typing import cast

from tallystick.billing.kept import canonical
from tallystick.catalog.delivering import DeliveryCatalog
from tallystick.catalog.reporting import Reader, ReportCatalog
from tallystick.errors import Fault, Invalid, NotFound
from tallystick.flows.system import System
from tallystick.flows.usage import GROUPS_BESIDE_DIMENSIONS
from tallystick.reporting.report import Report, read_report
from tallystick.reporting.view import View, read_view


def reports_of(system: System) -> ReportCatalog:
    """The catalog, as far as it keeps views and reports. (Metering's own interface does not name them: it runs without.)"""
    return cast("ReportCatalog", system.catalog)


@lru_cache(maxsize=4096)
def view_of(content: str) -> View:
    """The view that is kept as this text."""
    return read_view(json.loads(content))


@lru_cache(maxsize=4096)
def report_of(content: str) -> Report:
    """The report that is kept as this text."""
    return read_report(json.loads(content))


def view_text(view: View) -> str:
    """As it is kept."""
    return canonical(view.to_wire())


def report_text(report: Report) -> str:
    """As it is kept."""
    return canonical(report.to_wire())


def checked_view(system: System, tenant: str, raw: object) -> View:
    """A valid view of this tenant. Raises Invalid with every fault."""
    view = read_view(raw)
    question = view.question
    faults: list[Fault] = []
    for alias, key in question.aliases().items():
        place = "/question/meter" if alias == "a" else f"/question/meters/{alias}"
        try:
            meter = system.catalog.meter(tenant, key)
        except NotFound:
            detail = f"There is no meter {key!r}. GET /v1/meters lists them."
            faults.append(Fault(place, "unknown_meter", detail))
            continue
        if alias != "a":
            continue
        known = (*GROUPS_BESIDE_DIMENSIONS, *(one.name for one in meter.dimensions))
        named = [(f"/question/group_by/{index}", name) for index, name in enumerate(question.group_by)]
        named += [(f"/question/filter/{one.name}", one.name) for one in question.filters]
        faults += [
            Fault(
                pointer,
                "unknown_dimension",
                f"The meter {key!r} has no dimension {name[:60]!r}; it has {', '.join(known)}.",
            )
            for pointer, name in dict(named).items()
            if name not in known
        ]
    _raise(faults)
    return view


def checked_report(system: System, tenant: str, reader: Reader, raw: object) -> Report:
    """A valid report: of a view that `reader` sees, to a channel of the tenant's own. Raises Invalid with every fault."""
    report = read_report(raw)
    faults: list[Fault] = []
    try:
        is_there = reports_of(system).view(tenant, report.view, reader=reader).archived_at_us is None
    except NotFound:
        is_there = False
    if not is_there:
        detail = f"There is no view {report.view!r}. GET /v1/views lists them."
        faults.append(Fault("/view", "unknown_view", detail))
    try:
        channel = cast("DeliveryCatalog", system.catalog).channel(tenant, report.channel)
    except NotFound:
        channel = None
    # A customer's channel is told of that customer alone; a view may show anything.
    if channel is None or channel.customer is not None:
        detail = f"There is no channel {report.channel!r} of the tenant's own. GET /v1/channels lists them."
        faults.append(Fault("/channel", "unknown_channel", detail))
    _raise(faults)
    return report


def _raise(faults: list[Fault]) -> None:
    if faults:
        raise Invalid(" ".join(fault.detail for fault in faults[:5]), code=faults[0].code, faults=faults)
