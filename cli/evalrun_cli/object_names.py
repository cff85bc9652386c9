"""Which names objects of a cluster can have. An empty one would stand for all objects of a kind."""

from __future__ import annotations

import re

_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
LONGEST = 253


def is_name(text: object) -> bool:
    """Whether an object can have this name (RFC 1123 subdomain)."""
    return isinstance(text, str) and len(text) <= LONGEST and _NAME.fullmatch(text) is not None


def is_namespace(text: object) -> bool:
    """Whether a namespace can have this name (RFC 1123 label)."""
    return isinstance(text, str) and _NAMESPACE.fullmatch(text) is not None
