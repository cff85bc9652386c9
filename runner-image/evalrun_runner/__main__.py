"""`python -m evalrun_runner` is `evalrun-runner`."""

import os
import signal

from evalrun_api.reasons import ExitCode


def start() -> None:
    """Run the command. A signal while it is being imported finds nothing to store."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(ExitCode.STOPPED))
    from evalrun_runner.main import main

    main()


if __name__ == "__main__":
    start()
