"""What a worker does because it has a supervisor: die with it, and tell it how far it is."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time

from evalrun_runner.report import Report

TELL_SECONDS = 0.5
_PR_SET_PDEATHSIG = 1


def die_with_supervisor() -> None:
    """End at once when the supervisor does, however that happens and whatever holds this process.

    What is finished lies in the spool by then. Elsewhere than on Linux the end of standard input
    has to do, which a process that hangs does not see.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def tell_regularly(report: Report) -> None:
    """Tell the supervisor how far this worker is, for as long as it lives."""

    def tell() -> None:
        while True:
            time.sleep(TELL_SECONDS)
            report.tell()

    threading.Thread(target=tell, name="tell", daemon=True).start()
