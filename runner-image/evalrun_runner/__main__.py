"""`python -m evalrun_runner` is `evalrun-runner`."""

import os
import signal
import sys

from evalrun_api.reasons import ExitCode

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_HASH_SEED = "PYTHONHASHSEED"


def start() -> None:
    """Run the command. A signal while it is being imported finds nothing to store."""
    for number in _SIGNALS:
        signal.signal(number, lambda *_: os._exit(ExitCode.STOPPED))
    pin_hashes()
    from evalrun_runner.main import main

    main()


def pin_hashes() -> None:
    """Have Python hash texts the same way in every process of a run.

    A few tasks list a set of texts, in a prompt to a judge for example: in another order it is
    another question, whose verdict would be bought again. Python takes the seed of its hashes from
    its environment as it starts, so this process starts anew, unless it was given one.
    """
    if os.environ.get(_HASH_SEED, "random") == "random":
        os.environ[_HASH_SEED] = "0"
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # none is lost until `start` hears them
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  # ourselves
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


if __name__ == "__main__":
    start()
