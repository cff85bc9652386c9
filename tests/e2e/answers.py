"""What a run's pods did: their last words, as a watch saw them, and what each has stored."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from space import Space
from still import hold

from cluster.processes import without_proxy
from evalrun_api.journal import Record
from evalrun_runner.journal.segments import read_segment

Doc = dict[str, Any]

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
STEP = "lmms-eval.io/step"
UID_LENGTH = 36


class Seen:
    """Every pod of a run as it last was, also those that are gone."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def pods(self, step: str = "answer") -> list[Doc]:
        """The pods of a step."""
        text, position, found = self._file.read_text(), 0, {}
        decoder = json.JSONDecoder()
        while position < len(text):
            document, position = decoder.raw_decode(text, position)
            found[document["metadata"]["uid"]] = document
            position += len(text[position:]) - len(text[position:].lstrip())
        return [pod for pod in found.values() if pod["metadata"]["labels"][STEP] == step]


@contextmanager
def watching(space: Space, name: str, folder: Path) -> Iterator[Seen]:
    """Watch a run's pods. What is seen is to be read when the watch has ended."""
    file = folder / "pods.json"
    command = [
        *(space.cluster.tools["kubectl"], "--kubeconfig", space.cluster.kubeconfig),
        *("-n", space.namespace, "get", "pods", "-l", f"lmms-eval.io/run={name}"),
        *("--watch", "-o", "json"),
    ]
    with (
        file.open("w") as target,
        subprocess.Popen(command, stdout=target, env=without_proxy()) as watch,
    ):
        try:
            yield Seen(file)
        finally:
            watch.terminate()


def ended(pod: Doc) -> Doc:
    """How the container of a pod ended; empty if it did not."""
    states = pod["status"].get("containerStatuses") or [{}]
    found: Doc = (states[0].get("state") or {}).get("terminated") or {}
    return found


def last_word(pod: Doc) -> Doc:
    """Its termination message; empty if it left none."""
    found: Doc = json.loads(ended(pod).get("message") or "{}")
    return found


def held_seconds(pod: Doc) -> float:
    """For how long a pod held its node's accelerators."""
    finished = ended(pod).get("finishedAt")
    if not finished:
        return 0.0
    conditions = {entry["type"]: entry for entry in pod["status"]["conditions"]}
    bound = conditions["PodScheduled"]["lastTransitionTime"]
    return (datetime.fromisoformat(finished) - datetime.fromisoformat(bound)).total_seconds()


class Writer(NamedTuple):
    """Who wrote a segment: a worker of a pod."""

    uid: str
    worker: str


def stored(space: Space, digest: str) -> dict[Writer, list[Record]]:
    """The journal's records by who wrote them."""
    client, bucket = space.cluster.s3.client(), space.cluster.s3.bucket
    prefix = f"demo/answers/{space.namespace}/{digest}/segments/"
    found: dict[Writer, list[Record]] = defaultdict(list)
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for entry in page.get("Contents", ()):
            data = client.get_object(Bucket=bucket, Key=entry["Key"])["Body"].read()
            segment = Path(entry["Key"]).name
            writer = Writer(segment[:UID_LENGTH], segment[UID_LENGTH + 1 :].partition("-")[0])
            found[writer] += read_segment(data, entry["Key"])
    return found


def by_pod(journal: Mapping[Writer, list[Record]]) -> dict[str, list[Record]]:
    """The same by the uid of the pod."""
    found: dict[str, list[Record]] = defaultdict(list)
    for writer, records in journal.items():
        found[writer.uid] += records
    return found


def index_of(pod: Doc) -> int:
    """Which shard a pod answers."""
    return int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])


def computed_by(pod: Doc) -> int:
    """Answers that a pod says it has computed; 0 while it does not serve."""
    try:
        with OPENER.open(f"http://{pod['status']['podIP']}:8080/progress", timeout=2) as answer:
            return int(json.load(answer)["computed"])
    except (OSError, KeyError):
        return 0


def hold_all_at_work(
    space: Space, name: str, shards: int, seconds: float = 240
) -> tuple[dict[int, Doc], dict[str, int]]:
    """For each shard its pod, held still with answers of its own; how many, by the pod's uid."""
    found: dict[int, Doc] = {}
    computed: dict[str, int] = {}
    deadline = time.monotonic() + seconds
    while len(found) < shards:
        assert time.monotonic() < deadline, space.kubectl("get", "pods")
        for pod in space.pods(name, "answer"):
            if index_of(pod) not in found and (count := computed_by(pod)):
                hold(pod["metadata"]["uid"])
                found[index_of(pod)], computed[pod["metadata"]["uid"]] = pod, count
        time.sleep(0.2)
    return found, computed
