"""Programs inside an image of buildah's storage, without a cluster: by runc, as a kubelet's are.

The root file system is the image's layers, mounted in a mount namespace that ends with the program:
nothing is left, however it ends.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.buildah import StoredImage
from cluster.processes import Identity

USER = 12345
"""Neither root nor the image's own: a cluster may give any."""

_MOUNT = """
set -e
mount -t overlay -o "ro,lowerdir=$1" overlay "$2"
shift 2
exec "$@"
"""
_NAMESPACES = ("unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child=KILL")


@dataclass(frozen=True)
class Container:
    """How programs of an image are run: only its working folder and /tmp can be written to.

    files: contents by their names, which the program finds in the folder /mnt. The network is the
    host's.
    """

    image: StoredImage
    user: int | None = USER
    """None: the image's own."""
    files: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *command: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run a command instead of the image's own entry point, to its end."""
        with self.prepared(command) as prepared:
            return subprocess.run(
                prepared, check=False, capture_output=True, text=True, timeout=timeout
            )

    @contextmanager
    def prepared(self, command: Sequence[str]) -> Iterator[list[str | Path]]:
        """The command that runs it on the host. Without arguments: the image's entry point."""
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            for name in ("rootfs", "given"):
                (folder / name).mkdir()
            for name, content in self.files.items():
                (folder / "given" / name).write_text(content)
            for path in (folder, *folder.rglob("*")):
                path.chmod(0o755 if path.is_dir() else 0o644)
            (folder / "config.json").write_text(json.dumps(self._config(folder, command)))
            runc: list[str | Path] = ["runc"]
            runc += ["--root", folder / "state", "run", "--bundle", folder, folder.name]
            yield _on_layers(self.image, folder / "rootfs", runc)

    def _config(self, folder: Path, command: Sequence[str]) -> dict[str, Any]:
        """Of https://github.com/opencontainers/runtime-spec, as restricted pods have it."""
        config = json.loads(self.image.config)["config"]
        user = int(config["User"].partition(":")[0]) if self.user is None else self.user
        writable = sorted({"/tmp", config["WorkingDir"]})
        environment = [*config["Env"], *(f"{name}={it}" for name, it in self.environment.items())]
        return {
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs", "readonly": True},
            "process": {
                "args": list(command) or config["Entrypoint"],
                "cwd": config["WorkingDir"],
                "env": environment,
                "user": {"uid": user, "gid": user},
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "mounts": [
                _mount("/proc", "proc"),
                _mount("/dev", "tmpfs", "nosuid", "mode=755", "size=65536k"),
                _mount("/dev/shm", "tmpfs", "nosuid", "nodev", "mode=1777"),
                *(_mount(path, "tmpfs", "nosuid", "nodev", "mode=1777") for path in writable),
                _mount("/mnt", "bind", "bind", "ro", source=str(folder / "given")),
            ],
            "linux": {
                "namespaces": [{"type": kind} for kind in ("mount", "pid", "ipc", "uts")],
                "maskedPaths": ["/proc/kcore", "/proc/keys"],
                "readonlyPaths": ["/proc/sys", "/proc/sysrq-trigger"],
            },
        }


def _mount(destination: str, kind: str, *options: str, source: str = "none") -> dict[str, Any]:
    return {"destination": destination, "type": kind, "source": source, "options": list(options)}


def container_of(process: subprocess.Popen[str]) -> Identity:
    """The process that hands signals on to the program, of the command that `prepared` gave."""
    pid = process.pid
    (child,) = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return Identity.of(int(child))


def run_on_root(
    image: StoredImage, root: Path, command: Sequence[str | Path]
) -> subprocess.CompletedProcess[str]:
    """Run a program of the host that finds the image's root file system in a folder."""
    return subprocess.run(
        _on_layers(image, root, command), check=False, capture_output=True, text=True
    )


def _on_layers(image: StoredImage, root: Path, command: Sequence[str | Path]) -> list[str | Path]:
    layers = ":".join(str(layer.folder) for layer in reversed(image.layers))
    return [*_NAMESPACES, "sh", "-c", _MOUNT, "sh", layers, root, *command]
