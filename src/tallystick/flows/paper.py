"""Templates of documents on paper: each begins with how figures are written (figures.typ)."""

from pathlib import Path

FIGURES = Path(__file__).with_name("figures.typ")


def source(template: Path) -> bytes:
    """The template as it is compiled."""
    return FIGURES.read_bytes() + template.read_bytes()
