"""The panels of a dashboard as Grafana would ask for them. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Doc = dict[str, Any]

LABEL_VALUES = re.compile(r"label_values\((?P<selector>.+), *(?P<label>\w+)\)")
VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


@dataclass(frozen=True)
class Panel:
    """A query of a panel, with its variables. instant: asked for at one moment."""

    title: str
    query: str
    instant: bool


def panels(dashboard: Doc) -> Iterator[Panel]:
    """Every query of every panel, in order."""
    for panel in dashboard["panels"]:
        for inner in panel.get("panels") or ():  # of a row that is folded
            yield from _queries(inner)
        yield from _queries(panel)


def _queries(panel: Doc) -> Iterator[Panel]:
    for target in panel.get("targets") or ():
        yield Panel(panel["title"], target["expr"], bool(target.get("instant")))


def substitute(text: str, values: Mapping[str, str]) -> str:
    """The text with its variables' values. Raises KeyError for one that nobody knows."""
    return VARIABLE.sub(lambda found: values[found[1] or found[2]], text)


def variables(
    dashboard: Doc, fixed: Mapping[str, str], ask: Callable[[str, str], list[str]]
) -> dict[str, str]:
    """A value for each variable: the fixed one, all values at once, or the first.

    ask: the values of a label among the series of a selector.
    """
    found = dict(fixed)
    for variable in (dashboard.get("templating") or {}).get("list") or ():
        if variable["type"] != "query":
            continue
        matched = LABEL_VALUES.fullmatch(str(variable["query"]))
        assert matched is not None, variable["query"]
        values = ask(matched["label"], substitute(matched["selector"], found))
        assert values, f"variable {variable['name']} has no values"
        if variable.get("includeAll"):
            found[variable["name"]] = variable["allValue"]
        elif found.get(variable["name"]) not in values:
            found[variable["name"]] = values[0]
    return found


def count_series(series: Iterable[Doc]) -> int:
    """How many have a number: one that is NaN all the time is shown as no data."""
    return sum(any(math.isfinite(float(value)) for _, value in one["values"]) for one in series)
