"""The process that fetches from the hub: a `Wanted` on standard input, news on standard output."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import DryRunError, HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.file_download import repo_folder_name

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_runner.data.amounts import require_space
from evalrun_runner.data.downloads import WHERE
from evalrun_runner.failures import classify, describe

_INTERVAL = 0.5
_STALE_SECONDS = 3600


def main() -> None:
    """Fetch, telling how far it is; the last line is the folder, or what went wrong."""
    wanted = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        folder = _fetch(wanted["repo"], wanted["revision"], wanted["ignore"])
    except EvalrunError as error:
        fault = error.faults[0]
        _say(reason=error.reason.name, where=fault.where, what=fault.what, remedy=fault.remedy)
    else:
        _say(folder=folder)


def _end_with_parent() -> None:
    """Whoever wanted it holds the other end of standard input."""
    sys.stdin.read()
    os._exit(1)


def _fetch(repo: str, revision: str, ignore: list[str]) -> str:
    options: dict[str, Any] = {
        "revision": revision,
        "token": os.environ.get("HF_TOKEN"),
        "ignore_patterns": ignore,
    }
    try:
        if not _is_cached(repo, options):
            cache = Path(constants.HF_HUB_CACHE)
            blobs = cache / repo_folder_name(repo_id=repo, repo_type="model") / "blobs"
            _remove_stale(blobs)
            with suppress(DryRunError):  # the hub does not answer: perhaps it is in the cache
                files = snapshot_download(repo, dry_run=True, **options)
                missing = sum(file.file_size or 0 for file in files if file.will_download)
                require_space(cache, missing, repo)
                _tell(blobs, _bytes_in(blobs), missing)
        return str(snapshot_download(repo, **options))
    except (HfHubHTTPError, OSError, ValueError) as error:
        raise _explained(repo, revision, error) from error


def _is_cached(repo: str, options: dict[str, Any]) -> bool:
    """Whether a commit is there whole: then the hub need not be asked."""
    if len(options["revision"]) != 40:
        return False
    try:
        snapshot_download(repo, local_files_only=True, **options)
    except (OSError, ValueError):
        return False
    return True


def _bytes_in(blobs: Path) -> int:
    total = 0
    for path in blobs.glob("*"):
        with suppress(FileNotFoundError):  # renamed as it became whole
            total += path.stat().st_size
    return total


def _remove_stale(blobs: Path) -> None:
    """What killed downloads left: the library begins such a file anew."""
    for path in blobs.glob("*.incomplete"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _tell(blobs: Path, before: int, total: int) -> None:
    """Say twice a second how much has arrived."""

    def watch() -> None:
        while True:
            _say(done=max(_bytes_in(blobs) - before, 0), total=total)
            time.sleep(_INTERVAL)

    threading.Thread(target=watch, daemon=True).start()


def _explained(repo: str, revision: str, error: Exception) -> EvalrunError:
    reason = classify(error, reasons.MODEL_NOT_FOUND)
    missing = isinstance(error, LocalEntryNotFoundError)
    if reason is not reasons.MODEL_NOT_FOUND and not missing:
        return fail(reason, WHERE, f"{repo} cannot be fetched: {describe(error)}")
    response = getattr(error, "response", None)
    if response is not None:
        what = f"the hub refuses {repo} at {revision} ({response.status_code})"
        remedy = "Check the repository, the revision and tokenSecret (locally: HF_TOKEN)"
        return fail(reasons.MODEL_NOT_FOUND, WHERE, what, remedy)
    what = f"{repo} at {revision} is not in the cache and the hub cannot be reached"
    remedy = "Check the network, or put the repository into the cache (HF_HOME)"
    return fail(reasons.SOURCE_UNAVAILABLE, WHERE, what, remedy)


_speaking = threading.Lock()


def _say(**message: Any) -> None:
    with _speaking:
        print(json.dumps(message), flush=True)  # noqa: T201  # to the process that asked


if __name__ == "__main__":
    main()
