"""The images as they are built: what they say of themselves, what is in them, what they may do."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster import images, places, provenance, sbom, start_up, tools
from cluster.buildah import Buildah, StoredImage
from cluster.container import Container

pytestmark = pytest.mark.e2e

each = pytest.mark.parametrize("image", images.ALL, ids=lambda image: image.short_name)

LIST = """
import importlib.metadata, json, sys
places = [it for it in sys.path if it.startswith("/opt/evalrun")]
found = importlib.metadata.distributions(path=places)
print(json.dumps([[it.metadata["Name"], it.version] for it in found]))
"""


@pytest.fixture(scope="module", autouse=True)
def tools_are_here() -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can build images")
    if not (places.node_parts().is_dir() and shutil.which("buildah") and shutil.which("runc")):
        pytest.skip("buildah and runc are not here: `make cluster-tools` gets them")


def config_of(built: StoredImage) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(built.config)
    return found


def without_comments(built: StoredImage) -> dict[str, Any]:
    """An image's config but for the ids of the cached images that its steps were built upon."""
    config = config_of(built)
    for step in config["history"]:
        step.pop("comment", None)
    return config


def own_files(built: StoredImage) -> Iterator[Path]:
    """All that the layers above the base hold, as paths in the image."""
    for layer in built.layers[1:]:
        for path in layer.folder.rglob("*"):
            yield Path("/") / path.relative_to(layer.folder)


