"""From the options of a command to a cluster."""

from __future__ import annotations

import os
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
    from evalrun_cli import cluster  # takes a second or two

    return cluster.connect(choice)
