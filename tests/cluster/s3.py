"""A real S3 server with one bucket."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster import places
from cluster.access import until
from cluster.ledger import Ledger
from cluster.ports import free_ports
from cluster.processes import Child
from cluster.tools import MissingError

ACCESS_KEY, SECRET_KEY = "evalrun-test", "evalrun-test-secret"
BUCKET = "evaluations"


@dataclass(frozen=True)
class S3:
    """Where the server is and how to use it. Path-style addresses; region us-east-1."""

    endpoint: str
    child: Child | None = None
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    bucket: str = BUCKET
    folder: Path = Path()

    @property
    def environment(self) -> dict[str, str]:
        """What a client of boto3 or the AWS command needs."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def client(self) -> Any:
        """A boto3 client."""
        import boto3
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=Config(
                s3={"addressing_style": "path"},
                retries={"max_attempts": 1},
                proxies={},  # one could reach nothing on this machine
            ),
        )

    @classmethod
    def start(
        cls,
        folder: Path,
        ledger: Ledger,
        address: str = "127.0.0.1",
        port: int | None = None,
        users: Mapping[str, str] | None = None,
    ) -> S3:
        """Start it with the bucket. folder: exists; data and log go there. Raises MissingError.

        port: any free one if not given. users: further access keys with their secret ones; they may
        do nothing but what a bucket policy lets them.
        """
        if not os.access(places.versitygw(), os.X_OK):
            raise MissingError("no S3 server: `make versitygw` builds one (needs Go)")
        for name in ("s3-data", "s3-meta"):
            (folder / name).mkdir()
        port = port or free_ports(address, 1)[0]
        command: list[str | Path] = [places.versitygw(), "--port", f"{address}:{port}"]
        if users:
            accounts = {
                key: {"access": key, "secret": secret, "role": "user"}
                for key, secret in users.items()
            }
            (folder / "s3-iam").mkdir()
            (folder / "s3-iam" / "users.json").write_text(json.dumps({"accessAccounts": accounts}))
            command += ["--iam-dir", folder / "s3-iam"]
        child = Child.start(
            "versitygw",
            [*command, "posix", "--sidecar", folder / "s3-meta", folder / "s3-data"],
            folder / "versitygw.log",
            {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY},
        )
        ledger.process("versitygw", child.identity)
        server = cls(f"http://{address}:{port}", child, folder=folder)
        until(server.endpoint, server._has_made_bucket, 15)
        return server

    def _has_made_bucket(self) -> bool:
        from botocore.exceptions import EndpointConnectionError

        assert self.child is not None
        self.child.check()
        try:
            self.client().create_bucket(Bucket=self.bucket)
        except EndpointConnectionError:
            return False
        return True

    def stop(self) -> None:
        """End it."""
        if self.child is not None:
            self.child.end()
