"""`python -m cluster COMMAND`, with PYTHONPATH=tests: what the Makefile's targets call."""

from __future__ import annotations

import sys

from cluster import chart_tools, kept, kueue, prometheus, tools
from cluster.node import OccupiedError
from cluster.progress import say

COMMANDS = {
    "tools": tools.get_all,
    "kueue": kueue.build,
    "prometheus": prometheus.get,
    "chart": chart_tools.build,
    "images": kept.build_images,
    "show-images": kept.show_images,
    "up": kept.up,
    "keep": kept.keep,
    "down": kept.down,
}


def main() -> int:
    """Do what the first argument says."""
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        say(f"usage: python -m cluster {'|'.join(COMMANDS)}")
        return 2
    try:
        COMMANDS[sys.argv[1]]()
    except (tools.MissingError, OccupiedError) as missing:
        say(f"cluster: {missing}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
