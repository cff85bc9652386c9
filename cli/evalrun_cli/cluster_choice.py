"""What the command line and the environment say about the cluster."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evalrun_api.errors import EvalrunError, Fault, Refused
from evalrun_api.index import near

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Of the pod in which this program runs, if it does."""


@dataclass(frozen=True)
class ClusterChoice:
    """A cluster and a namespace in it.

    kubeconfig: the files that are there, as KUBECONFIG spells several; None where none is.
    namespace: None for the context's own. files: where kubeconfigs are looked for.
    options: what of this the command line says, to repeat in commands that are suggested.
    """

    kubeconfig: str | None
    context: str | None
    namespace: str | None
    files: tuple[Path, ...]
    options: tuple[str, ...] = ()

    @property
    def has_kubeconfig(self) -> bool:
        """Whether any of the files is there."""
        return any(path.is_file() for path in self.files)

    @property
    def is_findable(self) -> bool:
        """Whether there is anything that leads to a cluster."""
        return self.has_kubeconfig or (SERVICE_ACCOUNT / "token").is_file()

    @property
    def looked_at(self) -> str:
        """The files, for people."""
        return " and ".join(str(path) for path in self.files)

    def unknown_context(self, name: str, known: Sequence[str]) -> EvalrunError:
        """The error for a context that no kubeconfig has; an empty name is none at all."""
        what = f"there is no context {name!r}; {near(name, known)}"
        if not name:
            what = "no context is chosen: the kubeconfig has no current-context"
        remedy = f"Contexts of {self.looked_at}: {', '.join(known) or 'none'}"
        return Refused([Fault("--context", what, remedy)])


def choose(
    kubeconfig: str | None,
    context: str | None,
    namespace: str | None,
    environment: Mapping[str, str],
    home: Path,
) -> ClusterChoice:
    """The choice, with kubectl's rules for where a kubeconfig is."""
    named = environment.get("KUBECONFIG", "")
    if kubeconfig is not None:
        files = [Path(kubeconfig).expanduser()]
    elif named:
        files = [Path(entry) for entry in named.split(os.pathsep) if entry]
    else:
        files = [home / ".kube" / "config"]
    present = os.pathsep.join(str(path) for path in files if path.is_file()) or None
    given = (("--kubeconfig", kubeconfig), ("--context", context), ("-n", namespace))
    options = tuple(word for name, value in given if value for word in (name, value))
    return ClusterChoice(present, context, namespace, tuple(files), options)
