"""What an image says of its origin: the arguments of the Dockerfiles' labels."""

from __future__ import annotations

import os
import subprocess
import tomllib
from collections.abc import Sequence

from cluster import places

UNKNOWN = {"REVISION": "unknown", "CREATED": "1980-01-01T00:00:00Z"}
"""Of a checkout that git does not know."""


def arguments(inputs: Sequence[str]) -> dict[str, str]:
    """VERSION, REVISION, CREATED and SOURCE of what is made of these files of the checkout.

    The revision is the last commit that changed one of them, so that no other commit makes another
    image; it ends in -dirty if they have changed since. The date is that commit's.
    SOURCE is taken from the environment's IMAGE_SOURCE: a checkout cannot know its public address.
    """
    project = tomllib.loads((places.ROOT / "pyproject.toml").read_text())["project"]
    return {
        "VERSION": str(project["version"]),
        "SOURCE": os.environ.get("IMAGE_SOURCE", ""),
        **_commit(inputs),
    }


def _commit(inputs: Sequence[str]) -> dict[str, str]:
    pattern = "--format=%H %cd"
    date = "--date=format-local:%Y-%m-%dT%H:%M:%SZ"
    last = _git("log", "-1", pattern, date, "--", *inputs)
    if not last:
        return UNKNOWN
    revision, created = last.split()
    dirty = "-dirty" if _git("status", "--porcelain", "--", *inputs) else ""
    return {"REVISION": revision + dirty, "CREATED": created}


def _git(*command: str) -> str:
    """What git says; nothing where it is missing or knows no checkout here."""
    try:
        done = subprocess.run(
            ["git", "-C", places.ROOT, *command],
            check=False,
            capture_output=True,
            text=True,
            env={**os.environ, "TZ": "UTC"},
        )
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
