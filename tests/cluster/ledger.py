"""What a cluster has made on this machine, written down so that all of it can be cleared away.

A ledger is a file of JSON lines in the state folder, written before or right after each thing is
made. Its owner clears it when it ends. If the owner was killed, its reaper does (`reaper.py`), and
if that is gone too, the next cluster to start, or `make cluster-down`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

from cluster import places
from cluster.processes import Identity, boot_id


class Ledger:
    """The things of one cluster."""

    def __init__(self, file: Path, owner: Identity, purpose: str) -> None:
        """An existing ledger; `new` begins one."""
        self.file = file
        self.owner = owner
        self.purpose = purpose

    @classmethod
    def new(cls, purpose: str) -> Ledger:
        """Begin a ledger that this process owns, and a reaper that outlives it."""
        folder = _folder()
        folder.mkdir(parents=True, exist_ok=True)
        owner = Identity.of(os.getpid())
        ledger = cls(folder / f"{uuid.uuid4().hex[:12]}.jsonl", owner, purpose)
        first = {"owner": owner.pid, "started": owner.started, "boot": owner.boot}
        new = ledger.file.with_suffix(".new")  # nobody is to read a ledger without an owner
        new.write_text(json.dumps({**first, "purpose": purpose}) + "\n")
        new.rename(ledger.file)
        ledger._start_reaper()
        return ledger

    @classmethod
    def read(cls, file: Path) -> Ledger | None:
        """A ledger in the state folder; none if it is gone or was never begun."""
        try:
            with file.open() as lines:
                first = json.loads(lines.readline())
            return cls(file, _identity(first["owner"], first), first["purpose"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError):  # nobody can say whose it was
            file.unlink(missing_ok=True)
            return None

    def process(self, name: str, identity: Identity) -> None:
        """Remember a process."""
        written = {"pid": identity.pid, "started": identity.started, "boot": identity.boot}
        self._write(process=name, **written)

    def bridge(self, name: str) -> None:
        """Remember a network bridge that is about to be made."""
        self._write(bridge=name)

    def cgroup(self, folder: Path) -> None:
        """Remember a control group that is about to be made."""
        self._write(cgroup=str(folder))

    def folder(self, folder: Path) -> None:
        """Remember a folder that is about to be filled."""
        self._write(folder=str(folder))

    def made(self, folder: Path) -> list[Path]:
        """Make a folder and those above it where they are missing, to be removed if empty.

        Those that were missing.
        """
        missing = [path for path in (folder, *folder.parents) if not path.exists()][::-1]
        for path in missing:
            self._write(made=str(path))
            path.mkdir()
        return missing

    def setting(self, file: Path, value: str) -> None:
        """Remember a kernel setting as it is now, to be set so again."""
        self._write(setting=str(file), value=value)

    def _write(self, **entry: Any) -> None:
        with self.file.open("a") as lines:
            lines.write(json.dumps(entry) + "\n")

    def _start_reaper(self) -> None:
        script = Path(__file__).with_name("reaper.py")
        process = subprocess.Popen(
            [sys.executable, "-I", script, self.file],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        process.returncode = 0  # it is not waited for, which subprocess would warn about

    def clear(self) -> list[str]:
        """Undo every entry, newest first, and then the ledger itself; says what it found."""
        try:
            lines = self.file.open()
        except FileNotFoundError:
            return []
        with lines:
            fcntl.flock(lines, fcntl.LOCK_EX)  # its reaper and another cluster may both be at it
            if not self.file.exists():
                return []
            entries = [entry for line in lines if (entry := _parsed(line))]
            found = [undone for entry in reversed(entries) if (undone := _undo(entry))]
            self.file.unlink()
        return found


def _folder() -> Path:
    return places.state() / "ledgers"


def ledgers() -> list[Ledger]:
    """Of all clusters on this machine, of this user."""
    return [found for file in _folder().glob("*.jsonl") if (found := Ledger.read(file))]


def clear_dead() -> list[str]:
    """Clear what dead owners left; says what it found."""
    found = []
    for ledger in ledgers():
        if not ledger.owner.is_alive():
            found += ledger.clear()
    return found


def _parsed(line: str) -> dict[str, Any]:
    """A line's entry; nothing for one that was torn by a full disk or a kill."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _identity(pid: int, entry: dict[str, Any]) -> Identity:
    return Identity(pid, entry["started"], entry.get("boot") or boot_id())


def _undo(entry: dict[str, Any]) -> str | None:
    """Undo one entry; what it was, if it was still there."""
    if "process" in entry:
        identity = _identity(entry["pid"], entry)
        if not identity.is_alive():
            return None
        identity.send(signal.SIGKILL)  # in an order that no graceful end would survive
        identity.wait(5)
        return f"process {entry['process']} ({identity.pid})"
    if "setting" in entry:
        file = Path(entry["setting"])
        if file.read_text() != entry["value"]:
            file.write_text(entry["value"])
        return None
    if "made" in entry:
        with suppress(OSError):  # something else has begun to use it
            Path(entry["made"]).rmdir()
        return None
    if "bridge" in entry:
        return f"bridge {entry['bridge']}" if remove_bridge(entry["bridge"]) else None
    if "cgroup" in entry:
        return f"control group {entry['cgroup']}" if remove_cgroup(Path(entry["cgroup"])) else None
    if "folder" in entry and Path(entry["folder"]).exists():
        shutil.rmtree(entry["folder"], ignore_errors=True)
        return f"folder {entry['folder']}"
    return None


def remove_bridge(name: str) -> bool:
    """Remove a network bridge; whether there was one."""
    command = ["ip", "link", "delete", name]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def remove_cgroup(folder: Path) -> bool:
    """Remove a control group and those below it; whether there was one."""
    if not folder.exists():
        return False
    deadline = time.monotonic() + 5
    while folder.exists() and time.monotonic() < deadline:  # its processes have yet to be reaped
        for parent, _, _ in os.walk(folder, topdown=False):
            with suppress(OSError):
                Path(parent).rmdir()
        time.sleep(0.02)
    return True
