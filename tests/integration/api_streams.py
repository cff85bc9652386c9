"""The API server over plain HTTP, through `kubectl proxy`: quick requests, and watches kept."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
from contextlib import closing, suppress
from typing import Any

from cluster.access import until
from cluster.control_plane import ControlPlane
from cluster.ports import free_ports
from cluster.processes import without_proxy

RUNS = "/apis/lmms-eval.io/v1alpha1/namespaces/{}/evaluationruns"
JOBS = "/apis/batch/v1/namespaces/{}/jobs"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/{}/leases"


class Streams:
    """An administrator's connections. To be closed."""

    def __init__(self, api_server: ControlPlane) -> None:
        (self.port,) = free_ports("127.0.0.1", 1)
        self._readers: list[threading.Thread] = []
        self._process = subprocess.Popen(
            [
                *(api_server.tools["kubectl"], "--kubeconfig", api_server.kubeconfig),
                *("proxy", f"--port={self.port}"),
            ],
            env=without_proxy(),
            stdout=subprocess.DEVNULL,
        )
        until("kubectl proxy", self._answers, 20)

    def close(self) -> None:
        """End all, the watches with it."""
        self._process.terminate()
        self._process.wait()
        for reader in self._readers:
            reader.join()

    def create(self, path: str, document: dict[str, Any]) -> None:
        """Create an object."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        body = json.dumps(document)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        said = answer.read()
        assert answer.status == 201, said
        connection.close()

    def watch(self, path: str) -> list[dict[str, Any]]:
        """The events of a watch, which become more; each with the time at which it `arrived`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", f"{path}?watch=1")
        answer = connection.getresponse()
        events: list[dict[str, Any]] = []

        def read() -> None:
            with closing(connection), suppress(OSError, http.client.HTTPException):
                for line in answer:
                    events.append(json.loads(line) | {"arrived": time.monotonic()})

        reader = threading.Thread(target=read)
        reader.start()
        self._readers.append(reader)
        return events

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()


def added(events: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each object the event of its creation, by name. Fails where one was created twice."""
    found = [event for event in events if event["type"] == "ADDED"]
    names = [event["object"]["metadata"]["name"] for event in found]
    assert len(set(names)) == len(names), names
    return dict(zip(names, found, strict=True))


def version(event: dict[str, Any]) -> int:
    """Of etcd, when an object became so: one order for all objects."""
    return int(event["object"]["metadata"]["resourceVersion"])
