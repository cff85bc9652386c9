"""`python -m evalrun_runner` is `evalrun-runner`."""

from evalrun_runner.main import main

main()
