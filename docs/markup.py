"""Markdown of the generated pages."""

from __future__ import annotations

from collections.abc import Iterable

NONE = "-"


def cell(text: object) -> str:
    """Text that may stand in a table's cell."""
    return " ".join(str(text).split()).replace("|", "\\|")


def table(titles: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table; text may hold Markdown."""
    titles = list(titles)
    lines = [titles, ["---"] * len(titles), *([cell(entry) for entry in row] for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def code(value: object) -> str:
    """A value as inline code, spelt as in YAML."""
    if isinstance(value, bool):
        value = str(value).lower()
    return f"`{value}`" if value != "" else '`""`'
