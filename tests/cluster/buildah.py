"""Debian's buildah, with a storage of its own in the cache."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import places, tools

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class StoredLayer:
    """A layer of an image: what it is called by its content, and the folder that holds it.

    The folder is an overlay file system's upper folder, as containerd's snapshots are.
    """

    diff_id: str
    folder: Path


@dataclass(frozen=True)
class StoredImage:
    """An image of the storage; config: its bytes, whose sha256 is the image's id."""

    id: str
    config: bytes
    layers: Sequence[StoredLayer]


class Buildah:
    """Builds images, and tells where their layers are."""

    def __init__(self) -> None:
        self._root = places.cache() / "buildah"
        self._root.mkdir(parents=True, exist_ok=True)

    def run(self, *arguments: str | Path, quiet: bool = True) -> None:
        """Run the command. Raises MissingError with what it wrote, if it fails."""
        done = subprocess.run(
            [
                *("buildah", "--root", self._root, "--runroot", "/run/lmms-eval-operator-buildah"),
                *("--storage-driver", "overlay", *arguments),
            ],
            check=False,
            text=True,
            stdout=subprocess.PIPE if quiet else None,
            stderr=subprocess.STDOUT if quiet else None,
        )
        if done.returncode:
            raise tools.MissingError(f"buildah {arguments[0]} failed:\n{done.stdout or ''}")

    def build(self, dockerfile: Path, name: str, target: str | None = None) -> None:
        """Build from the checkout, or take from the storage what has been built of the same."""
        command: list[str | Path] = ["build", "--layers", "--pull-never", "--network", "host"]
        command += ["--file", dockerfile, "--tag", name]
        if target:
            command += ["--target", target]
        if CERTIFICATES.exists():  # the index may be behind a proxy that this machine trusts
            command += ["--volume", f"{CERTIFICATES.parent}:{CERTIFICATES.parent}:ro"]
            command += ["--build-arg", f"SSL_CERT_FILE={CERTIFICATES}"]
        if places.uv_cache().is_dir():  # `make install` has downloaded most of it already
            command += ["--volume", f"{places.uv_cache()}:/uv-cache"]
            command += ["--build-arg", "UV_CACHE_DIR=/uv-cache"]
        self.run(*command, places.ROOT)

    def find(self, name: str) -> StoredImage | None:
        """An image by its name."""
        for image in self._read("overlay-images/images.json"):
            if name in (image.get("names") or []):
                identity = str(image["id"])
                return StoredImage(identity, self._config(identity), self._layers(image["layer"]))
        return None

    def _read(self, name: str) -> list[dict[str, Any]]:
        file = self._root / name
        found: list[dict[str, Any]] = json.loads(file.read_text()) if file.exists() else []
        return found

    def _config(self, image: str) -> bytes:
        name = base64.b64encode(f"sha256:{image}".encode()).decode()
        return (self._root / "overlay-images" / image / f"={name}").read_bytes()

    def _layers(self, top: str) -> list[StoredLayer]:
        by_id = {layer["id"]: layer for layer in self._read("overlay-layers/layers.json")}
        found: list[StoredLayer] = []
        identity: str | None = top
        while identity:
            layer = by_id[identity]
            folder = self._root / "overlay" / identity / "diff"
            found.append(StoredLayer(layer["diff-digest"], folder))
            identity = layer.get("parent")
        return found[::-1]
