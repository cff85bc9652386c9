"""The README's walk-through, command by command, and the cluster commands of the other pages."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from space import ROOT

from cluster import demo
from cluster.cluster import Cluster

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]

FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OURS = {
    "make cluster": "the session has a cluster, started by the same code",
    "make cluster-down": "it is ended with the session",
    "export KUBECONFIG=~/.local/state/lmms-eval-operator/kubeconfig": "the session's is set",
    "export PATH=~/.local/state/lmms-eval-operator/bin:$PATH": "the same programs are found",
}
"""Commands of the walk-through that are not run here, and why."""


def commands(page: str) -> list[str]:
    text = (ROOT / page).read_text()
    return [line for block in FENCE.findall(text) for line in block.splitlines() if line.strip()]


def run(cluster: Cluster, command: str) -> str:
    programs = [str(Path(sys.executable).parent), str(Path(cluster.tools["kubectl"]).parent)]
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=ROOT,
        env={
            **os.environ,
            "KUBECONFIG": str(cluster.kubeconfig),
            "PATH": os.pathsep.join([*programs, os.environ["PATH"]]),
            "COLUMNS": "140",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=700,
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_walk_through_of_the_readme_works(
    installed: Cluster, tmp_path: Path, show_figure: Callable[[str], None]
) -> None:
    tmp_path.chmod(0o755)
    demo.set_up(installed, installed.s3, "default", tmp_path)
    told: dict[str, str] = {}
    begun = time.monotonic()
    for command in commands("README.md"):
        if command not in OURS:
            told[command] = run(installed, command)
    taken = time.monotonic() - begun
    assert set(OURS) <= set(commands("README.md"))
    assert "Completed" in told["kubectl describe evr easy-vqa-gpu"]
    assert "exact_match" in told["evalrun results easy-vqa-gpu --cluster"]
    assert "0 answers computed" in told["evalrun watch easy-vqa-shards"].replace("\n", " ")
    assert json.loads(run(installed, "kubectl get evr -o json"))["items"] == []
    shown = "\n".join(f"$ {command}\n{text.rstrip()}" for command, text in told.items())
    show_figure(f"the README's walk-through took {taken:.0f} s\n{shown}")


@pytest.mark.parametrize("page", ["docs/guides/operating.md"])
def test_the_cluster_commands_of_a_page_are_accepted(installed: Cluster, page: str) -> None:
    assert commands(page)
    for command in commands(page):
        run(installed, f"{command} --dry-run=server")
