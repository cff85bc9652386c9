"""Debian's buildah, with a storage of its own in the cache."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import places, tools

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
DOWNLOADS = "/media"
"""Where a build finds uv's cache: a folder that the base image has, so that none is left behind."""


@dataclass(frozen=True)
class StoredLayer:
    """A layer of an image: its name by its content, the folder that holds it, its size as a tar.

    The folder is an overlay file system's upper folder, as containerd's snapshots are.
    """

    diff_id: str
    folder: Path
    size: int


@dataclass(frozen=True)
class StoredImage:
    """An image of the storage; config: its bytes, whose sha256 is the image's id."""

    id: str
    config: bytes
    layers: Sequence[StoredLayer]


class Buildah:
    """Builds images, and tells where their layers are."""

    def __init__(self, root: Path) -> None:
        """root: folder of its storage."""
        self.root = root
        self.root.mkdir(parents=True, exist_ok=True)
        # What is mounted is remembered by names that another storage may give as well.
        run = f"lmms-eval-operator-buildah-{places.digest(str(root).encode())}"
        self.run_root = Path("/run") / run

    def run(self, *arguments: str | Path, quiet: bool = True) -> None:
        """Run the command. Raises MissingError with what it wrote, if it fails."""
        done = subprocess.run(
            [
                *("buildah", "--root", self.root, "--runroot", self.run_root),
                *("--storage-driver", "overlay", *arguments),
            ],
            check=False,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if done.returncode:
            raise tools.MissingError(f"buildah {arguments[0]} failed:\n{done.stdout or ''}")

    def build(
        self,
        context: Path,
        dockerfile: Path,
        name: str,
        target: str | None,
        arguments: Mapping[str, str],
        timestamp: int,
        labels: Mapping[str, str],
    ) -> None:
        """Build a folder's image, or take from the storage what has been built of the same.

        timestamp: date of the image, its layers and files. What this machine adds (certificates,
        downloads) adds the same to the image's history on every machine.
        """
        command: list[str | Path] = ["build", "--layers", "--pull-never", "--network", "host"]
        command += ["--file", dockerfile, "--tag", name, "--timestamp", str(timestamp)]
        if target:
            command += ["--target", target]
        given = dict(arguments)
        if CERTIFICATES.exists():  # the index may be behind a proxy that this machine trusts
            command += ["--volume", f"{CERTIFICATES.parent}:{CERTIFICATES.parent}:ro"]
            given["SSL_CERT_FILE"] = str(CERTIFICATES)
        # `make install` has downloaded most of it already.
        places.uv_cache().mkdir(parents=True, exist_ok=True)
        command += ["--volume", f"{places.uv_cache()}:{DOWNLOADS}"]
        given["UV_CACHE_DIR"] = DOWNLOADS
        for argument, value in sorted(given.items()):
            command += ["--build-arg", f"{argument}={value}"]
        for label, value in sorted(labels.items()):
            command += ["--label", f"{label}={value}"]
        self.run(*command, context)

    def remove(self) -> None:
        """Remove the storage with all that is in it."""
        for folder in (self.root, self.run_root):
            shutil.rmtree(folder, ignore_errors=True)

    def find(self, name: str) -> StoredImage | None:
        """An image by its name."""
        for image in self._read("overlay-images/images.json"):
            if name in (image.get("names") or []):
                identity = str(image["id"])
                return StoredImage(identity, self._config(identity), self._layers(image["layer"]))
        return None

    def _read(self, name: str) -> list[dict[str, Any]]:
        file = self.root / name
        found: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return found

    def _config(self, image: str) -> bytes:
        name = base64.b64encode(f"sha256:{image}".encode()).decode()
        return (self.root / "overlay-images" / image / f"={name}").read_bytes()

    def _layers(self, top: str) -> list[StoredLayer]:
        by_id = {layer["id"]: layer for layer in self._read("overlay-layers/layers.json")}
        found: list[StoredLayer] = []
        identity: str | None = top
        while identity:
            layer = by_id[identity]
            folder = self.root / "overlay" / identity / "diff"
            found.append(StoredLayer(layer["diff-digest"], folder, layer["diff-size"]))
            identity = layer.get("parent")
        return found[::-1]
