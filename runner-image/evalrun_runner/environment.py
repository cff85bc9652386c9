"""Environment variables out of Secrets: taken over only if their names are not reserved."""

from __future__ import annotations

from collections.abc import MutableMapping

from evalrun_api.errors import Fault, Refused
from evalrun_api.pods import ENV_FROM_PREFIX, RESERVED_ENV_MESSAGE, is_reserved


def adopt_env_from(environment: MutableMapping[str, str]) -> None:
    """Take the prefix off the variables that come from a Secret (spec.*Pod.envFrom).

    A variable that is set already wins, as in core/v1. Raises `Refused` for reserved names, whose
    values are not shown: they are secrets.
    """
    given = [name for name in environment if name.startswith(ENV_FROM_PREFIX)]
    values = {name.removeprefix(ENV_FROM_PREFIX): environment.pop(name) for name in given}
    faults = [
        Fault(f"envFrom: key {name}", RESERVED_ENV_MESSAGE, "Take the key out of the Secret")
        for name in sorted(values)
        if is_reserved(name)
    ]
    if faults:
        raise Refused(faults)
    for name, value in values.items():
        environment.setdefault(name, value)
