"""Processes of ours: started, recognised again later, and ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path


def boot_id() -> str:
    """What no other start of this machine is called."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@dataclass(frozen=True)
class Identity:
    """A process as nobody else can be: its id, and when it began (clock ticks after a boot)."""

    pid: int
    started: int
    boot: str = field(default_factory=boot_id)

    @classmethod
    def of(cls, pid: int) -> Identity:
        """Raises ProcessLookupError when it has ended."""
        found = _stat(pid)
        if found is None:
            raise ProcessLookupError(pid)
        return cls(pid, found[1])

    def is_alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        found = _stat(self.pid) if self.boot == boot_id() else None
        return found is not None and found[0] not in "ZX" and found[1] == self.started

    def send(self, number: signal.Signals) -> None:
        """Send a signal, if it is still this process."""
        if self.is_alive():
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                return

    def end(self, patience: float = 10) -> None:
        """Ask it to end, and after so many seconds make it."""
        self.send(signal.SIGTERM)
        if not self.wait(patience):
            self.send(signal.SIGKILL)
            self.wait(5)

    def wait(self, seconds: float) -> bool:
        """Wait for its end; whether it has ended."""
        deadline = time.monotonic() + seconds
        while self.is_alive():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.02)
        return True


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time, from proc_pid_stat(5); the name before them may hold anything."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return fields[0], int(fields[19])


def without_proxy() -> dict[str, str]:
    """This process' environment without a proxy, which could reach nothing on this machine."""
    names = {"http_proxy", "https_proxy", "all_proxy"}
    return {name: value for name, value in os.environ.items() if name.lower() not in names}


class DiedError(Exception):
    """A process ended while it was needed; shows the end of its log."""


@dataclass(frozen=True)
class Child:
    """A process that this one started, with its own session: Ctrl-C does not reach it."""

    name: str
    log: Path
    process: subprocess.Popen[bytes]
    identity: Identity

    @classmethod
    def start(
        cls,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
    ) -> Child:
        """Start it; what it writes goes to `log`."""
        with log.open("ab") as target:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=target,
                stderr=target,
                cwd=log.parent,
                env={**without_proxy(), **(environment or {})},
                start_new_session=True,
            )
        return cls(name, log, process, Identity.of(process.pid))

    def check(self) -> None:
        """Raises DiedError when it has ended."""
        if self.process.poll() is not None:
            raise DiedError(
                f"{self.name} ended with {self.process.returncode}:\n{self.last_words()}"
            )

    def last_words(self, lines: int = 15) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def end(self, patience: float = 10) -> None:
        """End it, and wait until it has."""
        if self.process.poll() is None:
            self.identity.end(patience)
        self.process.wait(5)
