"""A real Prometheus, and promtool: from Debian's package."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cluster import places, tools
from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.ports import free_ports
from cluster.progress import step
from cluster.tools import MissingError

ADDRESS = "127.0.0.1"
SCRAPE_SECONDS = 1

Doc = dict[str, Any]


def folder() -> Path:
    """What is unpacked."""
    return places.cache() / f"prometheus-{places.DEBIAN}"


def get() -> None:
    """Unpack it, unless it is in the cache. Raises MissingError."""
    with tools.one_at_a_time("prometheus"):
        if folder().is_dir():
            return
        if shutil.which("apt-get") is None:
            raise MissingError("Prometheus comes from a Debian package, and there is no apt-get")
        with step("unpacking Prometheus"), tools.new_folder(folder()) as new:
            tools.unpack("prometheus", new)


def program(name: str) -> Path:
    """prometheus or promtool. Raises MissingError."""
    found = folder() / "usr" / "bin" / name
    if not found.is_file():
        raise MissingError(f"{name} is not here: `make dashboards-tools` gets it")
    return found


def promtool(*arguments: str, cwd: Path, given: str | None = None) -> tuple[int, str]:
    """Run promtool: its exit code, and what it wrote. given: on its standard input."""
    done = subprocess.run(
        [program("promtool"), *arguments],
        cwd=cwd,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


class Prometheus:
    """It scrapes every second, and ends with the control plane.

    Targets are of two kinds: what the operator says of namespaces and runs is true (honorLabels),
    what pods say of themselves is not: their labels come from where they were found.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._folder = plane.folder / "prometheus"
        self._folder.mkdir()
        self.target("operator", [])
        self.target("runner", [])
        jobs = [
            {
                "job_name": name,
                "honor_labels": name == "operator",
                "file_sd_configs": [{"files": [f"{name}.json"], "refresh_interval": "1s"}],
            }
            for name in ("operator", "runner")
        ]
        seconds = f"{SCRAPE_SECONDS}s"
        config = {
            "global": {"scrape_interval": seconds, "scrape_timeout": seconds},
            "scrape_configs": jobs,
        }
        file = self._folder / "prometheus.yml"
        file.write_text(json.dumps(config))
        (port,) = free_ports(ADDRESS, 1)
        self._address = f"http://{ADDRESS}:{port}"
        child = plane.start_beside(
            "prometheus",
            [
                program("prometheus"),
                f"--config.file={file}",
                f"--storage.tsdb.path={self._folder / 'data'}",
                f"--web.listen-address={ADDRESS}:{port}",
            ],
            {},
        )

        def is_ready() -> bool:
            child.check()
            try:
                with urllib.request.urlopen(f"{self._address}/-/ready", timeout=2) as it:
                    return bool(it.status == 200)
            except OSError:
                return False

        until("Prometheus is ready", is_ready, 60)

    def target(
        self, job: str, addresses: Sequence[str], labels: Mapping[str, str] | None = None
    ) -> None:
        """What a job scrapes from now on, and the labels that its series get."""
        found = [{"targets": list(addresses), "labels": dict(labels or {})}] if addresses else []
        new = self._folder / f"{job}.new"
        new.write_text(json.dumps(found))
        new.rename(self._folder / f"{job}.json")

    def at(self, query: str, time: float) -> list[Doc]:
        """The series of a query at a moment, each with one value."""
        found = self._ask("query", query=query, time=str(time))
        return [{**one, "values": [one["value"]]} for one in found["result"]]

    def over(self, query: str, since: float, end: float, step: float) -> list[Doc]:
        """The series of a query over a time."""
        asked = {"start": str(since), "end": str(end), "step": str(step)}
        found: list[Doc] = self._ask("query_range", query=query, **asked)["result"]
        return found

    def label_values(self, label: str, selector: str) -> list[str]:
        """What Grafana's label_values gives."""
        now = time.time()
        asked = {"match[]": selector, "start": str(now - 3600), "end": str(now)}
        found: list[str] = self._ask(f"label/{label}/values", **asked)
        return found

    def _ask(self, path: str, **asked: str) -> Any:
        url = f"{self._address}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as it:
                return json.load(it)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{asked}: {error.read().decode()}") from error
