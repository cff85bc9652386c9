"""What a namespace needs to run the easy-VQA example: two claims and the store's Secret."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from cluster import places
from cluster.access import Access
from cluster.s3 import S3

EXAMPLE = Path(__file__).parents[2] / "examples" / "easy-vqa"
SECRET = "demo-s3"


def set_up(cluster: Access, s3: S3, namespace: str, folder: Path) -> None:
    """Make the claims `models` and `data`, and the Secret. folder: exists; gets a copy of both."""
    sources = {"models": EXAMPLE / "models", "data": data()}
    documents: list[dict[str, Any]] = []
    for claim, source in sources.items():
        target = folder / claim
        if not target.exists():
            shutil.copytree(source, target)
            places.make_readable(target)
        documents += _volume(namespace, claim, target)
    documents.append(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": SECRET, "namespace": namespace},
            "stringData": {
                "AWS_ACCESS_KEY_ID": s3.access_key,
                "AWS_SECRET_ACCESS_KEY": s3.secret_key,
            },
        }
    )
    listed = {"apiVersion": "v1", "kind": "List", "items": documents}
    cluster.kubectl("apply", "-f", "-", input=json.dumps(listed))


def data() -> Path:
    """The example's documents, made if they are not there yet."""
    folder = EXAMPLE / "data"
    if not (folder / "easy_vqa_test.parquet").exists():
        subprocess.run([sys.executable, EXAMPLE / "make_data.py"], check=True, cwd=EXAMPLE)
    return folder


def _volume(namespace: str, claim: str, folder: Path) -> list[dict[str, Any]]:
    """A claim, and the volume that is for it alone: a folder of the node."""
    name = f"{namespace}-{claim}"
    spec = {"accessModes": ["ReadOnlyMany"], "storageClassName": ""}
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name},
        "spec": {
            **spec,
            "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain",
            "hostPath": {"path": str(folder), "type": "Directory"},
            "claimRef": {"namespace": namespace, "name": claim},
        },
    }
    return [
        volume,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": namespace},
            "spec": {
                **spec,
                "volumeName": name,
                "resources": {"requests": {"storage": "1Gi"}},
            },
        },
    ]
