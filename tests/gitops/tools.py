"""Build the Go programs once, and ask them: `python -m gitops.tools`, with PYTHONPATH=tests."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cluster import places
from cluster.progress import say, step
from cluster.tools import MissingError, new_folder, one_at_a_time

FOLDER = Path(__file__).parent
NAMES = ("argo", "kstatus", "flux")

Doc = dict[str, Any]


def program(name: str) -> Path:
    """Where a program is once it is built."""
    made_of = [(FOLDER / name / file).read_bytes() for file in ("go.mod", "go.sum", "main.go")]
    return places.cache() / f"gitops-{name}-{places.digest(*made_of)}" / name


def build() -> None:
    """Build what is not in the cache. Raises MissingError."""
    with one_at_a_time("gitops"):
        for name in NAMES:
            if not program(name).exists():
                _build(name)


def _build(name: str) -> None:
    if shutil.which("go") is None:
        raise MissingError(f"Go is missing (https://go.dev/dl): {FOLDER / name} is written in it")
    environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
    with (
        step(f"building {name} for the tests of GitOps (once, minutes)"),
        new_folder(program(name).parent) as new,
    ):
        command = ["go", "build", "-ldflags", "-s -w", "-o", f"{new}/{name}", "."]
        subprocess.run(command, cwd=FOLDER / name, env=environment, check=True)


def ask(name: str, documents: Sequence[Doc], *arguments: str | Path) -> list[Any]:
    """What a program says of each document. Raises MissingError."""
    if not program(name).exists():
        raise MissingError(f"{name} is not here: `make gitops-tools` builds it (needs Go)")
    done = subprocess.run(
        [program(name), *arguments],
        input=json.dumps(list(documents)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"{name} {' '.join(map(str, arguments))}: {done.stderr}")
    answers: list[Any] = json.loads(done.stdout)
    assert len(answers) == len(documents)
    return answers


def main() -> int:
    """Build them all."""
    try:
        build()
    except MissingError as missing:
        say(f"gitops: {missing}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
