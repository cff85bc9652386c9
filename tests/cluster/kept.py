"""A cluster for a person to play with, kept by a process in the background."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from cluster import demo, images, places, tools
from cluster.cluster import Cluster, cluster
from cluster.containerd import Containerd
from cluster.ledger import clear_dead, ledgers
from cluster.node import SERVICES
from cluster.processes import Identity, without_proxy
from cluster.progress import say, step
from cluster.tools import MissingError

PURPOSE = "`make cluster` (`make cluster-down` ends it)"


@dataclass(frozen=True)
class Kept:
    """What a person needs to know of it."""

    keeper: int
    started: int
    boot: str
    kubeconfig: str
    s3_endpoint: str
    s3_environment: dict[str, str]
    containerd: str

    @classmethod
    def find(cls) -> Kept | None:
        """The cluster that is up."""
        try:
            found = cls(**json.loads(_file().read_text()))
        except (FileNotFoundError, TypeError):  # TypeError: another version of this wrote it
            return None
        return found if found.identity.is_alive() else None

    @property
    def identity(self) -> Identity:
        """Of the process that keeps it."""
        return Identity(self.keeper, self.started, self.boot)

    def describe(self) -> str:
        """Lines for a shell to read."""
        lines = [f"export KUBECONFIG={self.kubeconfig}", f"export PATH={_programs()}:$PATH"]
        lines += [f"export {name}={value}" for name, value in self.s3_environment.items()]
        if without_proxy() != os.environ:  # it would be asked for addresses of this machine
            lines.append(f"export NO_PROXY={SERVICES[1]},$NO_PROXY")
        return "\n".join(lines)


def _file() -> Path:
    return places.state() / "cluster.json"


def _programs() -> Path:
    """The folder of links to kubectl and to our own commands."""
    return places.state() / "bin"


def _link_programs(kubectl: Path) -> None:
    folder = _programs()
    folder.mkdir(exist_ok=True)
    own = Path(sys.executable).parent
    for program in (kubectl, own / "evalrun", own / "kubectl-evalrun"):
        link = folder / program.name
        link.unlink(missing_ok=True)
        link.symlink_to(program)


def up() -> None:
    """Start one, unless it is up. Raises MissingError."""
    kept = Kept.find()
    if kept is None:
        with step("starting a cluster"):
            kept = _start()
    else:
        say("the cluster is up already")
    print(kept.describe(), flush=True)
    say(f"S3 with bucket `evaluations`: {kept.s3_endpoint}. `make cluster-down` ends the cluster.")


def _start() -> Kept:
    places.state().mkdir(parents=True, exist_ok=True)
    log = places.state() / "cluster.log"
    with log.open("wb") as target:
        keeper = subprocess.Popen(
            [sys.executable, "-m", "cluster", "keep"],
            stdin=subprocess.DEVNULL,
            stdout=target,
            stderr=target,
            start_new_session=True,
        )
    try:
        while (kept := Kept.find()) is None:
            if keeper.poll() is not None:
                raise MissingError(f"no cluster has started:\n{log.read_text()}")
            time.sleep(0.1)
    except KeyboardInterrupt:
        keeper.terminate()
        keeper.wait()
        raise
    keeper.returncode = 0  # it goes on without us, which subprocess would warn about
    return kept


def keep() -> None:
    """Be the process that keeps it, until SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with cluster(PURPOSE) as started:
        started.ensure_images()
        folder = started.control_plane.folder / "volumes"
        folder.mkdir()
        demo.set_up(started, started.s3, "default", folder)
        _write(started)
        try:
            while True:
                signal.pause()
        finally:
            _file().unlink()


def _write(started: Cluster) -> None:
    _link_programs(Path(started.tools["kubectl"]))
    kubeconfig = places.state() / "kubeconfig"
    shutil.copy(started.kubeconfig, kubeconfig)
    kubeconfig.chmod(0o600)
    me = Identity.of(os.getpid())
    kept = Kept(
        me.pid,
        me.started,
        me.boot,
        str(kubeconfig),
        started.s3.endpoint,
        started.s3.environment,
        str(started.node.socket),
    )
    new = _file().with_suffix(".new")
    new.write_text(json.dumps(asdict(kept)))
    new.rename(_file())


def build_images() -> None:
    """Build the project's images, and bring them into the cluster if it is up.

    The environment's VARIANT, vllm or cpu, asks for another runner's image, and for it alone.
    """
    tools.get_node_tools()
    kept = Kept.find()
    for image in images.wanted(os.environ):
        built = images.build(image)
        say(f"{image.name} is built")
        if kept is not None and Containerd(Path(kept.containerd)).add(image.name, built):
            say(f"{image.name} is in the cluster now")


def show_images() -> None:
    """Build them, write their bills of materials, and print what they are like."""
    from cluster import image_report  # with a library that no other command needs

    build_images()
    for image in images.wanted(os.environ):
        image_report.report(image, images.build(image))


def down() -> None:
    """End it, and clear what dead owners of other clusters left."""
    kept = [found.owner for found in ledgers() if found.purpose == PURPOSE]
    kept = [keeper for keeper in kept if keeper.is_alive()]
    for keeper in kept:
        with step("ending the cluster"):
            keeper.end(60)
    left = clear_dead()
    for what in left:
        say(f"cleared {what}")
    if not kept and not left:
        say("there is no cluster, and nothing is left of one")
