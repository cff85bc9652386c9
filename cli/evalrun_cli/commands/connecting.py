"""From the options of a command to a cluster."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from evalrun_cli.cluster_choice import ClusterChoice, choose

if TYPE_CHECKING:
    from evalrun_cli.cluster import Cluster


def connected(kubeconfig: str | None, context: str | None, namespace: str | None) -> Cluster:
    """The cluster of the command line and the environment. Raises `EvalrunError`."""
    return connect(choice_of(kubeconfig, context, namespace))


def choice_of(kubeconfig: str | None, context: str | None, namespace: str | None) -> ClusterChoice:
    """What the command line and the environment say about the cluster."""
    return choose(kubeconfig, context, namespace, os.environ, Path.home())


def connect(choice: ClusterChoice) -> Cluster:
    """The cluster of a choice. Raises `EvalrunError`."""
    with _absent("chardet"):
        from evalrun_cli import connection  # takes a second or two
    return connection.connect(choice)


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """Let a module seem not to be installed.

    Where chardet is there (the runner's packages bring it), requests imports it for web pages that
    do not name their encoding; that takes longer than all the rest of the Kubernetes client.
    """
    hidden = module not in sys.modules
    if hidden:
        sys.modules[module] = None  # type: ignore[assignment]  # as the import system documents it
    try:
        yield
    finally:
        if hidden:
            del sys.modules[module]
