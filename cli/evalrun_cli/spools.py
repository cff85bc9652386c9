"""What killed runs left in this machine's spool, in which answers wait for their store."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path


def leftovers(root: Path, now: datetime, age: timedelta) -> list[Path]:
    """Files that were opened and never written to, and folders with nothing in them.

    root: holds a folder for each journal. Answers are no leftovers, however old: the next run of
    theirs on this machine stores them.
    """
    found = [path for path in root.glob("*/*.opening") if _age(path, now) > age]
    found += [
        folder
        for folder in root.glob("*")
        if folder.is_dir() and not any(folder.iterdir()) and _age(folder, now) > age
    ]
    return sorted(found)


def waiting(root: Path) -> list[Path]:
    """Files of answers that are not stored yet."""
    return sorted(root.glob("*/*.jsonl"))


def remove(path: Path) -> None:
    """Remove a leftover; one that is in use by now stays."""
    try:
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink()
    except OSError:  # it is gone, or no longer empty
        return


def _age(path: Path, now: datetime) -> timedelta:
    try:
        return now - datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return timedelta(0)
