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
        with socket.socket() as probe:
            try:
                probe.bind((address, port))
            except OSError:
                continue
        found.append(port)
    return found
