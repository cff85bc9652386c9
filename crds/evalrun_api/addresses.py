"""Where a run's own objects lie: decided by its identity and its plan, and by nothing that it says.

The runner writes there. The operator reckons the same address, for what a pod reports of it would
lead whoever reads the status to an object of the pod's choice.
"""

from __future__ import annotations

from evalrun_api.plan import RunIdentity, StorePlan


def run_folder(run: RunIdentity) -> str:
    """Key of a run's folder in its store."""
    return f"runs/{run.namespace}/{run.name}/{run.uid}"


def manifest_key(run: RunIdentity) -> str:
    """Key of the last object that a run writes."""
    return f"{run_folder(run)}/manifest.json"


def manifest_uri(store: StorePlan, run: RunIdentity) -> str:
    """Address of the same."""
    return f"{store.uri.rstrip('/')}/{manifest_key(run)}"
