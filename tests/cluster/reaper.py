"""Clears a cluster's ledger when its owner has ended without doing so: `reaper.py LEDGER`."""

from __future__ import annotations

import os
import select
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from cluster.ledger import Ledger


def main(file: Path) -> None:
    """Wait for the owner's end, and clear what it has left."""
    ledger = Ledger.read(file)
    if ledger is None:
        return
    try:
        owner = os.pidfd_open(ledger.owner.pid)
    except ProcessLookupError:
        pass
    else:
        if ledger.owner.is_alive():
            select.select([owner], [], [])
    ledger.clear()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
