"""Write the index of the installed lmms-eval's names: `make generate` calls this.

The index lets the operator and the CLI refuse a name that does not exist, without lmms-eval.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path

import evalrun_api


def build_index() -> dict[str, object]:
    """Names of tasks, groups, tags and backends of the installed lmms-eval."""
    from lmms_eval.models import list_available_models
    from lmms_eval.tasks import TaskManager

    manager = TaskManager()
    return {
        "lmmsEval": version("lmms-eval"),
        "tasks": sorted(manager.all_subtasks),
        "groups": sorted(manager.all_groups),
        "tags": sorted(manager.all_tags),
        "backends": sorted(list_available_models(include_aliases=True)),
    }


def main() -> None:
    """Write the index into the contract package."""
    target = Path(evalrun_api.__file__).parent / "data" / "lmms_eval_index.json"
    target.write_text(json.dumps(build_index(), indent=0, ensure_ascii=False) + "\n")
    sys.stdout.write(f"{target.name}: {target.stat().st_size} bytes\n")


if __name__ == "__main__":
    main()
