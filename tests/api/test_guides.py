"""Commands of the guides that a shell would run, as far as their text shows what the server will say."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GUIDES = [ROOT / "README.md", *sorted((ROOT / "docs" / "howto").glob("*.md"))]
_COMMAND = re.compile(r"curl(?:\\\n|[^\n])*")


@pytest.mark.parametrize("guide", GUIDES, ids=lambda guide: guide.stem)
def test_a_body_says_that_it_is_json(guide: Path) -> None:
    """curl's `-d` alone sends a form, which the API answers with 415."""
    wrong = [
        command
        for command in _COMMAND.findall(guide.read_text())
        if re.search(r"\s(-d|--data)\s", command) and "application/json" not in command
    ]
    assert wrong == []
