"""Which store a run's answers and results go to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from evalrun_api.errors import Fault, Refused
from evalrun_api.plan import StorePlan
from evalrun_api.sources import ADDRESS_PATTERN, ResultsSpec

DEFAULT_FOLDER = "evalrun-results"


@dataclass(frozen=True)
class StoreChoice:
    """What the command line says about the store."""

    uri: str | None = None
    endpoint: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Destination:
    """A store, and what chose it."""

    store: StorePlan
    origin: str


def destination(
    choice: StoreChoice, results: ResultsSpec | None, volumes: dict[str, Path], directory: Path
) -> Destination:
    """The command line's store, else the run's (`volumes` has its claim), else a folder here.

    Raises `Refused`.
    """
    if choice.uri is not None:
        return Destination(_with_options(_parse(choice.uri, directory), choice), "--store")
    if results is None:
        store = StorePlan(uri=(directory / DEFAULT_FOLDER).as_uri())
        return Destination(_with_options(store, choice), "default")
    if results.store is not None:
        what = f"the store {results.store!r} is of a cluster's configuration, unknown here"
        remedy = "Say where results go on this machine: --store s3://BUCKET/PREFIX or --store DIR"
        raise Refused([Fault("spec.results.store", what, remedy)])
    if results.volume is not None:
        folder = volumes[results.volume.claim_name] / results.volume.path
        store = StorePlan(uri=folder.as_uri())
        return Destination(_with_options(store, choice), "run, spec.results.volume")
    if results.s3 is None:
        raise ValueError("results names no store, which its own document forbids")
    store = StorePlan(uri=results.s3.uri, endpoint=results.s3.endpoint, region=results.s3.region)
    return Destination(_with_options(store, choice), "run, spec.results.s3")


def _parse(text: str, directory: Path) -> StorePlan:
    parts = urlsplit(text)
    if parts.scheme == "s3" and parts.netloc:
        return StorePlan(uri=text)
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path:
        return StorePlan(uri=text)
    if not text or "://" in text or parts.scheme in ("s3", "file"):
        remedy = "Use s3://BUCKET/PREFIX, file:///ABSOLUTE/FOLDER, or the path of a folder"
        raise Refused([Fault("--store", f"{text!r} is not a store", remedy)])
    return StorePlan(uri=(directory / Path(text).expanduser()).resolve().as_uri())


def _with_options(store: StorePlan, choice: StoreChoice) -> StorePlan:
    if choice.endpoint is None and choice.region is None:
        return store
    if not store.uri.startswith("s3://"):
        option = "--s3-endpoint" if choice.endpoint is not None else "--s3-region"
        what = f"the store is {store.uri}, not a bucket"
        raise Refused([Fault(option, what, "Give --store s3://BUCKET/PREFIX too, or leave it out")])
    endpoint = choice.endpoint
    if endpoint is not None and not re.fullmatch(ADDRESS_PATTERN, endpoint):
        what = f"{endpoint!r} is not an address"
        remedy = "Write it with http:// or https://, without user, query (?) or fragment (#)"
        raise Refused([Fault("--s3-endpoint", what, remedy)])
    return store.model_copy(
        update={
            "endpoint": endpoint or store.endpoint,
            "region": choice.region or store.region,
        }
    )
