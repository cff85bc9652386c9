"""Get the parts of a cluster once, from Debian's packages and the Go module proxy alone.

Each part is made under another name and then renamed, so an interrupted run leaves nothing that
looks finished.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import oci, places
from cluster.progress import say, step

BINARIES = (
    "etcd",
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubectl",
    "kubelet",
)

ETCD = "go.etcd.io/etcd/server/v3"  # Go names its binary "server"

PAUSE = "registry.k8s.io/pause:3.10"
BUSYBOX = "docker.io/library/busybox:test"
PYTHON = "docker.io/library/python:3.11-slim"
"""The base of our images, under the name that their Dockerfiles give; made of Debian's python3."""

APPLETS = ("sh", "echo", "sleep", "cat", "ls", "env", "id", "true", "false", "wget", "nc", "test")


class MissingError(Exception):
    """A part of the cluster is not here; says how to get it."""


@dataclass(frozen=True)
class Tools:
    """Where the programs are."""

    paths: dict[str, Path]

    def __getitem__(self, name: str) -> Path:
        return self.paths[name]

    @classmethod
    def find(cls, names: Sequence[str] = BINARIES) -> Tools:
        """Those of KUBEBUILDER_ASSETS first, then those that `make cluster-tools` built.

        Raises MissingError.
        """
        assets = os.environ.get("KUBEBUILDER_ASSETS")
        folders = [Path(assets)] if assets else []
        folders.append(places.kubernetes() / "bin")
        found = {}
        for name in names:
            here = [folder / name for folder in folders if os.access(folder / name, os.X_OK)]
            if not here:
                raise MissingError(f"{name} is not here: `make cluster-tools` builds it (needs Go)")
            found[name] = here[0]
        return cls(found)


def get_all() -> None:
    """Whatever is not in the cache yet. Raises MissingError."""
    get_node_tools()
    build_kubernetes()


def get_node_tools() -> None:
    """What a node needs besides the kubelet, and what builds images. Raises MissingError."""
    with one_at_a_time("node"):
        _get_packages()
        _get_node_parts()


