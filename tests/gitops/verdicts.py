"""The table of verdicts in docs/guides/gitops.md, as data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guides" / "gitops.md"
PATCH = ROOT / "gitops" / "argocd" / "argocd-cm.yaml"
FLUX = ROOT / "examples" / "gitops" / "flux" / "evaluations.yaml"
APPLICATIONS = ROOT / "examples" / "gitops" / "argocd" / "applicationset.yaml"
TITLES = ("A run that", "phase", "Argo CD", "kstatus", "Flux")
HEAD = re.escape(f"| {' | '.join(TITLES)} |")


class Verdicts(NamedTuple):
    """Of one state: the phase that the run says, and a word of each tool."""

    phase: str
    argo: str
    kstatus: str
    flux: str


def documented() -> dict[str, Verdicts]:
    """What the page says of each state, by its name."""
    (table,) = re.findall(rf"^{HEAD}\n\|.*\n((?:\|.*\n)+)", PAGE.read_text(), re.MULTILINE)
    found = {}
    for line in table.splitlines():
        name, *words = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        found[name] = Verdicts(*("" if word == "-" else word for word in words))
    return found
