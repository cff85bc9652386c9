"""From what the command line says to a cluster: by a kubeconfig or a pod's service account."""

from __future__ import annotations

import os

from kubernetes.client import Configuration
from kubernetes.config import ConfigException, load_incluster_config, load_kube_config

from evalrun_api import nesting, reasons
from evalrun_api.errors import fail
from evalrun_cli import kubeconfig
from evalrun_cli.cluster import Cluster
from evalrun_cli.cluster_choice import SERVICE_ACCOUNT, ClusterChoice

_UNUSABLE = (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError)
"""What the client raises on what it cannot use. Its words may quote the file, tokens and all:
they are shown nowhere."""


def connect(choice: ClusterChoice) -> Cluster:
    """The cluster that the command line and the environment name. Raises `EvalrunError`.

    A kubeconfig (--kubeconfig, KUBECONFIG, ~/.kube/config) comes first, as with kubectl; where none
    is named and none is there, a pod's service account.
    """
    nesting.allow()
    if choice.is_pods_own:
        return _pods_own(choice)
    if not choice.present:
        what = f"there is no kubeconfig: {choice.looked_at} does not exist"
        remedy = "Name one with --kubeconfig or KUBECONFIG; evalrun run works without a cluster"
        raise fail(reasons.CLUSTER_UNAVAILABLE, "--kubeconfig", what, remedy)
    found = kubeconfig.read(choice.present)
    name = choice.context or found.current
    if name not in found.contexts:
        raise choice.unknown_context(name, sorted(found.contexts))
    chosen = kubeconfig.chosen(found, name)
    configuration = Configuration()
    try:
        files = os.pathsep.join(map(str, choice.present))
        load_kube_config(files, name, client_configuration=configuration)
    except _UNUSABLE:
        what = f"context {name} names a cluster or a user that cannot be used"
        raise kubeconfig.unusable(choice.looked_at, what) from None
    own = chosen.get("namespace") or "default"
    return Cluster(configuration, name, choice.namespace or own, choice.options)


def _pods_own(choice: ClusterChoice) -> Cluster:
    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
        own = (SERVICE_ACCOUNT / "namespace").read_text().strip()
    except (ConfigException, OSError) as error:
        what = "the pod's service account cannot be used: its token, its certificate, its"
        what += " namespace or KUBERNETES_SERVICE_HOST is missing"
        remedy = "Name a kubeconfig with --kubeconfig or KUBECONFIG, or mount the account's token"
        raise fail(reasons.CLUSTER_UNAVAILABLE, str(SERVICE_ACCOUNT), what, remedy) from error
    name = "the pod's service account"
    return Cluster(configuration, name, choice.namespace or own, choice.options)