@contextmanager
def one_at_a_time(what: str) -> Iterator[None]:
    """Wait until no other process is at it."""
    places.cache().mkdir(parents=True, exist_ok=True)
    with (places.cache() / f"{what}.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with step(f"waiting for another process that is at it ({what})"):
                fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def build_kubernetes() -> None:
    """The binaries that BINARIES names. Raises MissingError."""
    with one_at_a_time("kubernetes"):
        _build_kubernetes()


def _build_kubernetes() -> None:
    target = places.kubernetes()
    if (target / "bin").is_dir():
        return
    if shutil.which("go") is None:
        raise MissingError(
            "Go is missing (https://go.dev/dl): Kubernetes is built from its Go module"
        )
    version = places.kubernetes_version()
    packages = [f"k8s.io/kubernetes/cmd/{name}" for name in BINARIES if name != "etcd"]
    stamp = [
        f"-X {package}.gitVersion={version}"
        for package in ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    ]
    with (
        step(f"building Kubernetes {version} (once, about 8 minutes on 2 cores)"),
        new_folder(target) as new,
    ):
        # Packages of one call share the compiler's work, and its waiting.
        environment = {**os.environ, "GOFLAGS": "-buildvcs=false", "GOWORK": "off"}
        command = ["go", "build", "-ldflags", " ".join(["-s -w", *stamp]), "-o", f"{new}/bin/"]
        subprocess.run(
            [*command, *packages, ETCD], cwd=places.GO_MODULE, env=environment, check=True
        )
        (new / "bin" / "server").rename(new / "bin" / "etcd")


PACKAGES = {
    # program: Debian package
    "buildah": "buildah",
    "busybox": "busybox-static",
    "gcc": "gcc libc6-dev",
    "ip": "iproute2",
    "iptables": "iptables",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "runc": "runc",
    "/usr/lib/cni/bridge": "containernetworking-plugins",
}


def _get_packages() -> None:
    """Debian's packages that are not installed yet."""
    lacking = [package for program, package in PACKAGES.items() if not _is_there(program)]
    if not lacking:
        return
    names = " ".join(lacking)
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise MissingError(
            f"these Debian packages are missing, and only root can install them: {names}"
        )
    with step(f"installing {names}"):
        _apt("update")
        _apt("install", "--yes", "--no-install-recommends", *names.split())


def _is_there(program: str) -> bool:
    return shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is not None


def _apt(*arguments: str, cwd: Path | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(
        ["apt-get", "-qq", *arguments],
        cwd=cwd,
        env=environment,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        say(done.stdout)
        raise MissingError(f"apt-get {arguments[0]} failed")


def _get_node_parts() -> None:
    """containerd, and the images that must be in the node from the start."""
    target = places.node_parts()
    if target.is_dir():
        return
    with new_folder(target) as new:
        with step("unpacking containerd"):
            unpack("containerd", new / "containerd")
        _make_pause(new / "pause.tar")
        _make_busybox(new / "busybox.tar")
        with step(f"making the base image of Debian {places.DEBIAN}'s python3"):
            _make_python(new / "python.tar")


def images() -> dict[str, Path]:
    """The archives that `get_node_tools` makes, by the name of their image."""
    folder = places.node_parts()
    files = {PAUSE: "pause.tar", BUSYBOX: "busybox.tar", PYTHON: "python.tar"}
    return {name: folder / file for name, file in files.items()}


def containerd() -> Path:
    """Folder of containerd, its shim and ctr."""
    return places.node_parts() / "containerd" / "usr" / "bin"


def unpack(package: str, folder: Path) -> None:
    """A Debian package, unpacked only: installed it would start a service. Raises MissingError."""
    folder.mkdir(exist_ok=True)
    try:
        _apt("download", package, cwd=folder)
    except MissingError:  # a fresh machine has no lists
        _apt("update")
        _apt("download", package, cwd=folder)
    (archive,) = folder.glob(f"{package}_*.deb")
    subprocess.run(["dpkg", "-x", archive, folder], check=True)
    archive.unlink()


def _make_pause(image: Path) -> None:
    with tempfile.TemporaryDirectory() as root:
        source = places.GO_MODULE / "pause.c"
        subprocess.run(["gcc", "-Os", "-static", "-s", "-o", f"{root}/pause", source], check=True)
        places.make_readable(Path(root))
        oci.archive_of_folder(image, PAUSE, Path(root), ["/pause"])


def _make_busybox(image: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in ("bin", "tmp", "etc"):
            (root / name).mkdir()
        (root / "tmp").chmod(0o1777)
        busybox = shutil.which("busybox")
        assert busybox is not None
        shutil.copy(busybox, root / "bin" / "busybox")
        for name in APPLETS:
            (root / "bin" / name).symlink_to("busybox")
        places.make_readable(root)
        oci.archive_of_folder(image, BUSYBOX, root, ["/bin/sh"])


def _make_python(image: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "root"
        packages = f"--include={','.join(places.BASE_PACKAGES)}"
        subprocess.run(
            ["mmdebstrap", "--quiet", "--variant=minbase", packages, places.DEBIAN, root],
            check=True,
        )
        for unneeded in ("var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man"):
            shutil.rmtree(root / unneeded)
        for marker in (root / "usr/lib").glob("python3*/EXTERNALLY-MANAGED"):
            marker.unlink()
        (root / "usr/bin/python").symlink_to("python3")
        root.chmod(0o755)
        oci.archive_of_folder(image, PYTHON, root, ["python3"])


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that becomes `target` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    new = target.with_name(f"{target.name}.{os.getpid()}.new")
    for left in target.parent.glob(f"{target.name}.*.new"):
        shutil.rmtree(left)
    new.mkdir()
    yield new
    new.rename(target)
