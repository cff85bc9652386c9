"""inventory.py ROOT: what is installed below a root file system, as JSON on standard output.

Run as a program of its own, which finds an image's files mounted there.
"""

from __future__ import annotations

import json
import sys
from importlib import metadata
from pathlib import Path

DISTRIBUTIONS = ("opt/evalrun/lib/python3*/site-packages", "usr/local/lib/python3*/site-packages")
"""Where Python's are: our own, and those that the base may bring beside Debian's."""


TEXTS = ("summary", "license", "license_expression")
"""What is taken over from a distribution's metadata as it is there."""


def main(root: Path) -> None:
    """Print it."""
    places = [str(found) for pattern in DISTRIBUTIONS for found in sorted(root.glob(pattern))]
    found = [
        {
            "name": it.metadata["Name"],
            "version": it.version,
            **{key: it.metadata.json.get(key) for key in TEXTS},
            "classifiers": it.metadata.get_all("Classifier") or [],
            "requires": it.requires or [],
        }
        for it in metadata.distributions(path=places)
    ]
    texts = {name: root / path for name, path in FILES.items()}
    kept = {name: file.read_text() for name, file in texts.items() if file.exists()}
    print(json.dumps({"distributions": found, **kept}))


FILES = {"dpkg": "var/lib/dpkg/status", "release": "etc/os-release"}
"""What Debian's package manager and the system say of themselves."""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
