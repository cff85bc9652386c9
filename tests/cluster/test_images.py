"""What the images are made of agrees with the rest of the checkout."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from cluster import images
from cluster.places import ROOT

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize("extra", ["operator", "runner"])
def test_each_requirement_of_an_image_is_pinned_and_hashed(extra: str) -> None:
    script = str(ROOT / "images" / "requirements.py")
    command = [sys.executable, script, str(ROOT), extra]
    written = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entries = re.split(r"\n(?=\S)", written.strip())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"] + project["optional-dependencies"][extra]
    assert len(entries) == len({re.split(r"[<>=]", line)[0] for line in wanted})
    for entry in entries:
        assert re.match(r"[\w.-]+==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry


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
    assert sources == {*image.packages, *images.SHARED} - {".dockerignore"}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(ignored)
