"""What the images are made of agrees with the rest of the checkout."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from cluster import images, provenance, sbom, tools
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


def test_the_image_with_vllm_has_all_that_the_runners_has_and_pins_of_its_own() -> None:
    found = entries("images/runner-vllm.txt")
    assert all("--hash=sha256:" in it for it in found)
    versions = {canonicalize_name(it.split("==")[0]): it.split()[0] for it in found}
    wanted = re.findall(r"^(\S+==\S+)$", (ROOT / "images/runner-vllm.in").read_text(), re.M)
    assert set(wanted) <= set(versions.values())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for text in [*project["dependencies"], *project["optional-dependencies"]["runner"]]:
        requirement = Requirement(text)
        version = versions[canonicalize_name(requirement.name)].partition("==")[2]
        assert requirement.specifier.contains(version), text


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


def arguments_of(dockerfile: str) -> dict[str, str]:
    """Defaults of a Dockerfile's arguments."""
    found = re.findall(r"^ARG (\w+)(?:=(\S+))?$", (ROOT / dockerfile).read_text(), re.MULTILINE)
    return {name: value for name, value in found if value}


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_an_image_is_built_anew_when_what_it_copies_changes(image: images.Image) -> None:
    dockerfile = (ROOT / image.dockerfile).read_text()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    requirements = arguments_of(image.dockerfile).get("REQUIREMENTS", "")
    sources = {
        source.replace("${REQUIREMENTS}", requirements)
        for line in copied
        for source in line.split()
    }
    assert sources == {*image.packages, image.requirements}
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert {f"!{source}" for source in sources} <= set(ignored)
    assert {f"!images/{file.name}" for file in (ROOT / "images").glob("*.txt")} <= set(ignored)


@pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.dockerfile)
def test_an_image_that_is_built_by_hand_says_the_projects_version_too(image: images.Image) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert arguments_of(image.dockerfile)["VERSION"] == project["version"]


GUIDE = ROOT / "docs/guides/images.md"


def test_the_guide_names_every_argument_of_the_dockerfiles_and_no_other() -> None:
    row = r"^\| (`[A-Z_`, ]+`) \| (both|runner) \|"
    found = dict(re.findall(row, GUIDE.read_text(), re.MULTILINE))
    named = {name: of for names, of in found.items() for name in re.findall(r"\w+", names)}
    for image in images.ALL:
        text = (ROOT / image.dockerfile).read_text()
        declared = set(re.findall(r"^ARG (\w+)", text, re.MULTILINE))
        assert declared == {it for it, of in named.items() if of in ("both", image.short_name)}


def test_the_guides_commands_for_other_builders_name_what_is_there() -> None:
    commands = re.findall(r"^docker build (.+)$", GUIDE.read_text(), re.MULTILINE)
    assert len(commands) == len(images.ALL)
    for command in commands:
        *options, context = shlex.split(command)
        given = dict(zip(options[::2], options[1::2], strict=True))
        assert given.keys() <= {"--file", "--tag"}
        assert (ROOT / context / given.get("--file", "Dockerfile")).is_file()


def test_a_variant_is_asked_for_by_its_name() -> None:
    assert images.wanted({}) == images.ALL
    (vllm,) = images.wanted({"VARIANT": "vllm"})
    assert vllm.name == "lmms-eval.io/runner-vllm:dev"
    assert vllm.arguments == (("REQUIREMENTS", "images/runner-vllm.txt"),)
    (cpu,) = images.wanted({"VARIANT": "cpu", "TORCH_INDEX": "https://torch.example.com"})
    assert cpu.name == "lmms-eval.io/runner-cpu:dev"
    assert ("TORCH_INDEX", "https://torch.example.com") in cpu.arguments


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"VARIANT": "rocm"}, "there is no variant 'rocm'"),
        ({"VARIANT": "cpu"}, "needs TORCH_INDEX"),
        ({"TORCH_INDEX": "https://torch.example.com"}, "there is no variant ''"),
    ],
)
def test_a_variant_that_cannot_be_built_is_refused_in_words(
    asked: dict[str, str], said: str
) -> None:
    with pytest.raises(tools.MissingError, match=said):
        images.wanted(asked)


