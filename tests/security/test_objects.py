"""A hostile S3 object: somebody writes to the store, or to another tenant's part of it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import tarfile
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import zstandard
from attacks import OBJECT, Gets, attack
from lives import GPU, Life, begin, reason_of
from tenancy import USERS, Tenants
from typer.testing import CliRunner
from world import Fate

from evalrun_api.errors import EvalrunError
from evalrun_api.manifest import Manifest
from evalrun_api.plan import RunIdentity
from evalrun_api.termination import TerminationMessage
from evalrun_cli.main import app
from evalrun_cli.records import manifest_of
from evalrun_runner import layout
from evalrun_runner.data.archive import PART_BYTES, part_key, part_sizes
from evalrun_runner.data.index import ArchiveIndex, Contents, Link, Member, Part
from evalrun_runner.data.restore import restore
from evalrun_runner.journal.reading import read_index
from evalrun_runner.stores import Store

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

A = RunIdentity(namespace="team-a", name="shapes", uid="0000-a")
B = RunIdentity(namespace="team-b", name="shapes", uid="1111-b")


@pytest.fixture
def victim(tenants: Tenants) -> Store:
    """The store of team-b, with a run and its answers."""
    store = tenants.store("team-b")
    store.put(layout.manifest(B), b"the manifest")
    store.put(layout.lock("team-b", "d" * 64), b"the lock")
    return store


def refused(gets: Gets, action: Any, *reasons: str) -> str:
    """The action fails with one of the reasons."""
    with pytest.raises(EvalrunError) as caught:
        action()
    assert caught.value.reason.name in reasons, caught.value
    gets(f"{caught.value.reason.name}: {caught.value}")
    return str(caught.value)


@attack(31, OBJECT, "reads another tenant's results and answers with the credentials of its own")
def test_another_tenant_s_objects_are_not_read(tenants: Tenants, victim: Store, gets: Gets) -> None:
    mallory = tenants.store("team-a", uri=tenants.plan("team-b").uri)
    refused(gets, lambda: mallory.get(layout.manifest(B)), "AccessDenied")
    refused(gets, lambda: list(mallory.list("")), "AccessDenied")
    whole = tenants.store("team-a", uri="s3://evaluations")
    refused(gets, lambda: list(whole.list("team-b/")), "AccessDenied")


@attack(32, OBJECT, "writes over, creates and deletes another tenant's results and answers")
def test_another_tenant_s_objects_are_not_written(
    tenants: Tenants, victim: Store, gets: Gets
) -> None:
    mallory = tenants.store("team-a", uri=tenants.plan("team-b").uri)
    segment = f"{layout.segments('team-b', 'd' * 64)}evil-000001.jsonl.zst"
    refused(gets, lambda: mallory.put(layout.manifest(B), b"mine"), "AccessDenied")
    refused(gets, lambda: mallory.create(segment, b"mine"), "AccessDenied")
    refused(gets, lambda: mallory.delete(layout.lock("team-b", "d" * 64)), "AccessDenied")
    refused(gets, mallory.check, "AccessDenied")
    assert victim.get(layout.manifest(B)) == b"the manifest"
    assert victim.get(layout.lock("team-b", "d" * 64)) == b"the lock"
    assert victim.get(segment) is None
    tenants.store("team-a").check()  # its own is in order


@attack(33, OBJECT, "climbs out of its own prefix: team-a/../team-b, %2e%2e, a longer name")
@pytest.mark.parametrize("climb", ["team-a/../team-b", "team-a/%2e%2e/team-b", "team-a-b", "team-"])
def test_a_prefix_is_not_left(tenants: Tenants, victim: Store, gets: Gets, climb: str) -> None:
    mallory = tenants.store("team-a")
    mallory.put("own", b"1")
    wanderer = tenants.store("team-a", uri=f"s3://evaluations/{climb}")
    try:
        wanderer.put(layout.manifest(B), b"mine")
    except EvalrunError as error:
        gets(f"{error.reason.name}: {error}")
    else:
        gets("an object of that very name within its own prefix")
    assert victim.get(layout.manifest(B)) == b"the manifest"
    listed = tenants.server.client().list_objects_v2(Bucket="evaluations")["Contents"]
    keys = [entry["Key"] for entry in listed]
    assert all(key.startswith(tuple(f"{tenant}/" for tenant in USERS)) for key in keys)


def manifest(run: RunIdentity, results: bytes) -> Manifest:
    """Of a run with one results file."""
    file = {
        "path": "results/results.json",
        "sha256": hashlib.sha256(results).hexdigest(),
        "bytes": len(results),
    }
    return Manifest.model_validate(
        {
            "run": run,
            "plan": "e" * 64,
            "answersDigest": "d" * 64,
            "completedAt": datetime(2026, 1, 1, tzinfo=UTC),
            "groups": [{"name": "g0", "results": file}],
            "scores": [{"benchmark": "mme", "metric": "acc", "value": "0.5"}],
            "answers": {"total": 1, "reused": 0, "computed": 1, "invalid": 0},
            "trusted": True,
            "provenance": {
                "versions": {"lmms-eval": "0.7.3"},
                "modelRevision": "main",
                "determinism": "Exact",
            },
            "seconds": {},
        }
    )


@attack(34, OBJECT, "changes the results file of a finished run, to make its score a better one")
def test_a_changed_results_file_is_not_shown(
    tenants: Tenants, gets: Gets, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, results = tenants.store("team-a"), b'{"results": {"mme": {"acc,none": 0.5}}}'
    store.put(layout.manifest(A), manifest(A, results).model_dump_json(by_alias=True).encode())
    store.put(f"{layout.run(A)}/results/results.json", results.replace(b"0.5", b"0.9"))
    plan = tenants.plan("team-a")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "team-a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", USERS["team-a"])
    command = ["results", "shapes", "-n", "team-a", "--store", plan.uri]
    shown = CliRunner().invoke(app, [*command, "--s3-endpoint", str(plan.endpoint)])
    assert shown.exit_code != 0
    assert "0.9" not in shown.stdout
    assert "was changed after the run wrote it" in " ".join(shown.stderr.split())
    gets(shown.stderr)


@attack(35, OBJECT, "copies the manifest of a better run to where this one's is looked for")
def test_the_manifest_of_another_run_is_not_taken(tenants: Tenants, gets: Gets) -> None:
    from evalrun_runner.main import _is_done

    store = tenants.store("team-a")
    better = A.model_copy(update={"uid": "2222-a"})
    store.put(layout.manifest(better), manifest(A, b"{}").model_dump_json(by_alias=True).encode())
    setting: Any = SimpleNamespace(plan=SimpleNamespace(run=better), store=store)
    told = refused(gets, lambda: _is_done(setting), "CorruptStore")
    assert "manifest of another run" in told


@attack(36, OBJECT, "nests a manifest 200,000 levels deep, to end whoever reads it")
def test_deep_nesting_is_not_read(tenants: Tenants, gets: Gets) -> None:
    store = tenants.store("team-a")
    deep = A.model_copy(update={"uid": "3333-a"})
    text = json.dumps({"version": 1, "run": "HERE"})
    store.put(layout.manifest(deep), text.replace('"HERE"', "[" * 200_000).encode())
    refused(gets, lambda: manifest_of(store, deep), "CorruptStore")


@attack(37, OBJECT, "puts a segment of more than a gigabyte into the journal")
def test_an_oversized_object_is_not_fetched(tenants: Tenants, gets: Gets) -> None:
    store, prefix = tenants.store("team-a"), layout.segments("team-a", "1" * 64)
    store.put(f"{prefix}a-000001.jsonl.zst", b"")
    (segment,) = (tenants.folder / "s3-data").rglob("a-000001.jsonl.zst")
    os.truncate(segment, (1 << 30) + 1)  # it takes no room, and is served all the same
    before = _memory()
    told = refused(gets, lambda: read_index(store, prefix), "CorruptStore")
    assert "1073741825 bytes" in told
    assert _memory() - before < 256 << 10


@attack(38, OBJECT, "puts a zstd bomb into the journal: a gigabyte in one line, out of 100 KB")
def test_a_bomb_is_not_unpacked(tenants: Tenants, gets: Gets) -> None:
    store, prefix = tenants.store("team-a"), layout.segments("team-a", "2" * 64)
    packer = zstandard.ZstdCompressor().compressobj(size=1 << 30)
    block = bytes(1 << 24)
    bomb = b"".join([*(packer.compress(block) for _ in range(64)), packer.flush()])
    assert len(bomb) < 200_000
    store.put(f"{prefix}a-000001.jsonl.zst", bomb)
    began, before = time.monotonic(), _memory()
    told = refused(gets, lambda: read_index(store, prefix), "CorruptJournal")
    assert "a line of more than" in told
    assert time.monotonic() - began < 10
    assert _memory() - before < 512 << 10


def _memory() -> int:
    """The most that this process ever held, in KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


