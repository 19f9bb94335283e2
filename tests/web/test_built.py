"""What is built: how large it is, what it refers to; and the modules of the pages that compute."""

import gzip
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tallystick.api.web import DIRECTORY

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("built")]

WEB = Path(__file__).parents[2] / "web"
SCRIPT_BYTES_MAX = 200_000
"""Compressed: what a first visit may cost (issue: "first load < 200 KB compressed script")."""


def test_a_first_visit_is_light() -> None:
    scripts = list((DIRECTORY / "assets").glob("*.js"))
    assert sum(len(gzip.compress(path.read_bytes())) for path in scripts) < SCRIPT_BYTES_MAX


def test_the_page_has_nothing_the_policy_refuses() -> None:
    page = (DIRECTORY / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page)
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert all(source.startswith("/") for source in sources)


def test_figures_are_never_made_numbers() -> None:
    """Numbers are for pixels (decimal.ts), for times (time.ts), for rates of this page's own, and never for figures."""
    allowed = {"decimal.ts", "time.ts"}
    found = {
        f"{path.relative_to(WEB)}: {line.strip()}"
        for path in sorted((WEB / "src").rglob("*.ts*"))
        if path.name not in allowed
        for line in path.read_text().splitlines()
        if re.search(r"parseFloat|\bNumber\(|\.toFixed\(|toLocaleString", line)
    }
    known = (
        "ttl_seconds",
        "RECORDED.reduce",
        "now.recorded",
        "total += Number(value)",
        "TOP_DEFAULT",
        "value.toFixed(1)",
        "found[2]",
    )
    assert {line for line in found if not any(one in line for one in known)} == set()


def test_markup_is_never_set_as_markup() -> None:
    for path in (WEB / "src").rglob("*.ts*"):
        assert not re.search(
            r"dangerouslySetInnerHTML|innerHTML|insertAdjacentHTML|document\.write", path.read_text()
        ), path


def test_the_modules_that_compute() -> None:
    npm = shutil.which("npm")
    assert npm is not None
    run = subprocess.run(
        [npm, "test", "--silent"], cwd=WEB, capture_output=True, text=True, check=False, timeout=120
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
