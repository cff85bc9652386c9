"""Which folder stands for a claim, and what is said where none does."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun_api.errors import Refused
from evalrun_cli import volumes
from evalrun_cli.volumes import Use

pytestmark = pytest.mark.decisions


def test_a_claim_is_the_folder_of_its_name_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "models" / "full").mkdir(parents=True)
    uses = [Use("models", "spec.model.source.volume", tmp_path, "full")]
    mounts = volumes.mounts(uses, {})
    assert [mount.folder for mount in mounts] == [tmp_path / "models"]
    assert volumes.missing(mounts) == []


def test_a_given_folder_wins_over_the_one_beside_the_manifest(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "other").mkdir()
    uses = [Use("models", "field", tmp_path, "")]
    mounts = volumes.mounts(uses, {"models": tmp_path / "other"})
    assert mounts[0].folder == tmp_path / "other"


def test_a_missing_folder_names_the_field_the_folder_and_the_option(tmp_path: Path) -> None:
    uses = [Use("models", "spec.model.source.volume", tmp_path, "full")]
    (fault,) = volumes.missing(volumes.mounts(uses, {}))
    assert fault.where == "spec.model.source.volume.claimName"
    assert str(tmp_path / "models") in fault.what
    assert "--volume models=DIR" in fault.remedy


def test_a_missing_path_within_a_volume_is_a_fault_of_the_path(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    uses = [Use("models", "spec.model.source.volume", tmp_path, "full")]
    (fault,) = volumes.missing(volumes.mounts(uses, {}))
    assert fault.where == "spec.model.source.volume.path"


def test_one_claim_beside_two_manifests_is_ambiguous_when_both_have_its_folder(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        (tmp_path / name / "data").mkdir(parents=True)
    uses = [Use("data", "first", tmp_path / "a", ""), Use("data", "second", tmp_path / "b", "")]
    (fault,) = volumes.missing(volumes.mounts(uses, {}))
    assert "--volume data=DIR" in fault.remedy
    (tmp_path / "a" / "data").rmdir()
    assert volumes.mounts(uses, {})[0].folder == tmp_path / "b" / "data"


def test_a_folder_for_a_claim_that_nobody_uses_is_refused(tmp_path: Path) -> None:
    uses = [Use("models", "field", tmp_path, "")]
    given = {"model": tmp_path, "models": tmp_path}
    (fault,) = volumes.unused(uses, given)
    assert (fault.where, fault.remedy) == ("--volume", "Its claims: models")


def test_a_claim_that_means_nothing_here_needs_no_folder(tmp_path: Path) -> None:
    uses = [Use("cache", "spec.cache.volume", tmp_path, None, required=False)]
    assert volumes.mounts(uses, {}) == []


@pytest.mark.parametrize("text", ["models", "=x", "models="])
def test_an_option_of_the_wrong_form_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(Refused, match="CLAIM=DIR"):
        volumes.parse([text], tmp_path)


def test_given_folders_are_relative_to_the_current_one(tmp_path: Path) -> None:
    assert volumes.parse(["a=x/y"], tmp_path) == {"a": tmp_path / "x" / "y"}
