"""The dashboards as the files that the chart ships."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from dashboards import fleet, quality, run

FOLDER: Final = Path(__file__).parents[1] / "lmms-eval-operator" / "files" / "dashboards"


def _text(build: Callable[[], Dashboard]) -> str:
    return JSONEncoder(sort_keys=True, indent=2).encode(build().build()) + "\n"


TEXTS: Final[dict[str, Callable[[], str]]] = {
    "fleet": partial(_text, fleet.build),
    "run": partial(_text, run.build),
    "quality": partial(_text, quality.build),
}
"""How each file is made, by its name."""


def stale(folder: Path = FOLDER) -> list[str]:
    """The files that are missing or not as they should be."""
    return [
        name
        for name, text in TEXTS.items()
        if not (folder / f"{name}.json").exists() or (folder / f"{name}.json").read_text() != text()
    ]
