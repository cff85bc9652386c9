"""Weights: from a model source to a folder on this machine, and its revision."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable
from pathlib import Path

from evalrun_api import reasons
from evalrun_api.digests import feed
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.plan import RunPlan
from evalrun_api.sources import HuggingFaceSource, VolumePath
from evalrun_runner.failures import classify, describe
from evalrun_runner.places import Places

log = logging.getLogger(__name__)

_digests: dict[Path, str] = {}


def locate(
    plan: RunPlan, places: Places, activity: Callable[[str], None], locked: str | None = None
) -> tuple[str, str]:
    """What goes into the backend's source argument, and the revision it stands for.

    locked: the commit that prepare resolved; a branch that has moved since does not matter then.

    The revision is a commit (hub), "sha256:…" over the folder's content (volume), or the served
    model's name and address (endpoint: nothing more can be known).
    """
    source = plan.model.source
    if source.endpoint is not None:
        return source.endpoint.model, f"endpoint:{source.endpoint.url}#{source.endpoint.model}"
    if source.volume is not None:
        return _on_volume(source.volume, places, activity)
    assert source.hugging_face is not None
    hub = source.hugging_face
    if locked is not None:
        hub = hub.model_copy(update={"revision": locked})
    return _on_hub(hub, plan.offline, places, activity)


def _on_volume(
    volume: VolumePath, places: Places, activity: Callable[[str], None]
) -> tuple[str, str]:
    folder = places.volume(volume)
    if not folder.is_dir() or not any(folder.iterdir()):
        what = f"there is no folder {folder}" if not folder.is_dir() else f"{folder} is empty"
        raise fail(
            reasons.MODEL_NOT_FOUND,
            "spec.model.source.volume",
            what,
            "Check claimName and path; locally, name the folder with --volume CLAIM=FOLDER",
        )
    if folder not in _digests:
        activity("hashing the weights")
        _digests[folder] = folder_digest(folder)
    return str(folder), f"sha256:{_digests[folder]}"


def folder_digest(folder: Path) -> str:
    """sha256 over the names and contents of all files beneath a folder, hidden ones left out."""
    hasher = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in relative.parts):
            continue
        feed(hasher, relative.as_posix())
        with path.open("rb") as file:
            feed(hasher, hashlib.file_digest(file, "sha256").hexdigest())
    return hasher.hexdigest()


def _on_hub(
    source: HuggingFaceSource, offline: bool, places: Places, activity: Callable[[str], None]
) -> tuple[str, str]:
    """The snapshot at a revision, behind a link that keeps the repository's name.

    Some backends read the family from the folder's name, so the commit alone would not do.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    where = "spec.model.source.huggingFace"
    activity(f"fetching {source.repo}")
    try:
        snapshot = Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                local_files_only=offline,
                token=os.environ.get("HF_TOKEN"),
                ignore_patterns=["*.pth", "original/*"],
            )
        )
    except (HfHubHTTPError, OSError) as error:
        reason = classify(error, reasons.MODEL_NOT_FOUND)
        if reason is not reasons.MODEL_NOT_FOUND and not isinstance(error, LocalEntryNotFoundError):
            what = f"{source.repo} cannot be fetched: {describe(error)}"
            raise fail(reason, where, what) from error
        raise _not_found(source, offline, error) from error
    link = places.work / "weights" / snapshot.name / source.repo.rpartition("/")[2]
    link.parent.mkdir(parents=True, exist_ok=True)
    link.unlink(missing_ok=True)
    link.symlink_to(snapshot, target_is_directory=True)
    return str(link), snapshot.name


def _not_found(source: HuggingFaceSource, offline: bool, error: Exception) -> EvalrunError:
    where = "spec.model.source.huggingFace"
    response = getattr(error, "response", None)
    if response is not None:
        what = f"the hub refuses {source.repo} at {source.revision} ({response.status_code})"
        remedy = "Check the repository, the revision and tokenSecret (locally: HF_TOKEN)"
        return fail(reasons.MODEL_NOT_FOUND, where, what, remedy)
    what = f"{source.repo} at {source.revision} is not in the cache"
    if not offline:
        what += " and the hub cannot be reached"
    remedy = "Check the network, or put the repository into the cache (HF_HOME)"
    reason = reasons.MODEL_NOT_FOUND if offline else reasons.SOURCE_UNAVAILABLE
    return fail(reason, where, what, remedy)
