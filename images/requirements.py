"""`requirements.py FOLDER EXTRA`: the pinned requirements that pyproject.toml names for an extra.

What these require in turn is pinned and hashed by constraints.txt. An image's layer of dependencies
is made of this output, so it is not made anew when anything else of pyproject.toml changes.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path


def main(folder: Path, extra: str) -> None:
    """Print the entries of constraints.txt for the project's own requirements and the extra's."""
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    wanted = {_name(line) for line in project["dependencies"]}
    wanted |= {_name(line) for line in project["optional-dependencies"][extra]}
    entries = re.split(r"\n(?=\S)", (folder / "constraints.txt").read_text().rstrip())
    for entry in entries:
        if not entry.startswith("#") and _name(entry) in wanted:
            print(entry)  # noqa: T201 - its output is its purpose


def _name(requirement: str) -> str:
    """Normalised as in https://packaging.python.org/en/latest/specifications/name-normalization/."""
    found = re.match(r"[\w.-]+", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
