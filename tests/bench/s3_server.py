"""A real S3 server (versitygw) with one bucket, for as long as a benchmark runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError

from cluster import places
from cluster.ports import free_ports
from evalrun_api.plan import StorePlan

KEY, SECRET, BUCKET = "evalrun-bench", "evalrun-bench-secret", "evaluations"


class S3Server:
    """Ends with the `with` block. Its credentials are put into this process' environment."""

    def __init__(self, folder: Path) -> None:
        server = places.versitygw()
        if not os.access(server, os.X_OK):
            sys.exit("no S3 server: `make versitygw` builds one, and needs Go")
        for name in ("s3-data", "s3-meta"):
            (folder / name).mkdir()
        (port,) = free_ports("127.0.0.1", 1)
        self.endpoint = f"http://127.0.0.1:{port}"
        self._log = (folder / "versitygw.log").open("wb")
        command: list[str | Path] = [server, "--port", f"127.0.0.1:{port}", "posix", "--sidecar"]
        self._process = subprocess.Popen(
            [*command, folder / "s3-meta", folder / "s3-data"],
            env={**os.environ, "ROOT_ACCESS_KEY": KEY, "ROOT_SECRET_KEY": SECRET},
            stdout=self._log,
            stderr=self._log,
        )
        os.environ.update(
            AWS_ACCESS_KEY_ID=KEY,
            AWS_SECRET_ACCESS_KEY=SECRET,
            AWS_EC2_METADATA_DISABLED="true",
            NO_PROXY="127.0.0.1",
        )

    def plan(self, endpoint: str | None = None) -> StorePlan:
        """The store, at another address where something stands before the server."""
        return StorePlan(uri=f"s3://{BUCKET}/team", endpoint=endpoint or self.endpoint)

    def __enter__(self) -> Self:
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )
        deadline = time.monotonic() + 15
        while True:
            try:
                client.create_bucket(Bucket=BUCKET)
            except BotoCoreError:
                if time.monotonic() > deadline:
                    self.__exit__(None, None, None)
                    raise
                time.sleep(0.1)
            else:
                return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._log.close()
