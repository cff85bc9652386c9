"""Weights: from a model source to a folder on this machine, and its revision."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from evalrun_api import reasons
from evalrun_api.digests import canonical_json
from evalrun_api.errors import fail
from evalrun_api.plan import RunPlan
from evalrun_api.sources import HuggingFaceSource, VolumePath
from evalrun_runner import layout
from evalrun_runner.data.choice import WEIGHTS
from evalrun_runner.data.downloads import WHERE, Wanted, fetch
from evalrun_runner.data.weights_digest import SeenWeights, glance, read_whole, recognised
from evalrun_runner.places import Places
from evalrun_runner.stores import Store

log = logging.getLogger(__name__)

UNUSED = ("*.pth", "original/*")
"""Files of a hub's repository that no backend reads."""

_known: dict[Path, SeenWeights] = {}
"""Folders that this process has read: the steps of one process read them once."""


def locate(
    plan: RunPlan,
    places: Places,
    activity: Callable[[str], None],
    locked: str | None = None,
    store: Store | None = None,
) -> tuple[str, str]:
    """What goes into the backend's source argument, and the revision it stands for.

    locked: the commit that prepare resolved; a branch that has moved since does not matter then.
    None: this is prepare, which takes no weights to where no later step finds them.
    store: where prepare leaves what it saw of weights on a volume, and the others look for it.

    The revision is a commit (hub), "sha256:…" over the folder's content (volume), or the served
    model's name and address (endpoint: nothing more can be known).
    """
    source = plan.model.source
    if source.endpoint is not None:
        return source.endpoint.model, f"endpoint:{source.endpoint.url}#{source.endpoint.model}"
    if source.volume is not None:
        folder = _folder(source.volume, places)
        record = layout.weights_of_run(plan.run)
        if locked is not None and store is not None and folder not in _known:
            found = recognised(folder, store.get(record))
            if found is not None:
                return str(folder), f"sha256:{found}"
        seen = _read(folder, activity)
        if locked is None and store is not None:
            store.put(record, canonical_json(seen.document()))
        return str(folder), f"sha256:{seen.digest}"
    assert source.hugging_face is not None
    hub = source.hugging_face
    ignore: tuple[str, ...] = UNUSED
    if locked is not None:
        hub = hub.model_copy(update={"revision": locked})
    elif places.cache in ("node", "pod"):
        ignore = WEIGHTS
    return _on_hub(hub, plan.offline, places, activity, ignore)


def _folder(volume: VolumePath, places: Places) -> Path:
    folder = places.volume(volume)
    if not folder.is_dir() or not any(folder.iterdir()):
        what = f"there is no folder {folder}" if not folder.is_dir() else f"{folder} is empty"
        raise fail(
            reasons.MODEL_NOT_FOUND,
            "spec.model.source.volume",
            what,
            "Check claimName and path; locally, name the folder with --volume CLAIM=FOLDER",
        )
    return folder


def _read(folder: Path, activity: Callable[[str], None]) -> SeenWeights:
    if folder not in _known or _known[folder].files != glance(folder):
        _known[folder] = read_whole(folder, activity)
    return _known[folder]


def _on_hub(
    source: HuggingFaceSource,
    offline: bool,
    places: Places,
    activity: Callable[[str], None],
    ignore: tuple[str, ...],
) -> tuple[str, str]:
    """The snapshot at a revision, behind a link that keeps the repository's name.

    Some backends read the family from the folder's name, so the commit alone would not do.
    """
    if offline:
        snapshot = _in_cache(source, ignore)
    else:
        snapshot = fetch(Wanted(source.repo, source.revision, ignore), activity)
    link = places.work / "weights" / snapshot.name / source.repo.rpartition("/")[2]
    link.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):  # of another worker of this pod; it leads to the same commit
        link.symlink_to(snapshot, target_is_directory=True)
    return str(link), snapshot.name


def _in_cache(source: HuggingFaceSource, ignore: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                source.repo,
                revision=source.revision,
                local_files_only=True,
                ignore_patterns=list(ignore),
            )
        )
    except (OSError, ValueError) as error:
        what = f"{source.repo} at {source.revision} is not in the cache"
        remedy = "Put the repository into the cache (HF_HOME), or set cache.offline: false"
        raise fail(reasons.MODEL_NOT_FOUND, WHERE, what, remedy) from error
