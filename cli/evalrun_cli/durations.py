"""Durations as people write them, and ages as kubectl shows them."""

from __future__ import annotations

import re
from datetime import datetime

from evalrun_api.errors import Fault, Refused

_PARTS = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?")
_SECONDS = (86400, 3600, 60, 1)


def parse(text: str, option: str) -> float:
    """Seconds of 90s, 10m, 1h30m, 2d or a bare number of seconds. Raises `Refused`."""
    match = _PARTS.fullmatch(text.strip())
    if match is None or not any(match.groups()):
        remedy = f"Write it as 90s, 10m, 1h30m or 2d: {option} 10m"
        raise Refused([Fault(option, f"{text!r} is not a duration", remedy)])
    parts = zip(match.groups(), _SECONDS, strict=True)
    return float(sum(int(count) * unit for count, unit in parts if count))


def age(seconds: float) -> str:
    """The time since something, in one or two units, as kubectl rounds it."""
    whole = max(int(seconds), 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return f"{minutes}m{whole % 60}s" if whole % 60 else f"{minutes}m"
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    return f"{days // 365}y"


def moment(text: object) -> datetime | None:
    """A timestamp of the API server; None where it is none."""
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
