"""The systems side by side: tables that need what several parts have found."""

from bench.parts import Bench
from bench.questions import QUESTIONS
from bench.report import Table, ms, rate, ratio


def beside(bench: Bench) -> list[Table]:
    """What needs several parts: ingest and questions of all systems. A part that has not run leaves dashes."""
    figures = bench.figures
    ours = figures.get("same_rows")
    stores = Table(
        "Ingest beside other stores",
        "The same rows (the first ones of the dataset) on this machine in this run. Tallystick: through the API, until "
        "recorded, HTTP and the sending process included. Rows that warm up or choose a way are not timed. SQLite (WAL, synchronous=FULL, INSERT OR IGNORE) and PostgreSQL (default durability, "
        "ON CONFLICT DO NOTHING, the fastest of COPY or multi-row INSERT on 1 or 4 connections): one transaction for "
        "1,000 rows with a unique key on (tenant, source, id) and the indexes the questions need, rows prepared before "
        "the clock, no HTTP. Bare chDB: Arrow batches into the same table of facts, synced; no identity, no readings.",
        ("store", "events/s", "Tallystick is", "bytes an event"),
    )
    stores.rows.append(
        ("Tallystick, batches of 1,000", rate(ours), "", _bytes(figures.get("bytes_per_event")))
    )
    for name, key, size in (
        ("SQLite, batches of 1,000", "sqlite_ingest", "sqlite_bytes"),
        ("PostgreSQL, batches of 1,000", "postgres_ingest", "postgres_bytes"),
        ("bare chDB, batches of 10,000", "bare_chdb_10000", ""),
        ("bare chDB, batches of 100,000", "bare_chdb_100000", ""),
    ):
        stores.rows.append(
            (name, rate(figures.get(key)), ratio(ours, figures.get(key)), _bytes(figures.get(size)))
        )
    found = (
        [stores]
        if len(figures.keys() & {"same_rows", "sqlite_ingest", "postgres_ingest", "bare_chdb"}) > 1
        else []
    )

    if bench.questions:
        found.append(_question_table(bench))
    return found


def _question_table(bench: Bench) -> Table:
    systems = list(bench.questions)
    ours = bench.questions.get("Tallystick")
    table = Table(
        f"Questions, {bench.sizes.events:,} events",
        "Milliseconds, p50 of the warm runs (in brackets the first asking, the process started anew and the files "
        "dropped from the page cache as far as the system follows that advice). Tallystick over HTTP with JSON, the "
        "others by their drivers. All answers are equal, row by row, to figures calculated from the rows with NumPy. "
        "×: how many times as long as Tallystick.",
        ("question", *systems),
    )
    for question in QUESTIONS:
        row = [question.title]
        for system in systems:
            timed = bench.questions[system].get(question.name)
            if timed is None:
                row.append("–")
                continue
            text = f"{ms(timed.p50_s)} ({ms(timed.cold_s)})"
            if ours is not None and question.name in ours and system != "Tallystick":
                text += f", {ratio(timed.p50_s, ours[question.name].p50_s)}"
            row.append(text)
        table.rows.append(row)
    sums = {
        system: sum(timed.p50_s for timed in asked.values())
        for system, asked in bench.questions.items()
        if len(asked) == len(QUESTIONS)
    }
    table.rows.append(
        (
            "all five",
            *(
                "–" if system not in sums
                else ms(sums[system]) + ("" if system == "Tallystick" else f", {ratio(sums[system], sums.get('Tallystick'))}")
                for system in systems
            ),
        )
    )  # fmt: skip
    if "Tallystick" in sums:
        bench.figures["mix_s"] = sums["Tallystick"]
    if "PostgreSQL" in sums:
        bench.figures["postgres_mix_s"] = sums["PostgreSQL"]
    if (
        ours
        and bench.sizes.events_more
        and (more := bench.questions.get(f"Tallystick, {bench.sizes.events_more:,}"))
    ):
        bench.figures["growth"] = max(
            more[name].p50_s / ours[name].p50_s for name in ("customer_year", "top") if name in more
        )
    # The goals speak of the largest dataset asked.
    largest = next((bench.questions[name] for name in reversed(systems) if name.startswith("Tallystick")), {})
    for name, timed in largest.items():
        bench.figures[f"question_{name}"] = timed.p50_s
    return table


def _bytes(value: float | None) -> str:
    return f"{value:.1f}" if value is not None else "–"
