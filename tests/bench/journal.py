"""How long a large journal takes to open for resume, and how much memory: `make bench-journal`.

Writes the records as a long run does, a segment each five seconds, into a folder or an S3 server's
bucket, and opens them in a process of its own, whose peak memory is the figure.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from hashlib import md5
from pathlib import Path

from bench.reporting import bench
from evalrun_api.journal import Record, TokenUsage
from evalrun_runner.journal.segments import pack
from evalrun_runner.stores import FolderStore, Store

MAX_SECONDS, MAX_GIB = 10.0, 1.0
PREFIX = "answers/bench/0/segments/"

OPEN = """
import json, resource, sys, time
from pathlib import Path
from evalrun_runner.journal.reading import read_index
from evalrun_runner.stores import FolderStore
store = FolderStore(Path(sys.argv[1]))
before = resource.getrusage(resource.RUSAGE_SELF)
begun = time.monotonic()
index = read_index(store, sys.argv[2])
seconds = time.monotonic() - begun
after = resource.getrusage(resource.RUSAGE_SELF)
cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(json.dumps([len(index), seconds, cpu, before.ru_maxrss, after.ru_maxrss]))
"""


def fill(store: Store, records: int, per_segment: int) -> int:
    """Put so many records of one run into the store; their size unpacked."""
    size = 0
    for start in range(0, records, per_segment):
        lines = b"".join(_line(n) for n in range(start, min(start + per_segment, records)))
        size += len(lines)
        store.create(f"{PREFIX}pod-{start // per_segment:08d}.jsonl.zst", pack(lines))
    return size


def _line(number: int) -> bytes:
    record = Record(
        group="g0",
        task=f"task_{number // 10_000 % 20}",
        request_type="generate_until",
        doc_id=number % 10_000,
        idx=0,
        repeat=number // 200_000,
        fingerprint=md5(b"%d" % number, usedforsecurity=False).hexdigest(),
        response={"$generation": f"The picture shows {number * 7919} things, one of them red."},
        tokens=TokenUsage(input=1200, output=12),
        seconds=0.123456,
        device="NVIDIA H100 80GB HBM3",
    )
    return record.model_dump_json(by_alias=True, exclude_none=True).encode() + b"\n"


def main() -> int:
    """Fill, open, report; 1 when a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--per-segment", type=int, default=500, help="100 answers/s for 5 s")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        print(f"writing {options.records:,} records ...", flush=True)
        begun = time.monotonic()
        size = fill(FolderStore(Path(folder)), options.records, options.per_segment)
        print(f"{size / 2**20:.0f} MiB of lines in {time.monotonic() - begun:.0f} s", flush=True)
        command = [sys.executable, "-c", OPEN, folder, PREFIX]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found, seconds, cpu, before, after = json.loads(done.stdout)
    held = seconds <= MAX_SECONDS and after <= MAX_GIB * 2**20 and found == options.records
    bench(
        "bench-journal",
        records=found,
        segments=-(-options.records // options.per_segment),
        journal_mib=size / 2**20,
        journal_open_s=seconds,
        cpu_s=cpu,
        peak_rss_mib=after / 1024,
        rss_before_mib=before / 1024,
        bounds={"journal_open_s": MAX_SECONDS, "peak_rss_mib": MAX_GIB * 1024},
        held=held,
    )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
