"""Where things are: what is made once in the cache, what tells of running clusters in the state."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The project's checkout."""

GO_MODULE = Path(__file__).parent / "tools"

DEBIAN = "bookworm"
"""The release that the base image is made of; its python3 is 3.11."""

BASE_PACKAGES = ("python3", "python3-pip", "python3-venv", "netbase", "tzdata", "ca-certificates")
"""What the base image holds besides the essential packages."""


def cache() -> Path:
    """What can be made again, at some cost."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "lmms-eval-operator"


def state() -> Path:
    """What says which clusters run."""
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(home) / "lmms-eval-operator"


def kubernetes_version() -> str:
    """Of the Go module, such as v1.37.2."""
    found = re.search(
        r"^require k8s\.io/kubernetes (\S+)", (GO_MODULE / "go.mod").read_text(), re.MULTILINE
    )
    assert found is not None, GO_MODULE
    return found[1]


def digest(*contents: bytes) -> str:
    """Short name of what is made from these, on this architecture."""
    sha = hashlib.sha256(platform.machine().encode())
    for content in contents:
        sha.update(b"%d:" % len(content) + content)
    return sha.hexdigest()[:12]


def make_readable(folder: Path) -> None:
    """For any user, whatever the umask was: pods run as one that owns nothing."""
    subprocess.run(["chmod", "--recursive", "a+rX", folder], check=True)


def kubernetes() -> Path:
    """Folder of the binaries that are built from Go."""
    made_of = [(GO_MODULE / name).read_bytes() for name in ("go.mod", "go.sum")]
    return cache() / f"kubernetes-{kubernetes_version()}-{digest(*made_of)}"


def node_parts() -> Path:
    """Folder of containerd and the images that the node needs before any of ours."""
    packages = ",".join((DEBIAN, *BASE_PACKAGES)).encode()
    return cache() / f"node-{digest(packages, (GO_MODULE / 'pause.c').read_bytes())}"


def versitygw() -> Path:
    """The S3 server that `make versitygw` builds."""
    makefile = (ROOT / "Makefile").read_text()
    found = re.search(r"^VERSITYGW_VERSION := (\S+)", makefile, re.MULTILINE)
    assert found is not None
    return cache() / f"versitygw-{found[1]}" / "versitygw"


def uv_cache() -> Path:
    """Where uv keeps what it has downloaded."""
    if own := os.environ.get("UV_CACHE_DIR"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"
