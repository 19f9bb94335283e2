"""What a run found: figures, tables for the terminal and for docs/benchmarks.md, and the goals beside what was measured."""

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable


@dataclass(slots=True)
class Table:
    """A title, what its figures mean, and rows of text; the first column names the row."""

    title: str
    meaning: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)

    def show(self, console: Console) -> None:
        console.print()
        console.print(f"[bold]{escape(self.title)}[/bold]")
        console.print(escape(self.meaning), style="dim")
        drawn = RichTable(box=box.SIMPLE_HEAD, pad_edge=False)
        for number, column in enumerate(self.columns):
            drawn.add_column(escape(column), justify="right" if number else "left", overflow="fold")
        for row in self.rows:
            drawn.add_row(*map(escape, row))
        console.print(drawn)

    def markdown(self) -> str:
        lines = [f"## {self.title}", "", self.meaning, ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|" + "|".join("---:" if number else "---" for number in range(len(self.columns))) + "|")
        lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in self.rows]
        return "\n".join(lines) + "\n"


@dataclass(slots=True)
class Findings:
    """Everything a run found. `figures` are what other parts and the goals compare with; a part that failed has left
    none, and whoever needs them shows a dash."""

    figures: dict[str, float] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)


def ratio(value: float | None, baseline: float | None) -> str:
    """`value / baseline`, or a dash where there is none of one."""
    return f"{value / baseline:.2f} ×" if value is not None and baseline else "–"


def rate(value: float | None) -> str:
    return f"{value:,.0f}" if value is not None else "–"


