"""Runs that cannot succeed: each says why, in a reason of its own, and what to do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from space import Space, merged

pytestmark = [pytest.mark.e2e, pytest.mark.filterwarnings("ignore")]


SMALL = {"resources": {"cpu": "50m", "memory": "1536Mi"}}


def runs(custom_image: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """The expected reason, and the spec, by name."""
    return {
        "wrong-model-path": (
            "ModelNotFound",
            {"model": {"source": {"volume": {"path": "no-such-model"}}}},
        ),
        "missing-secret": (
            "SecretNotFound",
            {
                "results": {"s3": {"uri": "s3://evaluations/x", "secretName": "nobody-made-it"}},
                "startDeadlineSeconds": 40,
            },
        ),
        "unreachable-s3": (
            "StoreUnavailable",
            {
                "results": {
                    "s3": {
                        "uri": "s3://evaluations/x",
                        "endpoint": "http://127.0.0.1:9",
                        "secretName": "demo-s3",
                    }
                },
                "retryLimit": 0,
            },
        ),
        "out-of-memory": (
            "OutOfMemory",
            {"preparePod": {"resources": {"memory": "200Mi"}}, "retryLimit": 1},
        ),
        "unpullable-image": (
            "ImagePullFailed",
            {
                "answerPod": {"image": "registry.invalid/nobody/made:it"},
                "startDeadlineSeconds": 40,
            },
        ),
        "too-many-gpus": (
            "Unschedulable",
            {"parallelism": {"acceleratorsPerShard": 64}, "startDeadlineSeconds": 20},
        ),
        "unknown-task": (
            "UnknownBenchmark",
            {
                "answerPod": {"image": custom_image},
                "benchmarks": [{"name": "mme"}],
            },
        ),
        "over-its-deadline": ("DeadlineExceeded", {"activeDeadlineSeconds": 6}),
    }


def test_eight_runs_fail_for_eight_reasons_that_say_what_to_do(
    space: Space,
    show_message: Callable[[object, str], None],
    show_figure: Callable[[str], None],
    clock: Callable[[], str],
) -> None:
    image = space.cluster.derive_image(
        "lmms-eval.io/runner:dev",
        "lmms-eval.io/runner:without-mme",
        removed=["opt/evalrun/lib/python3.11/site-packages/lmms_eval/tasks/mme"],
    )
    expected = runs(image)
    for name, (_, spec) in expected.items():
        # Small requests: none may wait for room on the node.
        space.apply("gpu.yaml", name=name, **merged({"preparePod": SMALL}, spec))
    found = {}
    for name in expected:
        status = space.finished(name)
        failed = space.condition(name, "Failed")
        found[name] = failed["reason"]
        show_message(failed["reason"], f"{name}: {failed['message']}")
        assert status["phase"] == "Failed"
        assert len(failed["message"]) > 40
        assert space.condition(name, "Ready")["status"] == "False"
        assert space.condition(name, "Stalled")["status"] == "True"
    assert "nvidia.com/gpu" in space.condition("too-many-gpus", "Failed")["message"]
    assert found == {name: reason for name, (reason, _) in expected.items()}
    assert len(set(found.values())) == len(expected)

    # What cannot be mended by trying again is tried once, the rest as often as it may be.
    tried = {name: len(space.pods(name, "prepare")) for name in ("unknown-task", "out-of-memory")}
    assert tried == {"unknown-task": 1, "out-of-memory": 2}

    # Nothing holds a GPU any more, or waits for one.
    for name in expected:
        left = [
            pod["metadata"]["name"]
            for pod in space.pods(name)
            if pod["status"]["phase"] in ("Pending", "Running")
            and "deletionTimestamp" not in pod["metadata"]
        ]
        assert left == []
    describe = space.kubectl("describe", "evr", "missing-secret")
    assert "SecretNotFound" in describe
    show_figure(
        f"eight runs, eight reasons in {clock()}\nkubectl describe evr missing-secret:\n{describe}"
    )


def test_what_is_refused_before_any_gpu(
    space: Space, show_message: Callable[[object, str], None]
) -> None:
    stranger = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "taken-prepare"},
        "spec": {
            "suspend": True,
            "template": {
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "c", "image": "lmms-eval.io/runner:dev"}],
                }
            },
        },
    }
    space.kubectl("apply", "-f", "-", input=json.dumps(stranger))
    half = {"AWS_ACCESS_KEY_ID": space.cluster.s3.access_key}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "half"}}
    space.kubectl("apply", "-f", "-", input=json.dumps({**secret, "stringData": half}))
    bucket = {"uri": "s3://nobody-made-it/x", "endpoint": space.cluster.s3.endpoint}
    keyless = {"uri": "s3://evaluations/x", "secretName": "half"}
    expected: dict[str, tuple[str, str, dict[str, Any]]] = {
        "missing-key": (
            "SecretNotFound",
            "AWS_SECRET_ACCESS_KEY",
            {"results": {"s3": keyless}, "startDeadlineSeconds": 40},
        ),
        "missing-bucket": (
            "BucketNotFound",
            "nobody-made-it",
            {"results": {"s3": {**bucket, "secretName": "demo-s3"}}},
        ),
        "taken": ("NameTaken", "taken-prepare", {}),
        "forbidden-flag": (
            "InvalidSpec",
            "spec.security.allowOnline",
            {"security": {"allowOnline": True}},
        ),
        "unknown-benchmark": (
            "InvalidSpec",
            "did you mean",
            {"benchmarks": [{"name": "mmme"}]},
        ),
        "unknown-backend": (
            "InvalidSpec",
            "spec.model.backend",
            {"model": {"profile": None, "backend": "llava_hff"}},
        ),
        "unknown-store": ("InvalidSpec", "demo", {"results": {"store": "dmeo"}}),
    }
    for name, (_, _, spec) in expected.items():
        space.apply("gpu.yaml", name=name, **merged({"preparePod": SMALL}, spec))
    for name, (reason, word, _) in expected.items():
        space.finished(name, 120)
        failed = space.condition(name, "Failed")
        show_message(failed["reason"], f"{name}: {failed['message']}")
        assert failed["reason"] == reason
        assert word in failed["message"]
        if reason in ("InvalidSpec", "NameTaken"):
            assert space.pods(name) == []
    left = json.loads(space.kubectl("get", "job", "taken-prepare", "-o", "json"))
    assert "ownerReferences" not in left["metadata"]
    assert left["spec"]["suspend"] is True
