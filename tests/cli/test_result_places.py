"""Where `results` looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun_api.errors import Refused
from evalrun_cli.cluster_choice import choose
from evalrun_cli.invocation import is_plugin, name_of
from evalrun_cli.result_places import place

pytestmark = pytest.mark.decisions


@pytest.mark.parametrize(
    ("cluster", "store", "folder_exists", "plugin", "found"),
    [
        ([], [], True, False, "store"),
        ([], [], False, False, "cluster"),
        ([], [], True, True, "cluster"),
        ([], [], False, True, "cluster"),
        (["--cluster"], [], True, False, "cluster"),
        (["--context"], [], True, False, "cluster"),
        ([], ["--store"], False, True, "store"),
    ],
)
def test_options_decide_then_how_it_was_called_then_the_folder(
    cluster: list[str], store: list[str], folder_exists: bool, plugin: bool, found: str
) -> None:
    given = {"cluster": cluster, "store": store}
    assert place(**given, folder_exists=folder_exists, plugin=plugin) == found


def test_options_of_both_contradict_each_other() -> None:
    with pytest.raises(Refused, match="--context"):
        place(cluster=["--context"], store=["--store"], folder_exists=True, plugin=False)


def test_the_plugin_suggests_what_kubectl_understands() -> None:
    assert is_plugin("/usr/bin/kubectl-evalrun")
    assert name_of("/usr/bin/kubectl-evalrun") == "kubectl evalrun"
    assert name_of("/usr/bin/evalrun") == "evalrun"


def test_a_kubeconfig_is_looked_for_as_kubectl_does(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    several = {"KUBECONFIG": f"{one}:{two}"}
    assert choose(None, None, None, several, tmp_path).present == (one,)
    assert choose(str(two), None, None, several, tmp_path).present == ()
    usual = choose(None, None, None, {}, tmp_path)
    assert usual.looked_at == str(tmp_path / ".kube" / "config")
    assert usual.present == ()


def test_suggested_commands_repeat_the_options_that_name_the_cluster(tmp_path: Path) -> None:
    choice = choose("a", "prod", "team", {"KUBECONFIG": "x"}, tmp_path)
    assert choice.options == ("--kubeconfig", "a", "--context", "prod")
