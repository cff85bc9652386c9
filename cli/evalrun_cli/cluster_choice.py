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

    namespace: None for the context's own. files: where kubeconfigs are looked for.
    named: whether --kubeconfig or KUBECONFIG names the files.
    options: what the command line says of the cluster, to repeat in commands that are suggested.
    """

    context: str | None
    namespace: str | None
    files: tuple[Path, ...]
    named: bool = False
    options: tuple[str, ...] = ()

    @property
    def present(self) -> tuple[Path, ...]:
        """The files that are there."""
        return tuple(path for path in self.files if path.is_file())

    @property
    def is_pods_own(self) -> bool:
        """Whether it is the cluster of the pod in which this program runs.

        A kubeconfig that is named and not there is a mistake: a pod's own cluster is another one.
        """
        if self.named or self.present or self.context is not None:
            return False
        return (SERVICE_ACCOUNT / "token").is_file()

    @property
    def is_findable(self) -> bool:
        """Whether there is anything that leads to a cluster."""
        return bool(self.present) or self.is_pods_own

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
    listed = environment.get("KUBECONFIG", "").split(os.pathsep)
    named = [Path(entry) for entry in listed if entry]
    if kubeconfig is not None:
        named = [Path(kubeconfig).expanduser()]
    files = tuple(named) or (home / ".kube" / "config",)
    given = (("--kubeconfig", kubeconfig), ("--context", context))
    options = tuple(word for name, value in given if value for word in (name, value))
    return ClusterChoice(context, namespace, files, bool(named), options)
