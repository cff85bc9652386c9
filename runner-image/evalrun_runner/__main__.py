"""`python -m evalrun_runner` is `evalrun-runner`."""

import os
import signal

from evalrun_api.reasons import ExitCode


def start() -> None:
    """Run the command. A SIGTERM while it is being imported finds nothing to store."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(ExitCode.STOPPED))
    from evalrun_runner.main import main

    main()


if __name__ == "__main__":
    start()
