"""An S3-compatible bucket as a store."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from evalrun_api import reasons
from evalrun_api.errors import EvalrunError, fail
from evalrun_runner.stores.objects import CHECK_PREFIX, MAX_OBJECT_BYTES, StoredObject
from evalrun_runner.stores.own_traffic import own_traffic

if TYPE_CHECKING:
    from botocore.client import BaseClient

CONFLICT_TRIES = 5
_REFUSED_CREDENTIALS = frozenset(
    {
        "ExpiredToken",
        "ExpiredTokenException",  # of a web identity, as the next two
        "IDPRejectedClaim",
        "InvalidIdentityToken",
        "InvalidAccessKeyId",
        "InvalidToken",
        "SignatureDoesNotMatch",
        "XAdminUserNotFound",  # versitygw
    }
)


class S3Store:
    """A bucket with a prefix. Retries are botocore's (standard mode)."""

    def __init__(self, bucket: str, prefix: str, endpoint: str | None, region: str | None) -> None:
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._client = _s3_client(endpoint, region)
        self._endpoint = endpoint

    def get(self, key: str, limit: int = MAX_OBJECT_BYTES) -> bytes | None:
        """See `Store`."""
        with self._explained(key):
            try:
                response = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
                size = response.get("ContentLength")
                if size is not None and size > limit:
                    raise fail(reasons.CORRUPT_STORE, self.uri(key), f"it has {size} bytes")
                # Read to its end, a body that was cut short is an error; read in part, it is not.
                data: bytes = (
                    response["Body"].read() if size is not None else response["Body"].read(limit)
                )
            except self._client.exceptions.NoSuchKey:
                return None
            return data
        raise AssertionError

    def put(self, key: str, data: bytes) -> None:
        """See `Store`."""
        with self._explained(key):
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Store`."""
        from botocore.exceptions import ClientError

        with self._explained(key):
            for attempt in range(CONFLICT_TRIES):
                try:
                    self._client.put_object(
                        Bucket=self._bucket, Key=self._prefix + key, Body=data, IfNoneMatch="*"
                    )
                except ClientError as error:
                    if _code(error) in ("PreconditionFailed", "412"):
                        return False
                    # Two writers at once: S3 answers 409 and wants the loser to try again.
                    conflict = _code(error) == "ConditionalRequestConflict"
                    if not conflict or attempt == CONFLICT_TRIES - 1:
                        raise
                    time.sleep(random.uniform(0.1, 0.5))
                else:
                    return True
        raise AssertionError

    def list(self, prefix: str) -> Iterator[str]:
        """See `Store`."""
        yield from (found.key for found in self.objects(prefix))

    def objects(self, prefix: str) -> Iterator[StoredObject]:
        """See `Store`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=self._prefix + prefix
        )
        with self._explained(prefix):
            found = [entry for page in pages for entry in page.get("Contents", [])]
        yield from sorted(
            StoredObject(
                entry["Key"].removeprefix(self._prefix), entry["Size"], entry["LastModified"]
            )
            for entry in found
        )

    def leftovers(self) -> Iterator[StoredObject]:
        """See `Store`."""
        yield from self.objects(CHECK_PREFIX)

    def delete(self, key: str) -> None:
        """See `Store`."""
        with self._explained(key):
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    def uri(self, key: str) -> str:
        """See `Store`."""
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def check(self) -> None:
        """See `Store`."""
        with self._explained(""):
            self._client.list_objects_v2(Bucket=self._bucket, Prefix=self._prefix, MaxKeys=1)
        key = f"{CHECK_PREFIX}{os.urandom(8).hex()}"
        self.put(key, b"")
        with self._explained(key), suppress(Exception):  # a store may forbid deleting
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key)

    @contextmanager
    def _explained(self, key: str) -> Iterator[None]:
        from botocore import exceptions as aws

        try:
            with own_traffic():
                yield
        except aws.ClientError as error:
            raise self._client_error(error, key) from error
        except (aws.NoCredentialsError, aws.PartialCredentialsError) as error:
            raise fail(
                reasons.CREDENTIALS_REFUSED,
                self.uri(key),
                "there are no credentials",
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (in a cluster: the Secret, or "
                "webIdentity of the store)",
            ) from error
        except FileNotFoundError as error:  # botocore reads nothing else but the token
            what = f"the token of the pod's identity is not there ({error.filename})"
            remedy = "Check webIdentity of the store, and the pod's projected volume"
            raise fail(reasons.CREDENTIALS_REFUSED, self.uri(key), what, remedy) from error
        except (aws.BotoCoreError, OSError) as error:
            where = self._endpoint or "the S3 service"
            what = f"{where} cannot be reached ({type(error).__name__})"
            raise fail(reasons.STORE_UNAVAILABLE, self.uri(key), what) from error

    def _client_error(self, error: Any, key: str) -> EvalrunError:
        code = _code(error)
        message = error.response.get("Error", {}).get("Message", "")
        where = self.uri(key)
        if code == "NoSuchBucket":
            what = f"the bucket {self._bucket} does not exist"
            return fail(reasons.BUCKET_NOT_FOUND, where, what)
        if code in _REFUSED_CREDENTIALS:
            return fail(reasons.CREDENTIALS_REFUSED, where, f"{code}: {message}")
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == "AccessDenied" or status in (401, 403):
            return fail(reasons.ACCESS_DENIED, where, f"{code}: {message}")
        if code in ("QuotaExceeded", "XMinioStorageFull", "EntityTooLarge"):
            return fail(reasons.DISK_FULL, where, f"{code}: {message}")
        return fail(reasons.STORE_UNAVAILABLE, where, f"the service answered {code}: {message}")


def _code(error: Any) -> str:
    return str(error.response.get("Error", {}).get("Code", "unknown"))


def _s3_client(endpoint: str | None, region: str | None) -> BaseClient:
    import boto3
    from botocore.config import Config

    config = Config(
        retries={"mode": "standard", "max_attempts": 5},
        connect_timeout=5,
        read_timeout=60,
        request_checksum_calculation="when_required",  # older S3-compatible servers refuse others
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if endpoint else {},
    )
    session = boto3.session.Session()  # the shared one keeps the first credentials it saw
    return session.client(
        "s3",
        endpoint_url=endpoint,
        region_name=region or session.region_name or "us-east-1",
        config=config,
    )
