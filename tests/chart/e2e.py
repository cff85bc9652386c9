"""The guide to Helm, command by command, on a real node with real runs: `make helm-e2e`.

Both namespaces enforce the restricted Pod Security Standard. An upgrade comes while a run answers;
the release is removed and installed anew; each step says what became of the runs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "e2e"))

from helm import CHART, NAMESPACE, RELEASE, ROOT, Helm
from rights import asked, granted, lacking
from space import EXAMPLE, Doc, Space

from bench.reporting import bench
from cluster import chart_tools, demo
from cluster import cluster as starting
from cluster.cluster import Cluster
from cluster.operator_process import USER
from cluster.progress import say, step

GUIDE = ROOT / "docs" / "guides" / "helm.md"
FENCE = re.compile(r"^```bash\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RESTRICTED = "pod-security.kubernetes.io/enforce=restricted"
SMALL = {"resources": {"cpu": "500m", "memory": "3Gi"}}
TESTED = 100
"""Documents of the run of `helm test`."""


def commands() -> list[str]:
    """Of the guide, in its order."""
    return [line for block in FENCE.findall(GUIDE.read_text()) for line in block.splitlines()]


@dataclass
class Guide:
    """Runs the guide's commands. folder: has its values.yaml, and the charts."""

    cluster: Cluster
    folder: Path
    helm: Helm
    rows: list[tuple[str, float, str]] = field(default_factory=list)
    left: list[str] = field(default_factory=commands)

    def follow(self, beginning: str) -> str:
        """Run the next command, which has to begin so; what it wrote."""
        command = self.left.pop(0)
        assert command.startswith(beginning), f"the guide says {command!r}, not {beginning!r}"
        return self.run(command)

    def run(self, command: str) -> str:
        programs = [chart_tools.program("helm").parent, Path(self.cluster.tools["kubectl"]).parent]
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env={
                **self.helm.environment,
                "PATH": os.pathsep.join([*map(str, programs), os.environ["PATH"]]),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=1500,
            check=False,
        )
        assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"
        say(f"$ {command}\n{done.stdout.rstrip()}")
        return done.stdout

    def row(self, what: str, since: float, verdict: str) -> None:
        """A line of the report."""
        self.rows.append((what, time.monotonic() - since, verdict))
        say(f"== {what}: {self.rows[-1][1]:.1f} s: {verdict}")


def values(cluster: Cluster, namespace: str) -> Doc:
    """As the guide's, with this cluster's images and store, and a run to test with."""
    run = yaml.safe_load((EXAMPLE / "run.yaml").read_text())["spec"]
    (run["benchmarks"][0])["limit"] = TESTED
    run["answerPod"] = SMALL
    return {
        "image": {"tag": "dev"},
        "config": {
            "images": {"runner": "lmms-eval.io/runner:dev"},
            "stores": {
                "demo": {
                    "uri": "s3://evaluations/demo",
                    "endpoint": cluster.s3.endpoint,
                    "secretName": demo.SECRET,
                }
            },
            "defaultStore": "demo",
            "policy": {"allowCodeExecution": True},
            "scrape": {"intervalSeconds": 3},
            "progressSeconds": 5,
        },
        "test": {"namespace": namespace, "run": run, "timeoutSeconds": 900},
    }


