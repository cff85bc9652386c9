"""The project's images, built from its Dockerfiles, and only when their inputs have changed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import places, tools
from cluster.buildah import Buildah, StoredImage
from cluster.progress import step


@dataclass(frozen=True)
class Image:
    """What an image is made of; folders and files of the checkout."""

    name: str
    dockerfile: str
    requirements: str
    packages: tuple[str, ...]

    @property
    def dependencies(self) -> str:
        """Name of its Dockerfile's stage that changes seldom."""
        return self.name.replace(":", "-dependencies:")


OPERATOR = Image(
    "lmms-eval.io/operator:dev",
    "Dockerfile",
    "images/operator.txt",
    ("crds/evalrun_api", "operator/evalrun_operator"),
)
RUNNER = Image(
    "lmms-eval.io/runner:dev",
    "runner-image/Dockerfile",
    "images/runner.txt",
    ("crds/evalrun_api", "runner-image/evalrun_runner"),
)
ALL = (OPERATOR, RUNNER)


def build(image: Image) -> StoredImage:
    """The image as the checkout has it now. Raises MissingError.

    Seconds when only the packages have changed, minutes for the dependencies.
    """
    with tools.one_at_a_time("images"):
        return _build(image)


def _build(image: Image) -> StoredImage:
    buildah = Buildah()
    stamp = places.cache() / "images" / f"{places.digest(image.name.encode())}.json"
    inputs = _inputs(image)
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    found = buildah.find(image.name)
    if found is not None and known == {"inputs": inputs, "image": found.id}:
        return found
    _seed_base(buildah)
    before = buildah.find(image.dependencies)
    dockerfile = places.ROOT / image.dockerfile
    with step(f"building {image.name} (its dependencies, if they have changed, take minutes)"):
        buildah.build(dockerfile, image.dependencies, "dependencies")
        buildah.build(dockerfile, image.name)
    found, after = buildah.find(image.name), buildah.find(image.dependencies)
    assert found is not None
    assert after is not None
    if before is not None and before.id != after.id:
        with step("removing what nothing is built upon any more"):
            buildah.run("rm", "--all")  # a build that failed or was killed leaves its own
            buildah.run("rmi", "--prune")
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(json.dumps({"inputs": inputs, "image": found.id}))
    return found


def _inputs(image: Image) -> str:
    """Changes whenever the image may."""
    files = [places.ROOT / name for name in (".dockerignore", image.dockerfile, image.requirements)]
    for package in image.packages:
        files += sorted(_files(places.ROOT / package))
    base = tools.images()[tools.PYTHON].stat().st_mtime_ns
    named = (f"{file.relative_to(places.ROOT)}\n".encode() + file.read_bytes() for file in files)
    return places.digest(str(base).encode(), *named)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _seed_base(buildah: Buildah) -> None:
    """Have the base image under the name that the Dockerfiles give, from no registry."""
    archive = tools.images()[tools.PYTHON]
    seeded = places.cache() / "images" / "base"
    identity = str(archive.stat().st_mtime_ns)
    known = seeded.read_text() if seeded.exists() else ""
    if known != identity or buildah.find(tools.PYTHON) is None:
        buildah.run("pull", f"oci-archive:{archive}")
        seeded.parent.mkdir(exist_ok=True)
        seeded.write_text(identity)
