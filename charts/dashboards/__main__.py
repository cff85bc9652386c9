"""`python -m dashboards [--check]`, with PYTHONPATH=charts: write the files of the chart."""

from __future__ import annotations

import argparse
import sys

from dashboards.files import FOLDER, TEXTS, stale


def main() -> int:
    """Write the dashboards; with --check only tell which are stale, and end with 1 if any is."""
    parser = argparse.ArgumentParser(description="Write the Grafana dashboards of the chart.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if one is stale")
    if parser.parse_args().check:
        found = stale()
        sys.stdout.write("".join(f"stale: {name}.json; run `make generate`\n" for name in found))
        return 1 if found else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in TEXTS.items():
        (FOLDER / f"{name}.json").write_text(text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
