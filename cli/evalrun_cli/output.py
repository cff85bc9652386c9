"""What commands print: one document on stdout, all that is not the answer on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

JSON_KEY = "evalrun.document"
"""Key in the click context's meta: which form of document the caller wants instead of tables."""


class Format(StrEnum):
    """Forms of a command's answer."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


class WideFormat(StrEnum):
    """Forms of a listing."""

    TABLE = "table"
    WIDE = "wide"
    JSON = "json"
    YAML = "yaml"


WIDE_COLUMNS = 1000
"""Wide listings are as wide as they need to be, for grep and for terminals that scroll."""


def listing_width(*, wide: bool) -> int | None:
    """How wide a listing may be; None where nothing limits it."""
    return None if wide or not sys.stdout.isatty() else answer().width


def answer(*, wide: bool = False) -> Console:
    """The console for a command's answer."""
    return Console(highlight=False, width=WIDE_COLUMNS if wide else None)


def aside() -> Console:
    """The console for progress, notes and errors."""
    return Console(stderr=True, highlight=False)


def clock(seconds: float) -> str:
    """A duration as 0:07, 12:34 or 1:02:03."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def print_document(document: Mapping[str, Any] | list[Any], form: str) -> None:
    """Write a document as JSON or YAML to stdout.

    Its texts come from others: on a terminal, control characters and marks that turn the direction
    of writing are escaped, with everything else that is not ASCII.
    """
    escaped = sys.stdout.isatty()
    if form == Format.JSON:
        text = json.dumps(document, indent=2, ensure_ascii=escaped)
    else:
        import yaml

        text = yaml.safe_dump(document, sort_keys=False, allow_unicode=not escaped).rstrip()
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def is_document(form: str) -> bool:
    """Whether a form is for programs."""
    return form in (Format.JSON, Format.YAML)


def plain_table() -> Table:
    """A table without lines, as kubectl draws them."""
    return Table(header_style="bold", box=None, padding=(0, 2, 0, 0))


def print_path(console: Console, label: str, path: str) -> None:
    """A label and a path or address, which is never wrapped: it is there to be copied."""
    line = Text.assemble((f"{label:<10}", "dim"), path)
    console.print(line, soft_wrap=True)
