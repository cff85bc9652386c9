"""Task code and the network: while a run is scored, only what it declares is reached.

A scorer is Python of somebody else, and it has the answers, the documents and the network of its
pod. Without `security.allowOnline` its connections are refused here, whatever library makes them:
Python tells an audit hook of every name that it looks up and of every address that it connects to.
What is declared stays in reach: the hub, the judge, proxies, this machine itself, and the store for
the runner's own calls. So does everything while tasks are loaded, for a task file may name its
documents by any address.

It stops what a task does without a thought, and is no sandbox: code that reaches into this module,
or that is not Python, gets past it. In a cluster a NetworkPolicy holds that too
(docs/security/threat-model.md).
"""

from __future__ import annotations

import ipaddress
import os
import socket
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_api.plan import RunPlan
from evalrun_runner.stores.own_traffic import is_own

KEY = "spec.security.allowOnline"
HUB = ("huggingface.co", "hf.co")
"""With all hosts beneath them: files come from other hosts than the hub's own."""
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
NAMES = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
ADDRESSES = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})


def declared_hosts(plan: RunPlan, environment: Mapping[str, str]) -> frozenset[str]:
    """Hosts that the run and its surroundings name; each stands for those beneath it."""
    addresses = [plan.judge.endpoint if plan.judge else None, environment.get("HF_ENDPOINT")]
    addresses += [value for name, value in environment.items() if name.lower() in PROXIES]
    found = {_host_of(address) for address in addresses if address}
    return frozenset({*found, *HUB, socket.gethostname().lower()}) - {""}


def _host_of(address: str) -> str:
    return (urlsplit(address if "://" in address else f"//{address}").hostname or "").lower()


class Gate:
    """What may be reached, and what was tried all the same.

    Names are refused when they are looked up. Addresses are let through that a declared name was
    looked up to, and those of this machine.
    """

    def __init__(self, hosts: frozenset[str]) -> None:
        self._hosts = hosts
        self._known: set[str] = set()
        self._lock = threading.Lock()
        self.first: EvalrunError | None = None

    def looked_up(self, host: str, found: list[Any]) -> None:
        """A name has these addresses."""
        if self._is_declared(host):
            with self._lock:
                self._known.update(str(entry[4][0]) for entry in found)

    def look_up(self, host: Any) -> None:
        """A name is about to be looked up. Raises `EvalrunError`."""
        name = _text(host)
        if name and not (_is_address(name) or self._is_declared(name) or _is_local(name)):
            self._refuse(name)

    def connect(self, address: Any) -> None:
        """A connection, or a datagram, is about to go out. Raises `EvalrunError`."""
        if not isinstance(address, tuple) or len(address) < 2:
            return  # a socket of this machine, by its path
        host = _text(address[0])
        if _is_local(host) or self._is_declared(host) or host in self._known:
            return
        self._refuse(f"{host}:{address[1]}")

    def check(self) -> None:
        """Raise what was refused, which a task may have swallowed, and scored zero instead."""
        if self.first is not None:
            raise self.first

    def _is_declared(self, host: str) -> bool:
        folded = host.lower().rstrip(".")
        return any(folded == name or folded.endswith(f".{name}") for name in self._hosts)

    def _refuse(self, where: str) -> None:
        error = fail(
            reasons.INVALID_SPEC,
            KEY,
            f"code of the benchmark reaches for {where[:200]} while it scores",
            "Set it to true, if the policy allows it (evalrun score: --allow-online), or use a "
            "benchmark that needs no network",
        )
        self.first = self.first or error
        raise error


def _text(host: Any) -> str:
    return host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_local(host: str) -> bool:
    if host in ("", "localhost", "0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return True
    if not _is_address(host):
        return False
    address = ipaddress.ip_address(host.partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return bool((mapped or address).is_loopback)


_closed: Gate | None = None
_watched = False
_look_up = socket.getaddrinfo


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    gate = _closed
    if gate is None or not event.startswith("socket.") or is_own():
        return
    if event in NAMES:
        gate.look_up(arguments[0])
    elif event in ADDRESSES:
        gate.connect(arguments[1])


def _getaddrinfo(host: Any, *arguments: Any, **named: Any) -> Any:
    found = _look_up(host, *arguments, **named)
    if (gate := _closed) is not None:
        gate.looked_up(_text(host), found)
    return found


@contextmanager
def closed(plan: RunPlan) -> Iterator[Gate]:
    """Within, this process reaches what is declared alone, unless the run may go online."""
    global _closed, _watched  # the hook is of the process, and stays
    gate = Gate(declared_hosts(plan, os.environ))
    if plan.security.allow_online:
        yield gate
        return
    if not _watched:
        sys.addaudithook(_hook)
        vars(socket)["getaddrinfo"] = _getaddrinfo
        _watched = True
    before, _closed = _closed, gate
    try:
        yield gate
    except Exception as error:  # whatever the task made of the refusal
        if gate.first is not None and error is not gate.first:
            raise gate.first from error
        raise
    finally:
        _closed = before


@contextmanager
def opened() -> Iterator[None]:
    """Within, everything is in reach again: tasks are loaded, documents among them."""
    global _closed
    before, _closed = _closed, None
    try:
        yield
    finally:
        _closed = before
