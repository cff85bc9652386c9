"""Free ports of this machine."""

from __future__ import annotations

import random
import socket

# Below those that Linux gives to outgoing connections, so that none of these takes one meanwhile.
_RANGE = range(20_000, 32_000)


def free_ports(address: str, count: int) -> list[int]:
    """Different ports that nobody listens on."""
    found: list[int] = []
    for port in random.sample(_RANGE, len(_RANGE)):
        if len(found) == count:
            break
        if is_free(address, port):
            found.append(port)
    return found


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as probe:
        # Connections that are closing do not count, as they do not for the servers.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError:
            return False
    return True