class Archive:
    """A packed archive of documents in the store, all of it consistent, by the attacker's hand."""

    def __init__(self, store: Store, contents: Contents, entries: list[tarfile.TarInfo]) -> None:
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry in entries:
                tar.addfile(entry, io.BytesIO(bytes(entry.size)))
        self.store, self.contents = store, contents
        self.folder = f"data/team-a/{contents.archive}"
        sizes = part_sizes(contents)
        raw = file.getvalue()[: sum(sizes)].ljust(sum(sizes), b"\0")
        assert sum(sizes) <= PART_BYTES
        packed = zstandard.ZstdCompressor().compress(raw)
        digest = hashlib.sha256(packed).hexdigest()
        store.put(part_key(self.folder, 0, digest), packed)
        index = ArchiveIndex(contents=contents, parts=[Part(sha256=digest, size=len(raw))])
        store.put(f"{self.folder}/index.json", index.model_dump_json(by_alias=True).encode())

    def restore(self, home: Path) -> None:
        restore(self.store, self.folder, self.contents.archive, home, lambda text: None)


def tar_entry(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size = size
    for field, value in fields.items():
        setattr(found, field, value)
    return found


@attack(39, OBJECT, "packs symbolic links, hard links, devices and paths with .. into an archive")
@pytest.mark.parametrize(
    "entry",
    [
        tar_entry("hub/file", type=tarfile.SYMTYPE, linkname="/etc"),
        tar_entry("hub/file", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        tar_entry("hub/file", type=tarfile.CHRTYPE),
        tar_entry("../../outside", 3),
        tar_entry("/tmp/outside", 3),
    ],
    ids=["symlink", "hard-link", "device", "climbing", "absolute"],
)
def test_an_archive_writes_nothing_outside(
    tenants: Tenants, gets: Gets, tmp_path: Path, entry: tarfile.TarInfo
) -> None:
    member = Member(path="hub/file", size=3, sha256=hashlib.sha256(bytes(3)).hexdigest())
    archive = Archive(tenants.store("team-a"), Contents(members=[member]), [entry])
    home = tmp_path / "inner" / "home"
    told = refused(gets, lambda: archive.restore(home), "CorruptStore")
    assert "is not what the index has there" in told
    left = [path for path in tmp_path.rglob("*") if path.name not in ("inner", "home")]
    assert [path.name for path in left] == [".restoring.lock"]
    assert not Path("/tmp/outside").exists()


@attack(40, OBJECT, "has an archive's index name files and links outside the cache")
def test_an_index_leads_nowhere_else(tenants: Tenants, gets: Gets, tmp_path: Path) -> None:
    store = tenants.store("team-a")
    sha = hashlib.sha256(bytes(3)).hexdigest()
    member = Member.model_construct(path="../../outside", size=3, sha256=sha)
    link = Link.model_construct(path="hub/link", target="/etc")
    for contents in (
        Contents.model_construct(members=[member], links=[]),
        Contents.model_construct(members=[], links=[link]),
    ):
        archive = Archive(store, contents, [tar_entry("../../outside", 3)])
        told = refused(
            gets, lambda archive=archive: archive.restore(tmp_path / "h"), "CorruptStore"
        )
        assert "not an index of this release" in told
    assert [path.name for path in tmp_path.rglob("*")] in ([], ["h"])


@attack(41, OBJECT, "exchanges a run's lock.json for another model's, before the run is scored")
def test_an_exchanged_lock_gives_no_score(gets: Gets) -> None:
    said = TerminationMessage(
        run=RunIdentity(namespace="team", name="trial", uid="uid-1"),
        step="score",
        outcome="Succeeded",
        reason="Completed",
        results_uri="s3://evaluations/team/runs/team/trial/uid-1/manifest.json",
        results_digest="d" * 64,
        answers_digest="b" * 64,  # prepare said another one
        trusted=True,
    )
    life = Life(begin(GPU, fates={"score": [Fate(message=said.encode().decode())]}))
    status = life.to_the_end()
    assert (status["phase"], reason_of(status)) == ("Failed", "LockMismatch")
    assert "results" not in status
    (ready,) = (entry for entry in status["conditions"] if entry["type"] == "Ready")
    gets(ready["message"])
