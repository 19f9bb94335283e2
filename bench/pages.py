"""How long people wait at the explorer: `python -m bench.pages --directory DIR` over a directory that `bench.fill` has filled.

A real Chromium asks the real server. First load: an empty cache, from the address to a drawn chart. Interactions: from the
change of a control to the drawn answer of it (four requests or more), each asked for the first time. Prints JSON.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from bench.report import percentile
from bench.server import KEY, METERS, Server

_YEAR = "from=2025-01-01T00:00:00.000Z&to=2026-01-01T00:00:00.000Z&zone=UTC"
_DRAWN = "() => document.querySelector('.chart svg') && !document.querySelector('[aria-busy=true], .loading')"
_CHANGE = """async ([label, value]) => {
  const named = [...document.querySelectorAll('.controls label')].find((one) => one.textContent === label);
  const control = document.getElementById(named.htmlFor);
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  const busy = () => document.querySelector('main .answered[aria-busy=true], main .loading') !== null;
  const started = performance.now();
  control.value = value;
  control.dispatchEvent(new Event('change', { bubbles: true }));
  while (!busy()) { if (performance.now() - started > 2000) return null; await frame(); }
  while (busy()) { if (performance.now() - started > 30000) return null; await frame(); }
  await frame();
  return performance.now() - started;
}"""
CHANGES = (
    ("Group by", "model"),
    ("Group by", "region"),
    ("Group by", "customer"),
    ("Top", "3"),
    ("Group by", "model"),
    ("And by", "region"),
    ("Window", "day"),
    ("Group by", "region"),
    ("Window", "month"),
    ("Group by", "customer"),
    ("Top", "10"),
    ("Group by", "model"),
)
"""(control, value); of these, the ones of grouping are counted apart."""
RANGES = (
    ("2025-01-01", "2026-01-01"),
    ("2025-02-01", "2025-12-01"),
    ("2025-04-01", "2025-07-01"),
    ("2025-06-01", "2025-07-01"),
)


def first_load(browser: Browser, url: str) -> tuple[float, float]:
    """Seconds until a chart of a year is drawn, and the kilobytes of script that came."""
    page, received = _opened(browser)
    started = time.perf_counter()
    page.goto(f"{url}/explore?meter=bench_tokens&{_YEAR}")
    page.wait_for_function(_DRAWN)
    took_s = time.perf_counter() - started
    page.context.close()
    return took_s, sum(received) / 1000


def _opened(browser: Browser) -> tuple[Page, list[int]]:
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.add_init_script(f"sessionStorage.setItem('tallystick-key', {json.dumps(KEY)})")
    received: list[int] = []

    def note(response: Any) -> None:
        if response.url.endswith(".js"):
            received.append(len(response.body()))

    page.on("response", note)
    return page, received


def interactions(browser: Browser, url: str) -> dict[str, list[float]]:
    """Milliseconds of every change, those of grouping and all the others."""
    found: dict[str, list[float]] = {"grouping": [], "other": []}
    page, _ = _opened(browser)
    for begin, end in RANGES:
        page.goto(
            f"{url}/explore?meter=bench_tokens&from={begin}T00:00:00.000Z&to={end}T00:00:00.000Z&zone=UTC"
        )
        page.wait_for_function(_DRAWN)
        for label, value in CHANGES:
            took_ms = page.evaluate(_CHANGE, [label, value])
            if took_ms is not None:
                found["grouping" if label in ("Group by", "And by") else "other"].append(took_ms)
            page.wait_for_timeout(100)
    page.context.close()
    return found


def measured(directory: Path, *, loads: int) -> dict[str, Any]:
    """Everything, of a server that is started for it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    server = Server(directory)
    try:
        server.wait_until_ready()
        for meter in METERS:  # `bench.fill` makes none
            if server.http.get(f"/v1/meters/{meter['key']}").status_code == 404:
                server.http.post("/v1/meters", json=meter).raise_for_status()
        server.wait_until_rolled_up(idle_s=21.0, seconds_max=300)
        with sync_playwright() as playwright:
            arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
            browser = playwright.chromium.launch(executable_path=program, args=arguments)
            url = str(server.http.base_url).rstrip("/")
            load_s = [first_load(browser, url) for _ in range(loads)]
            before_s = server.cpu_s()
            changed = interactions(browser, url)
            spent_s = server.cpu_s() - before_s
            browser.close()
        return {
            "events": server.counted().recorded,
            "first_chart_s": [round(one, 3) for one, _ in load_s],
            "script_kb": round(load_s[0][1]),
            **{
                name: {
                    "count": len(values),
                    "p50_ms": round(percentile(values, 0.5)),
                    "p95_ms": round(percentile(values, 0.95)),
                    "slowest_ms": round(max(values)),
                }
                for name, values in changed.items()
            },
            "server_cpu_ms_each": round(1000 * spent_s / max(sum(map(len, changed.values())), 1)),
            "load_average": [round(one, 1) for one in os.getloadavg()],
        }
    finally:
        server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--loads", type=int, default=5)
    given = parser.parse_args()
    json.dump(measured(given.directory, loads=given.loads), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
