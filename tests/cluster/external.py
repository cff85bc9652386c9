"""A cluster that somebody else runs, opted in by EVALRUN_TEST_KUBECONFIG."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cluster.access import Access
from cluster.s3 import S3
from cluster.tools import MissingError, Tools


class ExternalCluster(Access):
    """What tests may do with it; a test that needs more of a cluster skips.

    Environment: EVALRUN_TEST_S3_ENDPOINT with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and
    EVALRUN_TEST_S3_BUCKET, reachable from here and from pods; EVALRUN_TEST_OPERATOR_IMAGE and
    EVALRUN_TEST_RUNNER_IMAGE, which its nodes can pull.
    """

    @property
    def s3(self) -> S3:
        """The store that the environment names."""
        return S3(
            _given("EVALRUN_TEST_S3_ENDPOINT"),
            access_key=_given("AWS_ACCESS_KEY_ID"),
            secret_key=_given("AWS_SECRET_ACCESS_KEY"),
            bucket=_given("EVALRUN_TEST_S3_BUCKET"),
        )

    def __getattr__(self, name: str) -> object:
        if name.startswith("_"):
            raise AttributeError(name)
        pytest.skip(f"the cluster of EVALRUN_TEST_KUBECONFIG has no `{name}`")


def _given(name: str) -> str:
    if value := os.environ.get(name):
        return value
    pytest.skip(f"{name} is not set, which the cluster of EVALRUN_TEST_KUBECONFIG needs here")


def opted_in() -> ExternalCluster | None:
    """That cluster, if there is one. Raises MissingError."""
    kubeconfig = os.environ.get("EVALRUN_TEST_KUBECONFIG")
    if not kubeconfig:
        return None
    if not Path(kubeconfig).is_file():
        raise MissingError(f"EVALRUN_TEST_KUBECONFIG is no file: {kubeconfig}")
    return ExternalCluster(Tools.find(["kubectl"]), Path(kubeconfig))
