"""What a cluster takes of a machine and gives back, without a cluster."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from botocore.exceptions import EndpointConnectionError

from cluster import cgroups, ledger, places
from cluster.ledger import Ledger
from cluster.node import BRIDGE, takes_addresses
from cluster.processes import Identity
from cluster.s3 import S3
from cluster.tools import MissingError, one_at_a_time

pytestmark = pytest.mark.decisions


@pytest.fixture
def own_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """A ledger of this process that nobody else finds, and no reaper reads."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Ledger, "_start_reaper", lambda self: None)
    return Ledger.new("a test")


def test_a_ledger_is_cleared_although_its_last_line_is_torn(
    own_ledger: Ledger, tmp_path: Path
) -> None:
    folder = tmp_path / "made"
    folder.mkdir()
    own_ledger.folder(folder)
    with own_ledger.file.open("a") as lines:
        lines.write('{"process": "kubel')
    assert own_ledger.clear() == [f"folder {folder}"]
    assert not own_ledger.file.exists()


def test_a_folder_that_the_host_lacked_is_removed_unless_it_is_used(
    own_ledger: Ledger, tmp_path: Path
) -> None:
    unused, used = tmp_path / "a" / "unused", tmp_path / "b" / "used"
    assert own_ledger.made(unused) == [unused.parent, unused]
    assert own_ledger.made(used) == [used.parent, used]
    assert own_ledger.made(used) == []
    (used / "file").touch()
    own_ledger.clear()
    assert not unused.parent.exists()
    assert used.exists()


def test_a_setting_that_a_node_has_changed_is_set_back(own_ledger: Ledger, tmp_path: Path) -> None:
    setting = tmp_path / "panic"
    setting.write_text("10\n")
    own_ledger.setting(setting, "0\n")
    own_ledger.clear()
    assert setting.read_text() == "0\n"


def test_a_ledger_tells_its_owner_from_a_process_of_another_boot(own_ledger: Ledger) -> None:
    (found,) = ledger.ledgers()
    me = Identity.of(os.getpid())
    assert found.owner == me
    assert me.is_alive()
    assert not Identity(me.pid, me.started, "another boot").is_alive()


@pytest.mark.parametrize(
    ("route", "taken"),
    [
        ({"dst": "default", "dev": "eth0"}, False),
        ({"dst": "10.0.0.0/8", "dev": "tun0"}, False),
        ({"dst": "10.213.0.0/16", "dev": "tun0"}, False),
        ({"dst": "10.213.77.0/24", "dev": "eth1"}, True),
        ({"dst": "10.213.77.128/25", "dev": "eth1"}, True),
        ({"dst": "10.213.77.9", "dev": "eth1"}, True),
        ({"dst": "10.213.78.0/24", "dev": "eth1"}, False),
        ({"dst": "10.213.77.0/24", "dev": BRIDGE}, False),
    ],
)
def test_only_a_route_that_would_win_takes_the_pods_addresses(
    route: dict[str, str], taken: bool
) -> None:
    assert takes_addresses(route) is taken


def test_a_control_group_that_cannot_be_made_is_a_missing_part(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no control group can be made here"):
        cgroups.make(tmp_path / "of-the-host" / "evalrun-node")


def test_what_pods_read_is_readable_whatever_the_umask(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    (folder / "file").touch(0o600)
    (folder / "program").touch(0o700)
    places.make_readable(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in [folder, *folder.iterdir()]}
    assert modes == {"folder": 0o755, "file": 0o644, "program": 0o755}


def test_one_process_at_a_time_makes_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    code = "from cluster.tools import one_at_a_time as one\nwith one('x'): print('in', flush=True)"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    with one_at_a_time("x"):
        other = subprocess.Popen(
            [sys.executable, "-c", code], env=environment, text=True, stdout=-1, stderr=-1
        )
        assert other.stderr is not None
        assert "waiting" in other.stderr.readline()
        assert other.poll() is None
    written, _ = other.communicate(timeout=10)
    assert written == "in\n"


def test_a_proxy_is_not_asked_for_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with pytest.raises(EndpointConnectionError):  # of the store; else it were the proxy's
        S3("http://127.0.0.1:9").client().list_buckets()
