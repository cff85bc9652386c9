"""A journal's writer that is killed again and again while its S3 server misbehaves.

The short form of `make bench-kill`, with the writer alone: three SIGKILLs and one SIGTERM.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.faults import FaultProxy
from bench.journal_audit import Audit
from evalrun_runner.stores import open_store

pytestmark = [pytest.mark.runner, pytest.mark.filterwarnings("ignore")]

PREFIX = "answers/default/d/segments/"
WRITER = """
import signal, sys, threading, time
from pathlib import Path
from evalrun_api.journal import Record
from evalrun_api.plan import StorePlan
from evalrun_runner.journal.reading import read_index
from evalrun_runner.journal.writing import JournalWriter, adopt
from evalrun_runner.journal.request_list import Request
from evalrun_runner.stores import open_store

endpoint, spool, prefix = sys.argv[1:]
store = open_store(StorePlan(uri="s3://evaluations/team", endpoint=endpoint))
asked = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: asked.set())
adopt(store, prefix, Path(spool))
index = read_index(store, prefix)
writer = JournalWriter(store, prefix, Path(spool), "pod", flush_seconds=0.5)
for number in range(20_000):
    record = Record(group="g0", task="t", request_type="generate_until", doc_id=number, idx=0,
                    fingerprint="f" * 32, response="red")
    if index.answer_to(Request(record.key, record.fingerprint, None)) is None:
        writer.append([record])
        print(number, flush=True)
        time.sleep(0.002)
    if asked.is_set():
        break
writer.close(patience_seconds=20)
"""


def test_a_writer_killed_with_a_failing_store_loses_nothing(s3: Any, tmp_path: Path) -> None:
    proxy = FaultProxy(s3.endpoint, seed=7)
    proxy.faulty = True
    spool = tmp_path / "spool"
    audit = Audit(open_store(s3.plan()), PREFIX, spool)
    deaths = [(signal.SIGKILL, 1.1), (signal.SIGKILL, 0.3), (signal.SIGKILL, 2.3)]
    for number, seconds in [*deaths, (signal.SIGTERM, 1.7)]:
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, proxy.endpoint, spool, PREFIX],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            assert int(first) == len(audit.known), "it did not go on where the last one ended"
            time.sleep(seconds)
            process.send_signal(number)
            said = 1 + process.stdout.read().count(b"\n")
        proxy.settle()
        death = audit.after_death(said, lose_spool=number == signal.SIGTERM)
        assert death.lost == 0
        assert death.gained >= said > 20
        assert death.recomputed == 0
    assert process.returncode == 0
    assert audit.doubled == 0
    assert audit.changed() == []
    assert {key.doc_id for key, _ in audit.known} == set(range(len(audit.known)))
    assert sum(proxy.seen.values()) > proxy.seen["none"] > 0
    proxy.close()