def ms(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    return f"{seconds * 1e3:,.1f}" if seconds < 10 else f"{seconds * 1e3:,.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """The value at or under which this share of the values lies (nearest rank). Raises ValueError for none."""
    if not values:
        raise ValueError("nothing was measured")
    ordered = sorted(values)
    return ordered[max(0, min(len(ordered) - 1, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


@dataclass(frozen=True, slots=True)
class Goal:
    """One line of DESIGN.md's goals: what is measured, how it is shown, and when it is met."""

    text: str
    measured: Callable[[dict[str, float]], float]  # raises KeyError when a part it needs has not run
    shown: Callable[[float], str]
    met: Callable[[float], bool]


GOALS = (
    Goal("recorded, batches of 1,000: ≥ 200,000 events/s", lambda f: f["recorded_1000"], rate, lambda v: v >= 200_000),
    Goal("  the same, on top of what was loaded", lambda f: f["recorded_loaded"], rate, lambda v: v >= 200_000),
    Goal(
        "  ≥ 0.6 of a bare chDB insert of such rows",
        lambda f: f["same_rows"] / f["bare_chdb"],
        lambda v: f"{v:.2f} ×",
        lambda v: v >= 0.6,
    ),
    Goal("single-event requests: ≥ 12,000/s", lambda f: f["accepted_1"], rate, lambda v: v >= 12_000),
    Goal("  their p99: < 25 ms", lambda f: f["p99_s_1"], lambda v: f"{ms(v)} ms", lambda v: v < 0.025),
    Goal(
        "acknowledged → countable under steady load, p50: < 100 ms",
        lambda f: f["countable_p50_s"],
        lambda v: f"{ms(v)} ms",
        lambda v: v < 0.1,
    ),
    Goal("  p99: < 300 ms", lambda f: f["countable_p99_s"], lambda v: f"{ms(v)} ms", lambda v: v < 0.3),
    Goal(
        "a customer's 12 months by day (warm p50): < 25 ms",
        lambda f: f["question_customer_year"],
        lambda v: f"{ms(v)} ms",
        lambda v: v < 0.025,
    ),
    Goal("  top 10 customers of a month: < 100 ms", lambda f: f["question_top"], lambda v: f"{ms(v)} ms", lambda v: v < 0.1),
    Goal("  both, larger ÷ smaller dataset: ≤ 1.5 ×", lambda f: f["growth"], lambda v: f"{v:.2f} ×", lambda v: v <= 1.5),
    Goal(
        "ingest ≥ 10 × PostgreSQL",
        lambda f: f["same_rows"] / f["postgres_ingest"],
        lambda v: f"{v:.1f} ×",
        lambda v: v >= 10,
    ),
    Goal(
        "query mix ≥ 20 × PostgreSQL (sum of warm p50s)",
        lambda f: f["postgres_mix_s"] / f["mix_s"],
        lambda v: f"{v:.1f} ×",
        lambda v: v >= 20,
    ),
    Goal(
        "roll-ups: ≤ 25 % of recorded/s", lambda f: f["rollups_recorded_share"], lambda v: f"{v:.1%}", lambda v: v <= 0.25
    ),
    Goal("  ≤ 30 % of storage", lambda f: f["rollups_storage_share"], lambda v: f"{v:.1%}", lambda v: v <= 0.3),
    Goal("rebuild beside 20,000 events/s: ≥ 1,000,000 events/s", lambda f: f["rebuilt_per_s"], rate, lambda v: v >= 1_000_000),
    Goal("on disk ≤ 40 bytes an event", lambda f: f["bytes_per_event"], lambda v: f"{v:.1f}", lambda v: v <= 40),
    Goal("resident memory at full load < 1.5 GB", lambda f: f["resident_bytes"], lambda v: f"{v / 1e9:.2f} GB", lambda v: v < 1.5e9),
    Goal("checking keys: < 5 % of the smallest request", lambda f: f["key_share"], lambda v: f"{v:.1%}", lambda v: v < 0.05),
    Goal("5,000 checks/s, p99: < 5 ms", lambda f: f["gate_check"], lambda v: f"{ms(v)} ms", lambda v: v < 0.005),
    Goal("  reservations: < 5 ms", lambda f: f["gate_reserve"], lambda v: f"{ms(v)} ms", lambda v: v < 0.005),
    Goal("  checks beside what is taken in: < 20 ms", lambda f: f["gate_check_beside"], lambda v: f"{ms(v)} ms", lambda v: v < 0.02),
    Goal("  reservations beside it: < 20 ms", lambda f: f["gate_reserve_beside"], lambda v: f"{ms(v)} ms", lambda v: v < 0.02),
    Goal("take-over in a cluster: < 10 s", lambda f: f["cluster_takeover_s"], lambda v: f"{v:.1f} s", lambda v: v < 10),
    Goal("ready after kill -9: < 3 s", lambda f: f["restart_ready_s"], lambda v: f"{v:.2f} s", lambda v: v < 3),
    Goal(
        "10,000 customers' invoices of ten lines: < 60 s (from the size measured)",
        lambda f: f["billing_each_s"] * 10_000,
        lambda v: f"{v:.1f} s",
        lambda v: v < 60,
    ),
    Goal("  a preview, p99: < 100 ms", lambda f: f["preview_p99_s"], lambda v: f"{ms(v)} ms", lambda v: v < 0.1),
    Goal("  backtest: hundreds of customers/s", lambda f: f["backtest_per_s"], rate, lambda v: v >= 200),
)  # fmt: skip


def goals(figures: dict[str, float]) -> Table:
    """The goals of DESIGN.md, with what this run measured. A figure that was not measured is a dash, not a pass."""
    table = Table(
        "Goals",
        "The project's performance goals (two cores, load generator included) beside this run. Measured at other "
        "sizes or durations than the goal's (see the first table) a figure is an indication only.",
        ("goal", "measured", "met"),
    )
    for goal in GOALS:
        shown, met = "–", "not measured"
        with contextlib.suppress(KeyError, ZeroDivisionError):
            value = goal.measured(figures)
            shown, met = goal.shown(value), "yes" if goal.met(value) else "no"
        table.rows.append((goal.text, shown, met))
    return table