def main() -> int:
    """Follow the guide, and print a table and the figures."""
    parser = argparse.ArgumentParser(prog="make helm-e2e", description=__doc__)
    parser.add_argument("--documents", type=int, default=6000, help="of the run (default: 6000)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, starting.cluster("make helm-e2e") as cluster:
        folder = Path(place)
        folder.chmod(0o755)
        with step("images"):
            cluster.ensure_images()
        guide = prepared(cluster, folder)
        space = Space(cluster, namespace_of_runs(cluster, folder))
        (folder / "values.yaml").write_text(yaml.safe_dump(values(cluster, space.namespace)))
        began = time.monotonic()
        install(guide)
        status = upgrade_under_a_run(guide, space, options.documents)
        lines = remove(guide, space, status)
        assert guide.left == [], guide.left
        kinds = check_rights(guide, lines)
        for what, seconds, verdict in guide.rows:
            print(f"{what:38} {seconds:7.1f} s  {verdict}")
        bench(
            "helm-e2e",
            helm=chart_tools.version("helm", "helm.sh/helm/v4"),
            steps={what: seconds for what, seconds, _ in guide.rows},
            request_kinds=kinds,
            seconds=time.monotonic() - began,
        )
    return 0


def prepared(cluster: Cluster, folder: Path) -> Guide:
    (folder / "helm").mkdir()
    (folder / "charts").symlink_to(CHART.parent)
    return Guide(cluster, folder, Helm(folder / "helm", cluster.kubeconfig))


def namespace_of_runs(cluster: Cluster, folder: Path) -> str:
    """With the example's claims, Secret and Benchmark; restricted."""
    namespace = cluster.namespace("evaluations")
    cluster.kubectl("label", "namespace", namespace, RESTRICTED)
    volumes = folder / "volumes"
    volumes.mkdir(mode=0o755)
    demo.set_up(cluster, cluster.s3, namespace, volumes)
    return namespace


def install(guide: Guide) -> None:
    guide.follow("kubectl create namespace")
    guide.follow("kubectl label namespace")
    began = time.monotonic()
    guide.follow("helm install")
    guide.row("helm install --wait", began, "deployed")
    benchmark = EXAMPLE / "benchmark.yaml"
    (namespace,) = {guide_values(guide)["test"]["namespace"]}
    guide.cluster.kubectl("-n", namespace, "apply", "-f", str(benchmark))
    began = time.monotonic()
    told = guide.follow("helm test")
    assert "is Ready" in told, told
    ready = next(line for line in told.splitlines() if "is Ready" in line)
    guide.row(f"helm test, {TESTED} documents on a CPU", began, ready.removeprefix("ok").strip())


def guide_values(guide: Guide) -> Doc:
    found: Doc = yaml.safe_load((guide.folder / "values.yaml").read_text())
    return found


def upgrade_under_a_run(guide: Guide, space: Space, documents: int) -> Doc:
    """Upgrade while it answers, and roll back; its status at the end."""
    began = time.monotonic()
    name = space.apply(
        "gpu.yaml",
        name="upgraded",
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": documents}],
        cache={"reuseAnswers": "Never"},
    )
    space.until(name, "answering", lambda status: done(status) > 0)
    jobs, pods, operators = uids(space, "jobs"), uids(space, "pods"), operator_pods(guide)
    before = done(space.status(name))
    changed = {**guide_values(guide), "logLevel": "debug", "podAnnotations": {"upgraded": "yes"}}
    (guide.folder / "values.yaml").write_text(yaml.safe_dump(changed))
    upgraded = time.monotonic()
    guide.follow("helm upgrade")
    after = space.status(name)
    assert before < documents, f"the run had ended before the upgrade: {before}"
    assert "completionTime" not in after, "the run ended during the upgrade: --documents"
    assert operators.isdisjoint(operator_pods(guide))
    guide.row(
        "helm upgrade --wait, under the run",
        upgraded,
        f"{len(operators)} replicas replaced; the run had {before} of {documents} answers, "
        f"then {done(after)}, phase {after['phase']}",
    )
    status = space.finished(name)
    assert status["phase"] == "Succeeded", status["conditions"]
    assert jobs <= uids(space, "jobs")
    assert pods <= uids(space, "pods")
    answers = status["answers"]
    assert (answers.get("computed"), answers.get("reused") or 0) == (documents, 0), answers
    assert not status["shards"].get("restarts")
    guide.row(
        "the run, applied to Ready",
        began,
        f"{status['headline']}; {documents} answers computed once, no pod replaced, "
        f"{len(space.writes(name))} writes",
    )
    told = guide.follow("helm history")
    assert "superseded" in told
    began = time.monotonic()
    guide.follow("helm rollback")
    assert space.status(name) == status
    guide.row("helm rollback --wait", began, "revision 1 again; the run's status is unchanged")
    return status


def done(status: Doc) -> int:
    """Answers so far."""
    return int((status.get("progress") or {}).get("requestsDone") or 0)


def uids(space: Space, what: str) -> set[str]:
    found = json.loads(space.kubectl("get", what, "-o", "json"))["items"]
    return {item["metadata"]["uid"] for item in found}


def operator_pods(guide: Guide) -> set[str]:
    """Uids of the replicas that are not about to end."""
    select = ("get", "pods", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator")
    found = json.loads(guide.cluster.kubectl(*select, "-o", "json").stdout)["items"]
    metadata = [pod["metadata"] for pod in found]
    return {each["uid"] for each in metadata if "deletionTimestamp" not in each}


def remove(guide: Guide, space: Space, status: Doc) -> list[str]:
    """Uninstall while a run answers, and install anew: both runs are there, and that one ends.

    Lines of the audit log before the one and after the other.
    """
    name = space.apply(
        "gpu.yaml",
        name="kept",
        benchmarks=[{"benchmarkRef": {"name": "easy-vqa"}, "limit": 400}],
        cache={"reuseAnswers": "Never"},
    )
    space.until(name, "answering", lambda status: status.get("phase") == "Answering")
    jobs = uids(space, "jobs")
    began = time.monotonic()
    before = guide.cluster.audit_log.read_text().splitlines()
    guide.follow("helm uninstall")
    told = guide.follow("kubectl get evr")
    assert {"upgraded", name} <= set(told.split())
    assert space.status("upgraded") == status
    assert uids(space, "jobs") == jobs
    guide.row("helm uninstall", began, f"2 runs and {len(jobs)} Jobs are kept, and both CRDs")
    began = time.monotonic()
    install_again = next(line for line in commands() if line.startswith("helm install"))
    guide.run(install_again)
    without = len(guide.cluster.audit_log.read_text().splitlines())
    ended = space.finished(name)
    assert ended["phase"] == "Succeeded", ended["conditions"]
    assert space.status("upgraded") == status
    assert jobs <= uids(space, "jobs")
    guide.row("helm install, and the run's end", began, f"{ended['headline']}, taken up at work")
    restricted = json.loads(space.kubectl("get", "pods", "-o", "json"))["items"]
    guide.row(
        "restricted",
        time.monotonic(),
        f"{len(restricted)} pods of runs and the release's, all admitted",
    )
    return before + guide.cluster.audit_log.read_text().splitlines()[without:]


def check_rights(guide: Guide, lines: list[str]) -> int:
    """No request of the operator was refused, and all are granted; how many kinds there were.

    lines: of the audit log, without those of an uninstall, which takes the rights before the pods.
    """
    documents = guide.helm.documents(guide.folder / "values.yaml", hooks=False)
    grants = granted(documents, RELEASE)
    requests, _ = asked(lines, USER)
    assert lacking(grants, requests) == []
    kinds: set[Any] = {(request.group, request.resource, request.verb) for request in requests}
    told = f"{len(kinds)} kinds, all granted, none refused"
    guide.row("the operator's requests", time.monotonic(), told)
    return len(kinds)


if __name__ == "__main__":
    sys.exit(main())