def test_torch_for_cpus_leaves_out_what_cuda_alone_needs_and_nothing_else(tmp_path: Path) -> None:
    dockerfile = (ROOT / images.RUNNER.dockerfile).read_text()
    (step,) = re.findall(r"^RUN (if .+?; fi)$", dockerfile, re.MULTILINE | re.DOTALL)
    step = step.replace(" /", f" {tmp_path}/").replace("\\\n", "")
    for index in ("", "https://torch.example.com"):
        shutil.copy(ROOT / images.RUNNER.requirements, tmp_path / "pinned.txt")
        environment = {"PATH": os.environ["PATH"], "TORCH_INDEX": index}
        subprocess.run(["sh", "-ec", step], check=True, env=environment)
        given = entries(images.RUNNER.requirements)
        left = entries(str(tmp_path / "requirements.txt"))
        torch = (tmp_path / "torch.txt").read_text().splitlines()
        if not index:
            assert (left, torch) == (given, [])
            continue
        assert left < given
        missing = {re.split("==", it)[0] for it in given - left}
        assert {"torch", "torchvision", "triton", "nvidia-cudnn-cu13"} <= missing
        assert missing == {it for it in missing if re.match("torch|triton$|cuda-|nvidia-", it)}
        assert not [it for it in left if re.match("torch|triton|nvidia", it)]
        assert [it.split("==")[0] for it in torch] == ["torch", "torchvision"]


def test_an_images_revision_is_the_last_commit_that_changed_what_it_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def git(*command: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.com")
        date = {**os.environ, "GIT_COMMITTER_DATE": "2026-02-03T04:05:06+02:00"}
        done = subprocess.run(
            ["git", *who, *command], cwd=tmp_path, check=True, capture_output=True, env=date
        )
        return done.stdout.decode().strip()

    def said(*inputs: str) -> dict[str, str]:
        return provenance.arguments(inputs)

    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    monkeypatch.setattr("cluster.places.ROOT", tmp_path)
    monkeypatch.setenv("IMAGE_SOURCE", "https://git.example.com/here")
    assert said("one").items() >= provenance.UNKNOWN.items()
    git("init")
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
        git("add", name)
        git("commit", "-m", name)
    first, second = git("rev-parse", "HEAD~1"), git("rev-parse", "HEAD")
    assert said("one")["REVISION"] == first
    assert said("one", "two")["REVISION"] == second
    assert said("one")["CREATED"] == "2026-02-03T02:05:06Z"
    assert said("one")["SOURCE"] == "https://git.example.com/here"
    (tmp_path / "two").write_text("changed")
    assert said("one")["REVISION"] == first
    assert said("one", "two")["REVISION"] == f"{second}-dirty"


RELEASE = 'NAME="Debian"\nVERSION_ID="12"\nID=debian\n'
DPKG = """\
Package: adduser
Status: install ok installed
Version: 3.134
Architecture: all
Description: add and remove users
 and groups

Package: gone
Status: deinstall ok config-files
Version: 1.0
Architecture: amd64

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36-9+deb12u10
"""


def distribution(name: str, **said: Any) -> dict[str, Any]:
    """What inventory.py tells of one."""
    nothing = {"summary": None, "license": None, "license_expression": None}
    return {"name": name, "version": "1.0", **nothing, "classifiers": [], "requires": [], **said}


def bill(*distributions: dict[str, Any], **said: str) -> dict[str, Any]:
    found = {"distributions": distributions, **said}
    return dict(json.loads(sbom.bill(found, "example/image:1", "0.1.0", "sha256:0123")))


def test_a_bill_of_materials_names_what_is_installed_with_licences_and_needs() -> None:
    mit = ["License :: OSI Approved :: MIT License"]
    one = distribution("One", license="MIT", classifiers=mit, requires=["two>=1; extra == 'x'"])
    two = distribution("two", license_expression="MIT OR Apache-2.0", requires=["unknown"])
    document = bill(one, two, dpkg=DPKG, release=RELEASE)
    assert sbom.image_of(document) == "0123"
    assert sbom.packages(document, "pypi") == {("One", "1.0"), ("two", "1.0")}
    assert sbom.packages(document, "deb") == {("adduser", "3.134"), ("libc6", "2.36-9+deb12u10")}
    licences = {it["name"]: it.get("licenses") for it in document["components"]}
    assert licences["One"] == [{"license": {"id": "MIT"}}]
    assert licences["two"] == [{"expression": "MIT OR Apache-2.0"}]
    needs = {it["ref"]: it.get("dependsOn", []) for it in document["dependencies"]}
    assert needs["pkg:pypi/one@1.0"] == ["pkg:pypi/two@1.0"]
    assert len(needs["image"]) == len(document["components"]) == 5


@pytest.mark.parametrize(
    ("said", "licences"),
    [
        ({"license": "Apache 2.0"}, ["Apache 2.0"]),
        (
            {"license": "the\nwhole text", "classifiers": ["License :: Other/Proprietary License"]},
            ["Other/Proprietary License"],
        ),
        ({"license": "the\nwhole text"}, ["the"]),
        ({"classifiers": ["License :: A :: B", "License :: C"]}, ["B", "C"]),
        ({}, None),
    ],
)
def test_a_licence_without_an_identifier_is_given_by_its_name(
    said: dict[str, Any], licences: list[str] | None
) -> None:
    (component,) = [it for it in bill(distribution("one", **said))["components"] if "purl" in it]
    found = component.get("licenses")
    names = found and [it["license"]["name"] for it in found]
    assert names == licences
