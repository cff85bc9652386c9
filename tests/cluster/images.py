"""The project's images, built from its Dockerfiles, and only when their inputs have changed."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cluster import places, provenance, tools
from cluster.buildah import Buildah, StoredImage
from cluster.progress import step

SOURCE_DATE_EPOCH = 315532800
"""The date of all files that are built: 1980-01-01, the first that a zip archive can tell.

A commit's date would be another for each layer that is not built anew."""


@dataclass(frozen=True)
class Image:
    """What an image is made of; folders and files of the checkout."""

    name: str
    dockerfile: str
    requirements: str
    packages: tuple[str, ...]
    arguments: tuple[tuple[str, str], ...] = ()
    """Of its Dockerfile, beside those that say what it is."""

    @property
    def dependencies(self) -> str:
        """Name of its Dockerfile's stage that changes seldom."""
        return self.name.replace(":", "-dependencies:")

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that it is made of."""
        return (self.dockerfile, self.requirements, *self.packages)

    @property
    def short_name(self) -> str:
        """Such as operator."""
        return self.name.rpartition("/")[2].partition(":")[0]


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


def wanted(environment: Mapping[str, str]) -> tuple[Image, ...]:
    """All images, or the runner's variant that VARIANT names. Raises MissingError.

    vllm has vLLM too; cpu prepares and scores, and needs TORCH_INDEX, an index of torch's builds
    for CPUs.
    """
    variant, index = environment.get("VARIANT", ""), environment.get("TORCH_INDEX", "")
    match variant, bool(index):
        case "", False:
            return ALL
        case "vllm", False:
            return (_variant("runner-vllm", "images/runner-vllm.txt"),)
        case "cpu", True:
            return (_variant("runner-cpu", RUNNER.requirements, ("TORCH_INDEX", index)),)
        case "cpu", False:
            raise tools.MissingError(
                "VARIANT=cpu needs TORCH_INDEX, such as https://download.pytorch.org/whl/cpu. Where"
                " there is none, prepare and score run in the image with CUDA, without a GPU"
            )
    raise tools.MissingError(f"there is no variant {variant!r}: vllm, or cpu with TORCH_INDEX")


def _variant(name: str, requirements: str, *arguments: tuple[str, str]) -> Image:
    return replace(
        RUNNER,
        name=RUNNER.name.replace("runner", name),
        requirements=requirements,
        arguments=(("REQUIREMENTS", requirements), *arguments),
    )


def build(image: Image) -> StoredImage:
    """The image as the checkout has it now. Raises MissingError.

    Seconds when only the packages have changed, minutes for the dependencies.
    """
    with tools.one_at_a_time("images"):
        return _build(image)


def _build(image: Image) -> StoredImage:
    # Older releases cached layers without the date in "buildah".
    buildah = Buildah(places.cache() / "buildah-dated")
    stamp = places.cache() / "images" / f"{places.digest(image.name.encode())}.json"
    inputs = _inputs(image)
    known = json.loads(stamp.read_text()) if stamp.exists() else {}
    found = buildah.find(image.name)
    if found is not None and known == {"inputs": inputs, "image": found.id}:
        return found
    before = buildah.find(image.dependencies)
    with step(f"building {image.name} (its dependencies, if they have changed, take minutes)"):
        found = build_in(buildah, image)
    after = buildah.find(image.dependencies)
    assert after is not None
    if before is not None and before.id != after.id:
        with step("removing what nothing is built upon any more"):
            buildah.run("rm", "--all")  # a build that failed or was killed leaves its own
            buildah.run("rmi", "--prune")
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(json.dumps({"inputs": inputs, "image": found.id}))
    return found


def build_in(buildah: Buildah, image: Image) -> StoredImage:
    """Build in a storage of one's own."""
    _seed_base(buildah)
    # Not by arguments: buildah takes a cached LABEL for the same, whatever its arguments are.
    said = provenance.arguments(image.inputs)
    labels = {f"org.opencontainers.image.{name.lower()}": it for name, it in said.items()}
    with _context(image) as context:
        for name, target, marks in (
            (image.dependencies, "dependencies", {}),
            (image.name, None, labels),
        ):
            buildah.build(
                context,
                places.ROOT / image.dockerfile,
                name,
                target,
                dict(image.arguments),
                SOURCE_DATE_EPOCH,
                marks,
            )
    found = buildah.find(image.name)
    assert found is not None
    return found


@contextmanager
def _context(image: Image) -> Iterator[Path]:
    """A folder of what the Dockerfile copies, which has one date and mode in every checkout.

    buildah knows a folder again by its files' dates too.
    """
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder)
        for name in (image.requirements, *image.packages):
            source = places.ROOT / name
            for file in [source] if source.is_file() else _files(source):
                copy = context / file.relative_to(places.ROOT)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, copy)
        for path in (context, *context.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
            os.utime(path, (SOURCE_DATE_EPOCH, SOURCE_DATE_EPOCH))
        yield context


def _inputs(image: Image) -> str:
    """Changes whenever the image may."""
    files = [places.ROOT / name for name in (image.dockerfile, image.requirements)]
    for package in image.packages:
        files += sorted(_files(places.ROOT / package))
    base = tools.images()[tools.PYTHON].stat().st_mtime_ns
    said = provenance.arguments(image.inputs)
    arguments = json.dumps([image.arguments, said, SOURCE_DATE_EPOCH])
    named = (f"{file.relative_to(places.ROOT)}\n".encode() + file.read_bytes() for file in files)
    return places.digest(f"{base}{arguments}".encode(), *named)


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path


def _seed_base(buildah: Buildah) -> None:
    """Have the base image under the name that the Dockerfiles give, from no registry."""
    archive = tools.images()[tools.PYTHON]
    seeded = buildah.root / "lmms-eval-base"
    identity = str(archive.stat().st_mtime_ns)
    known = seeded.read_text() if seeded.exists() else ""
    if known != identity or buildah.find(tools.PYTHON) is None:
        buildah.run("pull", f"oci-archive:{archive}")
        seeded.write_text(identity)
