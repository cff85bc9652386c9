"""OCI images without a registry or an engine: archives that `ctr images import` and buildah read.

The format is that of https://github.com/opencontainers/image-spec: an `index.json` names manifests,
a manifest its config and layers, all of them blobs named by their sha256.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_TYPE = "application/vnd.oci.image."
_WHITEOUT = ".wh."
"""A layer deletes NAME of the layers below by an empty file .wh.NAME."""


@dataclass(frozen=True)
class Layer:
    """A compressed layer on disk, or without `file` one that the reader of the archive has."""

    descriptor: Mapping[str, Any]
    diff_id: str
    file: Path | None = None

    @classmethod
    def of_file(cls, file: Path, diff_id: str, kind: str) -> Layer:
        """A layer whose blob is this file."""
        with file.open("rb") as blob:
            digest = hashlib.file_digest(blob, "sha256").hexdigest()
        descriptor = {
            "mediaType": _TYPE + kind,
            "digest": f"sha256:{digest}",
            "size": file.stat().st_size,
        }
        return cls(descriptor, diff_id, file)


def chain_id(diff_ids: Sequence[str]) -> str:
    """What containerd calls these layers upon each other (image-spec, config.md, ChainID)."""
    chain = diff_ids[0]
    for diff_id in diff_ids[1:]:
        chain = f"sha256:{hashlib.sha256(f'{chain} {diff_id}'.encode()).hexdigest()}"
    return chain


class _Both:
    """Writes on, and takes the sum of what went through."""

    def __init__(self, target: gzip.GzipFile) -> None:
        self._target = target
        self.sum = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        return self._target.write(data)


class LayerWriter:
    """Writes a layer's file: `add_folder`, `add_file` and `remove`, and then `close`."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._raw = file.open("wb")
        self._gzip = gzip.GzipFile("", "wb", compresslevel=1, fileobj=self._raw, mtime=0)
        self._both = _Both(self._gzip)
        self._tar = tarfile.open(  # noqa: SIM115 - closed by close()
            fileobj=self._both,  # type: ignore[call-overload]  # it is only written to
            mode="w|",
            format=tarfile.PAX_FORMAT,
        )
        self._folders: set[PurePosixPath] = set()

    def add_folder(self, folder: Path) -> None:
        """All of a root file system, or of an overlay file system's upper folder."""
        self._tar.add(folder, ".", recursive=False)
        for parent, folders, files in os.walk(folder):
            folders.sort()
            for name in sorted([*folders, *files]):
                path = Path(parent) / name
                inside = path.relative_to(folder)
                found = path.lstat()
                if stat.S_ISCHR(found.st_mode) and found.st_rdev == 0:
                    self.remove(str(inside))
                elif stat.S_ISDIR(found.st_mode) and _is_opaque(path):
                    raise ValueError(f"{path} replaces a folder of the layers below as a whole")
                else:
                    self._tar.add(path, f"./{inside}", recursive=False)

    def add_file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A file, and the folders above it, owned by root."""
        inside = self._inside(path)
        found = tarfile.TarInfo(str(inside))
        found.size, found.mode = len(content), mode
        self._tar.addfile(found, io.BytesIO(content))

    def remove(self, path: str) -> None:
        """Leave a file or folder of the layers below out of the image."""
        inside = PurePosixPath(path.lstrip("/"))
        self._tar.addfile(tarfile.TarInfo(str(inside.with_name(_WHITEOUT + inside.name))))

    def _inside(self, path: str) -> PurePosixPath:
        inside = PurePosixPath(path.lstrip("/"))
        for folder in reversed(inside.parents[:-1]):
            if folder not in self._folders:
                self._folders.add(folder)
                made = tarfile.TarInfo(str(folder))
                made.type, made.mode = tarfile.DIRTYPE, 0o755
                self._tar.addfile(made)
        return inside

    def close(self) -> Layer:
        """The finished layer."""
        self._tar.close()
        self._gzip.close()
        self._raw.close()
        diff_id = f"sha256:{self._both.sum.hexdigest()}"
        return Layer.of_file(self._file, diff_id, "layer.v1.tar+gzip")


def _is_opaque(folder: Path) -> bool:
    return any("overlay.opaque" in name for name in os.listxattr(folder, follow_symlinks=False))


def make_config(layers: Sequence[Layer], settings: Mapping[str, Any]) -> bytes:
    """The config of an image of these layers; settings: Cmd, Env, User, ..."""
    return json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": dict(settings),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in layers]},
            "history": [{"created_by": "lmms-eval-operator"} for _ in layers],  # buildah counts it
        }
    ).encode()


def write_archive(file: Path, name: str, layers: Sequence[Layer], config: bytes) -> None:
    """Write an image of these layers as an archive."""
    described = _Blob(config)
    manifest = _Blob.of_json(
        {
            "schemaVersion": 2,
            "mediaType": _TYPE + "manifest.v1+json",
            "config": described.descriptor("config.v1+json"),
            "layers": [dict(layer.descriptor) for layer in layers],
        }
    )
    names = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name.rpartition(":")[2],
    }
    entry = {**manifest.descriptor("manifest.v1+json"), "annotations": names}
    index = {"schemaVersion": 2, "manifests": [entry]}
    with tarfile.open(file, "w") as archive:
        _add(archive, "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
        _add(archive, "index.json", json.dumps(index).encode())
        for blob in (described, manifest):
            _add(archive, f"blobs/sha256/{blob.digest}", blob.content)
        for layer in _only_once(layers):
            if layer.file is not None:
                digest = str(layer.descriptor["digest"])
                archive.add(layer.file, f"blobs/{digest.replace(':', '/')}")


def _only_once(layers: Iterable[Layer]) -> Iterable[Layer]:
    return {layer.descriptor["digest"]: layer for layer in layers}.values()


@dataclass(frozen=True)
class _Blob:
    content: bytes

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> _Blob:
        return cls(json.dumps(value, sort_keys=True).encode())

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def descriptor(self, kind: str) -> dict[str, Any]:
        return {
            "mediaType": _TYPE + kind,
            "digest": f"sha256:{self.digest}",
            "size": len(self.content),
        }


def _add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def archive_of_folder(file: Path, name: str, folder: Path, command: Sequence[str]) -> None:
    """An image of one layer that holds a root file system."""
    layer_file = file.with_suffix(".layer")
    writer = LayerWriter(layer_file)
    writer.add_folder(folder)
    path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
    layers = [writer.close()]
    settings = {"Cmd": list(command), "Env": [path], "WorkingDir": "/"}
    write_archive(file, name, layers, make_config(layers, settings))
    layer_file.unlink()
