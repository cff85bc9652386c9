"""The packed archive: what is chosen, that it comes back whole, and what it refuses."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
import zstandard

from evalrun_api.errors import EvalrunError
from evalrun_runner.data import amounts
from evalrun_runner.data.archive import contents, part_key, part_sizes, present, upload
from evalrun_runner.data.choice import TaskData, choose, task_data
from evalrun_runner.data.index import ArchiveIndex, Contents, Member, Part
from evalrun_runner.data.restore import restore
from evalrun_runner.data.use import DataUse, watch
from evalrun_runner.data.weights_digest import SeenWeights, folder_digest, read_whole, recognised
from evalrun_runner.stores import FolderStore

pytestmark = pytest.mark.runner

COMMIT, OTHER = "c" * 40, "d" * 40
BUILDER = f"datasets/team___shapes/default/0.0.0/{COMMIT}"


def quiet(text: str) -> None:
    del text


def write(path: Path, data: bytes | str = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A cache as the hub's libraries leave it."""
    home = tmp_path / "hf"
    write(home / BUILDER / "dataset_info.json", "{}")
    write(home / BUILDER / "shapes-test.arrow", os.urandom(5000))
    write(home / BUILDER / "cache-1234.arrow")
    write(home / f"{BUILDER}_builder.lock")
    write(home / "datasets/parquet/default-1/0.0.0/2/dataset_info.json", "{}")
    data = home / "hub/datasets--team--shapes"
    write(data / "refs/main", COMMIT)
    blob = write(data / "blobs/1", b"picture list")
    for name in ("data/test.parquet", "names.json", "videos.zip"):
        link = data / "snapshots" / COMMIT / name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    model = home / "hub/models--team--tiny"
    write(model / "refs/main", COMMIT)
    for name in ("model.safetensors", "tokenizer.json", "original/x.json"):
        write(model / "snapshots" / COMMIT / name)
    write(home / "shapes_video/a/1.mp4", os.urandom(3000))
    write(home / "token", "secret")
    write(home / "modules/code.py")
    return home


def used(home: Path) -> DataUse:
    use = DataUse(home)
    use.note_all()
    use.finish()
    return use


def test_documents_media_and_processor_are_kept_and_nothing_else(home: Path) -> None:
    video = {"video": True, "cache_dir": "shapes_video"}
    tasks = task_data([{"dataset_path": "team/shapes", "dataset_kwargs": video}])
    choice = choose(used(home), tasks, "models--team--tiny")
    assert choice.files == [
        f"{BUILDER}/dataset_info.json",
        f"{BUILDER}/shapes-test.arrow",
        "hub/datasets--team--shapes/refs/main",
        f"hub/datasets--team--shapes/snapshots/{COMMIT}/names.json",
        "hub/models--team--tiny/refs/main",
        f"hub/models--team--tiny/snapshots/{COMMIT}/tokenizer.json",
        "shapes_video/a/1.mp4",
    ]
    assert choice.builders == [BUILDER]
    assert choice.complete


def test_an_archive_that_no_task_unpacked_is_kept(home: Path) -> None:
    choice = choose(used(home), TaskData(), None)
    assert f"hub/datasets--team--shapes/snapshots/{COMMIT}/videos.zip" in choice.files


@pytest.mark.parametrize(
    ("config", "elsewhere"),
    [
        ({"dataset_path": "json", "dataset_kwargs": {"data_files": {"test": "https://a/b"}}}, True),
        ({"dataset_path": "parquet", "dataset_kwargs": {"data_files": "hf://datasets/a/b"}}, True),
        ({"dataset_path": "parquet", "dataset_kwargs": {"data_files": "/volumes/a/b"}}, False),
        ({"dataset_path": "team/shapes", "dataset_kwargs": {"token": True}}, False),
        ({"dataset_path": "team/shapes"}, False),
    ],
)
def test_documents_of_an_address_of_their_own_leave_the_hub_in_reach(
    home: Path, config: dict[str, Any], elsewhere: bool
) -> None:
    assert choose(used(home), task_data([config]), None).complete is not elsewhere


def test_on_a_cache_of_many_only_what_was_opened_counts(home: Path) -> None:
    write(home / f"datasets/team___other/default/0.0.0/{OTHER}/dataset_info.json", "{}")
    write(home / "hub/datasets--team--other/refs/main", OTHER)
    write(home / "other_video/1.mp4")
    use = watch(home)
    (home / BUILDER / "dataset_info.json").read_text()
    (home / "hub/datasets--team--shapes/refs/main").read_text()
    list((home / "shapes_video/a").iterdir())
    use.finish()
    assert use.builders == {BUILDER}
    assert use.commits == {("datasets--team--shapes", COMMIT)}
    assert use.folders == {"shapes_video"}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("archive", "restore"):
        monkeypatch.setattr(f"evalrun_runner.data.{module}.PART_BYTES", 2048)