@each
def test_an_image_says_what_it_is_and_where_it_comes_from(image: images.Image) -> None:
    config = config_of(images.build(image))
    project = tomllib.loads((places.ROOT / "pyproject.toml").read_text())["project"]
    prefix = "org.opencontainers.image."
    labels = {
        name.removeprefix(prefix): value
        for name, value in config["config"]["Labels"].items()
        if name.startswith(prefix)
    }
    assert labels.pop("title").startswith(project["name"])
    assert len(labels.pop("description")) > 20
    assert labels.pop("source") == os.environ.get("IMAGE_SOURCE", "")
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels.pop("revision"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", labels.pop("created"))
    assert labels == {
        "licenses": project["license"],
        "version": project["version"],
        "base.name": tools.PYTHON,
    }


@each
def test_every_date_of_an_image_is_the_same_in_every_build(image: images.Image) -> None:
    built = images.build(image)
    config = config_of(built)
    (date,) = {it.get("created") for it in config["history"][1:]} | {config["created"]}
    assert date == "1980-01-01T00:00:00Z"
    for layer in built.layers[1:]:
        dates = {path.lstat().st_mtime for path in layer.folder.rglob("*")}
        assert dates == {images.SOURCE_DATE_EPOCH}


@each
def test_all_bytecode_is_valid_whatever_the_date_of_its_source(
    image: images.Image,
) -> None:
    flags = set()
    for layer in images.build(image).layers[1:]:
        for path in layer.folder.rglob("*.pyc"):
            with path.open("rb") as file:
                flags.add(file.read(8)[4:])
    assert flags == {b"\1\0\0\0"}  # PEP 552: valid by hash, and not checked


@each
def test_an_image_runs_as_any_user_without_rights_on_a_root_that_nobody_can_write_to(
    image: images.Image,
) -> None:
    built = images.build(image)
    own = Container(built, user=None)
    assert own.run("id").stdout.split()[:2] == ["uid=65532", "gid=65532"]
    for container in (own, Container(built)):
        refused = container.run("touch", "/here")
        assert refused.returncode == 1
        assert "Read-only file system" in refused.stderr
        rights = container.run("grep", "-E", "^(Cap|NoNewPrivs)", "/proc/self/status").stdout
        assert {*re.findall(r"^Cap\w+:\s+(\w+)$", rights, re.M)} == {"0" * 16}
        assert container.run("touch", "/tmp/here").returncode == 0


@each
def test_only_the_working_folder_of_an_image_is_for_anyone_to_change(
    image: images.Image,
) -> None:
    built = images.build(image)
    writable = {"/tmp", config_of(built)["config"]["WorkingDir"]}
    for layer in built.layers[1:]:
        for path in layer.folder.rglob("*"):
            mode = path.lstat().st_mode
            inside = f"/{path.relative_to(layer.folder)}"
            assert stat.S_ISLNK(mode) or not mode & 0o002 or inside in writable, inside
            assert not mode & (stat.S_ISUID | stat.S_ISGID), inside


@each
def test_an_images_entry_point_runs_on_a_read_only_root(image: images.Image) -> None:
    built = images.build(image)
    (program,) = config_of(built)["config"]["Entrypoint"]
    done = Container(built).run(program, "--help")
    assert f"usage: {program}" in done.stdout
    assert done.stderr == ""


@each
def test_the_bill_of_materials_names_all_that_is_installed(image: images.Image) -> None:
    built = images.build(image)
    bill = json.loads(sbom.make(built, image.name))
    assert sbom.image_of(bill) == built.id
    inside = Container(built)
    installed = inside.run("/opt/evalrun/bin/python", "-c", LIST)
    distributions = {(name, version) for name, version in json.loads(installed.stdout)}
    assert len(distributions) > 30
    assert distributions <= sbom.packages(bill, "pypi")
    queried = inside.run("dpkg-query", "--show", "--showformat=${Package} ${Version}\n").stdout
    assert sbom.packages(bill, "deb") == {tuple(it.split()) for it in queried.splitlines()}
    assert {name.lower() for name, _ in distributions} >= {"pydantic", "pyyaml"}


CACHES = re.compile(r"/root/.*|.*/(pip|uv)/(http|http-v2|wheels.*|archive-v0)(/.*)?")
FOREIGN = re.compile(
    r".*/(\.git|\.netrc|\.pypirc|pip\.conf|\.aws|\.kube|\.docker|\.ssh|\.env)(/.*)?"
)
KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----")
SECRET = re.compile(r"token|password|passwd|secret|credential|api_?key", re.I)


@each
def test_no_cache_no_key_and_no_setting_of_the_builder_is_in_an_image(image: images.Image) -> None:
    built = images.build(image)
    config = config_of(built)
    assert not [it for it in config["config"]["Env"] if SECRET.search(it)]
    assert not [it for it in config["history"] if SECRET.search(it["created_by"])]
    paths = {str(path) for path in own_files(built)}
    elsewhere = {path for path in paths if not path.startswith("/opt/")}
    assert elsewhere <= {"/opt", "/work", "/run", "/tmp"}  # folders, and nothing in them
    assert not [path for path in paths if CACHES.fullmatch(path) or FOREIGN.fullmatch(path)]
    for layer in built.layers[1:]:
        for path in layer.folder.rglob("*.pem"):
            assert not KEY.search(path.read_bytes()), path
        for path in (layer.folder / "opt/packages").rglob("*"):
            assert not (path.is_file() and KEY.search(path.read_bytes())), path


def test_the_operators_image_starts_with_two_seconds_of_work(
    show_figure: Callable[[str], None],
) -> None:
    started = start_up.of_the_operator(images.build(images.OPERATOR))
    show_figure(
        f"the operator's image, from before its container is made: {started.logged:.2f} s to its "
        f"first log line, {started.healthy:.2f} s to /healthz, with {started.cpu:.2f} s of CPU time"
    )
    assert started.cpu <= 2  # not by the clock: who knows what else this machine does


def test_the_operators_image_is_the_same_when_it_is_built_from_nothing_but_for_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = images.build(images.OPERATOR)
    buildah = Buildah(tmp_path / "buildah")
    try:
        again = images.build_in(buildah, images.OPERATOR)
        assert [layer.diff_id for layer in again.layers] == [it.diff_id for it in built.layers]
        assert without_comments(again) == without_comments(built)
        other = {**provenance.arguments(images.OPERATOR.inputs), "REVISION": "0" * 40}
        monkeypatch.setattr(provenance, "arguments", lambda _: other)
        renamed = images.build_in(buildah, images.OPERATOR)
        labels = config_of(renamed)["config"]["Labels"]
        assert labels["org.opencontainers.image.revision"] == "0" * 40
        assert renamed.layers == again.layers
    finally:
        buildah.remove()
