"""What `helm test` does: asks the operator's endpoints and the API, and runs a run if one is given.

The image's Python is all that is here, so it speaks plain HTTP. Exit code 0: all is well.
"""

from __future__ import annotations

import argparse
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
GROUP = "/apis/lmms-eval.io/v1alpha1"
PROBE = {
    "model": {"profile": "llava_hf", "source": {"volume": {"claimName": "models"}}},
    "benchmarks": [{"name": "mme"}],
}
"""A spec that is valid, and with no benchmarks is not. It is sent as a dry run only."""

PAUSE = 1.0
PATIENCE = 60.0
"""Seconds for a replica to take the Lease: the last leader's may have to run out."""
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Proxies of the environment are for the outside."""

Doc = dict[str, Any]


class Api:
    """The API server, with the pod's own service account."""

    def __init__(self) -> None:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
        self._server = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        context = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )

    def ask(self, method: str, path: str, body: Doc | None = None) -> tuple[int, Doc]:
        """Code and document of the answer; 0 and a message if there is none."""
        request = urllib.request.Request(  # noqa: S310 - the scheme is fixed above
            self._server + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {(ACCOUNT / 'token').read_text().strip()}",
                "Content-Type": "application/json",
            },
        )
        try:
            with self._opener.open(request, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as refused:
            return refused.code, json.load(refused)
        except OSError as error:
            return 0, {"message": str(error)}


def create(api: Api, what: str, expected: int, path: str, document: Doc) -> None:
    """Create an object. Another answer than the expected one is the end."""
    code, answer = api.ask("POST", path, document)
    if code != expected:
        sys.exit(f"FAILED {what}: {code} {answer.get('message')}")
    print(f"ok     {what}")


def main() -> None:
    """Ask, and run. Ends the process."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", required=True, metavar="NAMESPACE/NAME")
    parser.add_argument("--run", required=True, type=Path, metavar="FILE")
    parser.add_argument("--timeout", required=True, type=float, metavar="SECONDS")
    options = parser.parse_args()
    api = Api()
    ask_replicas(api, options.service)
    run: Doc = json.loads(options.run.read_text())
    ask_the_api(api, run)
    if run["spec"]:
        evaluate(api, run, options.timeout)


def ask_replicas(api: Api, service: str, patience: float = PATIENCE) -> None:
    """Every replica behind the Service is ready, and one of them leads, soon."""
    deadline = time.monotonic() + patience
    while (fault := _fault(api, service)) and time.monotonic() < deadline:
        time.sleep(PAUSE)
    if fault:
        sys.exit(f"FAILED {fault}")


def _fault(api: Api, service: str) -> str:
    """What is wrong with the replicas; empty when nothing is, which is told."""
    namespace, _, name = service.partition("/")
    selector = f"kubernetes.io%2Fservice-name%3D{name}"
    path = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    code, found = api.ask("GET", f"{path}?labelSelector={selector}")
    if code != 200:
        return f"the Service {service}: {code} {found.get('message')}"
    places = [
        (address, port["port"])
        for piece in found["items"]
        for endpoint in piece.get("endpoints") or ()
        if endpoint.get("conditions", {}).get("ready")
        for address in endpoint["addresses"]
        for port in piece["ports"]
    ]
    if not places:
        return f"the Service {service} has no ready endpoint"
    roles = []
    for address, port in places:
        url = f"http://{f'[{address}]' if ':' in address else address}:{port}/readyz"
        try:
            with DIRECT.open(url, timeout=10) as answer:
                roles.append(str(json.load(answer)["role"]))
        except OSError as error:
            return f"{url}: {error}"
    told = f"behind the Service {service}: {', '.join(sorted(roles))}"
    if "leader" not in roles:
        return f"no replica leads {told}"
    print(f"ok     {len(places)} ready {told}")
    return ""


def ask_the_api(api: Api, run: Doc) -> None:
    """The kind is served, takes a valid run and refuses a wrong one; nothing is kept of either."""
    path = f"{runs(run)}?dryRun=All&fieldValidation=Strict"
    metadata = {"name": f"{run['metadata']['name'][:44]}-probe"}
    valid = {**run, "metadata": metadata, "spec": PROBE}
    wrong = {**valid, "spec": {**PROBE, "benchmarks": []}}
    create(api, "a valid run is accepted (dry run)", 201, path, valid)
    create(api, "a run without benchmarks is refused", 422, path, wrong)


def runs(run: Doc) -> str:
    """Where runs of the namespace are."""
    return f"{GROUP}/namespaces/{run['metadata']['namespace']}/evaluationruns"


def evaluate(api: Api, run: Doc, timeout: float) -> None:
    """Apply the run, wait for its end, and delete it if that was good."""
    own, began = f"{runs(run)}/{run['metadata']['name']}", time.monotonic()
    name = f"{run['metadata']['namespace']}/{run['metadata']['name']}"
    if api.ask("GET", own)[0] == 200:  # of a test that failed, and was looked at
        api.ask("DELETE", own)
        while api.ask("GET", own)[0] != 404:
            if time.monotonic() - began > timeout:
                sys.exit(f"FAILED the old run {name} does not go away")
            time.sleep(PAUSE)
    create(api, f"run {name} is applied", 201, runs(run), run)
    said = ""
    while True:
        code, found = api.ask("GET", own)
        if code in (403, 404):
            sys.exit(f"FAILED run {name}: {code} {found.get('message')}")
        status: Doc = found.get("status") or {}
        conditions = {entry["type"]: entry for entry in status.get("conditions", ())}
        if (phase := str(status.get("phase", ""))) != said:
            said = phase
            print(f"       {time.monotonic() - began:4.0f} s  {phase}")
        if "completionTime" in status:
            break
        if time.monotonic() - began > timeout:
            why = conditions.get("Reconciling", {}).get("message")
            sys.exit(f"FAILED run {name} has not ended in {timeout:.0f} s: {why}")
        time.sleep(PAUSE)
    ready = conditions.get("Ready", {})
    if ready.get("status") != "True":
        sys.exit(f"FAILED run {name}: {ready.get('reason')}: {ready.get('message')}")
    print(f"ok     run {name} is Ready: {status.get('headline')}")
    api.ask("DELETE", own)


if __name__ == "__main__":
    main()