class Archive:
    """An archive of the cache in a store."""

    def __init__(self, home: Path, store: Path) -> None:
        choice = choose(used(home), TaskData(), "models--team--tiny")
        self.home, self.store = home, FolderStore(store)
        self.what = contents(home, choice.files, choice.links, quiet)
        self.folder = f"data/ns/{self.what.archive}"

    def upload(self) -> None:
        upload(self.store, self.folder, self.home, self.what, quiet)

    def restore(self, home: Path) -> bool:
        return restore(self.store, self.folder, self.what.archive, home, quiet)

    def replace(self, members: list[tuple[tarfile.TarInfo, bytes]]) -> None:
        """Put another tar in the place of the archive's, its parts and index consistent."""
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for entry, data in members:
                tar.addfile(entry, io.BytesIO(data))
        sizes = part_sizes(self.what)
        raw = file.getvalue()[: sum(sizes)].ljust(sum(sizes), b"\0")
        parts, start = [], 0
        for number, size in enumerate(sizes):
            packed = zstandard.ZstdCompressor().compress(raw[start : start + size])
            digest = hashlib.sha256(packed).hexdigest()
            self.store.put(part_key(self.folder, number, digest), packed)
            parts.append(Part(sha256=digest, size=size))
            start += size
        index = ArchiveIndex(contents=self.what, parts=parts)
        self.store.put(f"{self.folder}/index.json", index.model_dump_json(by_alias=True).encode())


@pytest.fixture
def archive(home: Path, tmp_path: Path, small_parts: None) -> Archive:
    (home / "linked_video").symlink_to(home / "shapes_video", target_is_directory=True)
    return Archive(home, tmp_path / "store")


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".restoring" not in path.name
    }


def test_an_archive_comes_back_as_it_was_and_a_second_time_nothing_moves(
    archive: Archive, tmp_path: Path
) -> None:
    archive.upload()
    assert len(present(archive.store, archive.folder)) > 3
    other = tmp_path / "other"
    assert archive.restore(other)
    kept = {member.path for member in archive.what.members}
    assert {path: data for path, data in tree(other).items() if path in kept} == {
        path: data for path, data in tree(archive.home).items() if path in kept
    }
    assert (other / "linked_video").resolve() == other / "shapes_video"
    assert not archive.restore(other)
    (other / BUILDER / "shapes-test.arrow").unlink()
    assert archive.restore(other)


def test_what_another_run_has_moved_in_a_shared_cache_is_brought_back(
    archive: Archive, tmp_path: Path
) -> None:
    archive.upload()
    other = tmp_path / "other"
    assert archive.restore(other)
    branch, link = other / "hub/datasets--team--shapes/refs/main", other / "linked_video"
    branch.write_text(OTHER)  # as long as it was
    assert archive.restore(other)
    assert branch.read_text() == COMMIT
    newer = write(other / "newer_video/a/1.mp4").parents[1]
    link.unlink()
    link.symlink_to(newer, target_is_directory=True)
    assert archive.restore(other)
    assert link.resolve() == other / "shapes_video"
    link.unlink()
    write(link / "a/1.mp4")
    assert not archive.restore(other), "a folder in a link's place stays"


def test_the_parts_are_a_plain_tar(archive: Archive, tmp_path: Path) -> None:
    archive.upload()
    folder = tmp_path / "store" / archive.folder
    joined = b"".join(path.read_bytes() for path in sorted(folder.glob("*.tar.zst")))
    plain = zstandard.ZstdDecompressor().stream_reader(joined, read_across_frames=True)
    with plain, tarfile.open(fileobj=plain, mode="r|") as tar:
        names = [entry.name for entry in tar]
    assert names == [member.path for member in archive.what.members]


def test_an_interrupted_upload_goes_on_with_the_missing_parts(
    archive: Archive, tmp_path: Path
) -> None:
    archive.upload()
    folder = tmp_path / "store" / archive.folder
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    gone = sorted(whole)[1]
    (folder / gone).unlink()
    (folder / "index.json").unlink()
    archive.upload()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == whole
    written = {p.name for p in folder.iterdir() if p.stat().st_mtime_ns != times[p.name]}
    assert written == {gone, "index.json"}


