"""What the images are made of agrees with the rest of the checkout."""

from __future__ import annotations

import re
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster import images
from cluster.places import ROOT

pytestmark = pytest.mark.decisions


def entries(file: str) -> set[str]:
    """Each a package's pin with its hashes."""
    return set(re.split(r"\n(?=\S)", (ROOT / file).read_text().strip()))


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_each_requirement_of_an_image_is_pinned_and_hashed_as_in_the_checkout(
    image: images.Image,
) -> None:
    found = entries(image.requirements)
    assert found <= entries("constraints.txt")
    for entry in found:
        assert re.match(r"[\w.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_the_requirements_of_an_image_are_all_that_the_extra_needs(image: images.Image) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = Path(image.requirements).stem
    wanted = [*project["dependencies"], *project["optional-dependencies"][extra]]
    here = {canonicalize_name(re.split(r"==", it)[0]) for it in entries(image.requirements)}
    assert needed_here(wanted) <= here


def needed_here(requirements: list[str]) -> set[str]:
    """Names of all packages that these need on this platform, as those installed here say."""
    found: set[tuple[str, str]] = set()
    waiting = [(Requirement(text), "") for text in requirements]
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        for wanted in {"", *requirement.extras}:
            if (name, wanted) not in found:
                found.add((name, wanted))
                needs = metadata.requires(name) or []
                waiting += [(Requirement(text), wanted) for text in needs]
    return {name for name, _ in found}


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_the_images_are_built_with_the_uv_that_the_makefile_names(image: images.Image) -> None:
    makefile = (ROOT / "Makefile").read_text()
    (version,) = re.findall(r"^UV_VERSION := (\S+)$", makefile, re.MULTILINE)
    dockerfile = (ROOT / image.dockerfile).read_text()
    assert set(re.findall(r"^ARG UV_VERSION=(\S+)$", dockerfile, re.MULTILINE)) == {version}


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_an_image_is_built_anew_when_what_it_copies_changes(image: images.Image) -> None:
    dockerfile = (ROOT / image.dockerfile).read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == {*image.packages, image.requirements}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(ignored)
