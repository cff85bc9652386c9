"""Ask the tools about a run in every state, and hold it against the docs: `make gitops-check`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from cluster.progress import say
from cluster.tools import MissingError
from gitops import drift, tools
from gitops.documents import Row, rows
from gitops.verdicts import APPLICATIONS, FLUX, PATCH, TITLES, Verdicts, documented


def ask(found: Sequence[Row]) -> tuple[list[Verdicts], list[str]]:
    """Every tool's word on each state, and Argo CD's message."""
    documents = [row.document for row in found]
    argo = tools.ask("argo", documents, "health", PATCH)
    kstatus = tools.ask("kstatus", documents)
    flux = tools.ask("flux", documents, FLUX)
    words = [
        Verdicts(row.phase, a["status"], k["status"], f["status"])
        for row, a, k, f in zip(found, argo, kstatus, flux, strict=True)
    ]
    return words, [answer["message"] for answer in argo]


def wrong_actions(found: Sequence[Row]) -> list[str]:
    """What is wrong with Argo CD's actions: which may be chosen, and what they change."""
    faults = []
    answers = tools.ask("argo", [row.document for row in found], "actions", PATCH)
    for row, answer in zip(found, answers, strict=True):
        spec, status = row.document["spec"], row.document.get("status") or {}
        wanted = {}
        if row.document["kind"] == "EvaluationRun" and not status.get("completionTime"):
            suspend = not spec.get("suspend", False)
            changed = {**row.document, "spec": {**spec, "suspend": suspend}}
            wanted = {"suspend" if suspend else "resume": changed}
        if answer != wanted:
            faults.append(f"{row.name}: actions {sorted(answer)}, expected {sorted(wanted)}")
    return faults


def main() -> int:
    """Print the table; 1 if it is not the documented one."""
    found = list(rows())
    try:
        words, messages = ask(found)
        faults = wrong_actions(found)
        (runs,) = tools.ask("argo", [{}], "applicationset", APPLICATIONS)
        differing = drift.differing()
    except MissingError as missing:
        say(f"gitops: {missing}")
        return 1
    width = max(len(row.name) for row in found)
    head = (*TITLES[1:], "Argo CD's message")
    print(f"{TITLES[0]:{width}}  " + "  ".join(f"{title:11}" for title in head))
    expected = documented()
    for row, said, message in zip(found, words, messages, strict=True):
        cells = (word or "-" for word in said)
        print(f"{row.name:{width}}  " + "  ".join(f"{cell:11}" for cell in cells), message[:70])
        if expected.get(row.name) != said:
            faults.append(f"{row.name}: the docs say {expected.get(row.name)}")
    unplayed = expected.keys() - {row.name for row in found}
    faults += [f"{name}: nothing is in this state" for name in unplayed]
    print(f"ApplicationSet: {runs['kind']} {runs['name']}, read strictly by Argo CD's own types")
    for name, (differs, wanted) in differing.items():
        seen = "a difference" if differs else "no difference"
        print(f"without server-side diff Argo CD sees {seen}: {name}")
        if differs != wanted:
            faults.append(f"{name}: that is not what the docs say")
    print(f"{len(found)} states, 3 tools, actions in each: {len(faults)} differ from the docs")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