def entry(name: str, size: int = 0, **fields: Any) -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.size = size
    for field, value in fields.items():
        setattr(found, field, value)
    return found


@pytest.mark.parametrize(
    "bad",
    [
        entry("../../outside"),
        entry("/outside"),
        entry(f"{BUILDER}/dataset_info.json", type=tarfile.SYMTYPE, linkname="/etc/passwd"),
        entry(f"{BUILDER}/dataset_info.json", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
        entry(f"{BUILDER}/dataset_info.json", type=tarfile.FIFOTYPE),
        entry(f"{BUILDER}/dataset_info.json", 7),
    ],
    ids=lambda found: f"{found.name.rpartition('/')[2]}-{found.type!r}-{found.size}",
)
def test_a_tar_that_is_not_what_the_index_says_writes_nothing(
    archive: Archive, tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    archive.replace([(bad, bytes(bad.size))])
    with pytest.raises(EvalrunError, match="not what the index has there") as caught:
        archive.restore(tmp_path / "other")
    assert caught.value.reason.name == "CorruptStore"
    assert tree(tmp_path / "other") == {}
    assert not (tmp_path / "outside").exists()


def test_a_part_that_would_unpack_to_more_than_it_says_is_refused(
    archive: Archive, tmp_path: Path
) -> None:
    archive.upload()
    bomb = zstandard.ZstdCompressor().compress(bytes(50_000_000))
    digest = hashlib.sha256(bomb).hexdigest()
    archive.store.put(part_key(archive.folder, 0, digest), bomb)
    key = f"{archive.folder}/index.json"
    index = ArchiveIndex.model_validate_json(archive.store.get(key) or b"")
    index.parts[0] = Part(sha256=digest, size=index.parts[0].size)
    archive.store.put(key, index.model_dump_json(by_alias=True).encode())
    with pytest.raises(EvalrunError, match="does not hold 2048 bytes"):
        archive.restore(tmp_path / "other")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ".", "a//b", "a\0b"])
def test_an_index_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="not a plain path"):
        Member(path=path, size=1, sha256="0" * 64)


def test_an_index_of_other_files_is_not_taken_for_this_archive(
    archive: Archive, tmp_path: Path
) -> None:
    archive.upload()
    other = ArchiveIndex(contents=Contents(), parts=[Part(sha256="0" * 64, size=1024)])
    key = f"{archive.folder}/index.json"
    archive.store.put(key, other.model_dump_json(by_alias=True).encode())
    with pytest.raises(EvalrunError, match="not those of this archive"):
        archive.restore(tmp_path / "other")


def test_too_small_a_disk_is_found_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(EvalrunError, match=r"needs 1152921.5 TB, and .* are free") as caught:
        amounts.require_space(tmp_path / "hf" / "hub", 2**60, "the documents")
    assert caught.value.reason.name == "DiskFull"


def test_progress_says_how_many_bytes_of_all(archive: Archive, tmp_path: Path) -> None:
    archive.upload()
    told: list[str] = []
    restore(archive.store, archive.folder, archive.what.archive, tmp_path / "o", told.append)
    assert told[-1].startswith("restoring the documents, ")
    total = sum(part_sizes(archive.what))
    assert told[-1].endswith(f"{amounts.readable(total)} of {amounts.readable(total)}")


# Weights of a volume


def test_weights_are_recognised_until_anything_of_them_changes(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    file = write(weights / "model.safetensors", os.urandom(300_000))
    record = read_whole(weights, quiet).model_dump_json(by_alias=True).encode()
    digest = SeenWeights.model_validate_json(record).digest
    assert recognised(weights, record) == digest == folder_digest(weights, quiet)
    assert recognised(weights, None) is None
    assert recognised(weights, b"{}") is None

    times = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 1  # another checkpoint of the same shape, its time kept (cp -p)
    file.write_bytes(data)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert recognised(weights, record) is None

    data[-1] ^= 1
    file.write_bytes(data)
    assert recognised(weights, record) is None, "the time of change differs"
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert recognised(weights, record) == digest
    write(weights / "more.json")
    assert recognised(weights, record) is None


def test_progress_is_told_while_weights_are_read(tmp_path: Path) -> None:
    told: list[str] = []
    write(tmp_path / "model.safetensors", bytes(3_000_000))
    folder_digest(tmp_path, told.append)
    assert told == ["hashing the weights, 3.0 MB of 3.0 MB"]
