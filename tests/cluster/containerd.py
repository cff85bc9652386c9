"""containerd's store of images, by its client ctr: images come in, and thin variants are derived.

An image that buildah has built is 7 GB. Packing it into an archive, copying that and unpacking it
again takes minutes and 11 GB of disk; so its layers are brought in as what they are in both
storages: folders for an overlay file system. The files are hard links, which no one writes to.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from cluster import oci, tools
from cluster.buildah import StoredImage
from cluster.oci import Layer


class Containerd:
    """A running containerd."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    def ctr(self, *arguments: str, check: bool = True) -> str:
        """Run its client; what it wrote. With check, raises AssertionError."""
        ctr = str(tools.containerd() / "ctr")
        command = [ctr, "--address", str(self._socket), "--namespace", "k8s.io"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if check and done.returncode:
            raise AssertionError(f"ctr {' '.join(arguments)}: {done.stdout}{done.stderr}")
        return done.stdout

    def import_archive(self, archive: Path) -> None:
        """Bring in the images of an archive (OCI or Docker)."""
        self.ctr("images", "import", str(archive))

    def add(self, name: str, image: StoredImage) -> bool:
        """Bring in an image of buildah's storage; whether it was not there yet."""
        before = self._image_id(name)
        if before == f"sha256:{image.id}":
            return False
        chain: list[str] = []
        for layer in image.layers:
            chain.append(layer.diff_id)
            self._add_snapshot(chain, layer.folder)
        with tempfile.TemporaryDirectory() as folder:
            layers = [_stand_in(layer.diff_id, Path(folder)) for layer in image.layers]
            archive = Path(folder) / "image.tar"
            oci.write_archive(archive, name, layers, image.config)
            self.import_archive(archive)
        for length in range(1, len(chain) + 1):  # from now on the image keeps them
            self.ctr("snapshots", "label", oci.chain_id(chain[:length]), "containerd.io/gc.root=")
        if before is not None:  # the kubelet's name for the image that had the name
            self.ctr("images", "delete", before, check=False)
        return True

    def _image_id(self, name: str) -> str | None:
        found = self._target(name)
        return None if found is None else str(self._manifest(found)["config"]["digest"])

    def _target(self, name: str) -> str | None:
        """Digest of a name's manifest."""
        listed = self.ctr("images", "list", f"name=={name}").splitlines()[1:]
        return listed[0].split()[2] if listed else None

    def _manifest(self, digest: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.ctr("content", "get", digest))
        return found

    def _add_snapshot(self, chain: list[str], layer: Path) -> None:
        """A committed snapshot whose last layer is this folder."""
        name = oci.chain_id(chain)
        if self.ctr("snapshots", "info", name, check=False):
            return
        parent = [oci.chain_id(chain[:-1])] if chain[1:] else []
        new = f"new-{name}"
        self.ctr("snapshots", "delete", new, check=False)  # of an interrupted call
        self.ctr("snapshots", "prepare", new, *parent)
        upper = _upper_folder(self.ctr("snapshots", "mounts", "/target", new))
        copy = ["cp", "--archive", f"{layer}/.", upper]
        # While a buildah is at work its folder is a mount of its own, and no link leads out of it.
        if subprocess.run([*copy, "--link"], check=False, capture_output=True).returncode:
            subprocess.run(copy, check=True)
        self.ctr("snapshots", "commit", name, new)

    def derive(
        self,
        base: str,
        name: str,
        removed: Iterable[str] = (),
        added: Mapping[str, bytes] | None = None,
    ) -> None:
        """Make an image of another that is here, by one more layer.

        removed: absolute paths of files and folders that it lacks; added: contents of files by
        their absolute paths, readable for all. A path can be a file's or a folder's.
        """
        target = self._target(base)
        assert target is not None, base
        manifest = self._manifest(target)
        config = json.loads(self.ctr("content", "get", manifest["config"]["digest"]))
        with tempfile.TemporaryDirectory() as folder:
            writer = oci.LayerWriter(Path(folder) / "layer")
            for path in removed:
                writer.remove(path)
            for path, content in (added or {}).items():
                writer.add_file(path, content)
            layer = writer.close()
            diff_ids = config["rootfs"]["diff_ids"]
            below = [Layer(*it) for it in zip(manifest["layers"], diff_ids, strict=True)]
            diff_ids.append(layer.diff_id)
            config["history"].append({"created_by": f"derived from {base}"})
            layers = [*below, layer]
            archive = Path(folder) / "image.tar"
            oci.write_archive(archive, name, layers, json.dumps(config).encode())
            self.import_archive(archive)


def _stand_in(diff_id: str, folder: Path) -> Layer:
    """A layer by name alone: its snapshot is there, so nobody unpacks it."""
    file = folder / diff_id.partition(":")[2]
    file.write_text(diff_id)
    return Layer.of_file(file, diff_id, "layer.v1.tar")


def _upper_folder(mount: str) -> str:
    """Of the command that mounts an active snapshot: an overlay's, or a bind mount's source."""
    for option in mount.split("-o ")[-1].split(","):
        if option.startswith("upperdir="):
            return option.partition("=")[2].strip()
    return mount.split()[3]
