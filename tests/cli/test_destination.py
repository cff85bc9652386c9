"""Which store a command line and a manifest choose."""

from __future__ import annotations

from pathlib import Path

import pytest

from evalrun_api.errors import Refused
from evalrun_api.reading import read
from evalrun_api.sources import ResultsSpec
from evalrun_cli.destination import StoreChoice, destination

pytestmark = pytest.mark.decisions
HERE = Path("/here")


@pytest.mark.parametrize(
    ("choice", "results", "uri", "origin"),
    [
        (StoreChoice(), None, "file:///here/evalrun-results", "default"),
        (StoreChoice("out"), {"store": "team"}, "file:///here/out", "--store"),
        (StoreChoice("/abs/out"), None, "file:///abs/out", "--store"),
        (StoreChoice("s3://evals/team"), None, "s3://evals/team", "--store"),
        (StoreChoice("file:///x"), None, "file:///x", "--store"),
        (StoreChoice(), {"s3": {"uri": "s3://evals"}}, "s3://evals", "run, spec.results.s3"),
        (
            StoreChoice(),
            {"volume": {"claimName": "out", "path": "a b"}},
            "file:///volumes/out/a%20b",
            "run, spec.results.volume",
        ),
    ],
)
def test_the_command_line_wins_over_the_run_and_the_run_over_the_default(
    choice: StoreChoice, results: object, uri: str, origin: str
) -> None:
    spec = read(ResultsSpec, results) if results else None
    found = destination(choice, spec, {"out": Path("/volumes/out")}, HERE)
    assert (found.store.uri, found.origin) == (uri, origin)


def test_endpoint_and_region_of_the_command_line_win_over_the_run() -> None:
    spec = read(ResultsSpec, {"s3": {"uri": "s3://evals", "endpoint": "http://a", "region": "x"}})
    store = destination(StoreChoice(endpoint="http://b"), spec, {}, HERE).store
    assert (store.endpoint, store.region) == ("http://b", "x")


@pytest.mark.parametrize(
    ("choice", "where"),
    [
        (StoreChoice("gs://evals"), "--store"),
        (StoreChoice("s3://"), "--store"),
        (StoreChoice(""), "--store"),
        (StoreChoice("file://host/x"), "--store"),
        (StoreChoice("out", endpoint="http://a"), "--s3-endpoint"),
        (StoreChoice(region="eu-1"), "--s3-region"),
        (StoreChoice("s3://evals", endpoint="minio:9000"), "--s3-endpoint"),
        (StoreChoice("s3://evals", endpoint="http://minio?api-key=x"), "--s3-endpoint"),
        (StoreChoice("s3://evals", endpoint="http://user:x@minio"), "--s3-endpoint"),
    ],
)
def test_a_store_that_cannot_be_is_refused(choice: StoreChoice, where: str) -> None:
    with pytest.raises(Refused) as refused:
        destination(choice, None, {}, HERE)
    assert refused.value.faults[0].where == where


def test_a_store_of_a_cluster_is_refused_with_the_option_to_use_here() -> None:
    with pytest.raises(Refused, match=r"spec\.results\.store.*--store"):
        destination(StoreChoice(), read(ResultsSpec, {"store": "team"}), {}, HERE)
