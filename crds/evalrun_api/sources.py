"""Where a run's weights come from and where its answers and results go."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from evalrun_api.document import Document, ObjectName, RelativePath, ShortText

ADDRESS_PATTERN = r"^https?://[^\s@?#]+$"
"""An address without credentials: no user before the host, and no query that could hold a key."""


class SecretKey(Document):
    """A key of a Secret in the run's own namespace."""

    name: ObjectName = Field(description="Name of the Secret.")
    key: Annotated[str, StringConstraints(min_length=1, max_length=253)] = Field(
        description="Key within the Secret."
    )


class VolumePath(Document):
    """A folder on a PersistentVolumeClaim of the run's namespace.

    On a laptop a claim is the folder of the same name beside the manifest, unless
    `evalrun run --volume CLAIM=FOLDER` says otherwise.
    """

    claim_name: ObjectName = Field(description="Name of the PersistentVolumeClaim.")
    path: RelativePath = Field(default="", description="Folder within the volume.")


class HuggingFaceSource(Document):
    """A model repository on the Hugging Face hub."""

    repo: Annotated[
        str,
        StringConstraints(
            max_length=200,
            pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*(/[A-Za-z0-9][A-Za-z0-9_.\-]*)?$",
        ),
    ] = Field(description="Repository, for example Qwen/Qwen2.5-VL-7B-Instruct.")
    revision: Annotated[str, StringConstraints(min_length=1, max_length=200)] = Field(
        default="main",
        description="Branch, tag or commit. It is resolved once, and the commit is recorded.",
    )
    token_secret: SecretKey | None = Field(
        default=None, description="Where the access token of a gated repository is kept."
    )


class EndpointSource(Document):
    """A server that speaks the OpenAI API. No accelerator is requested for it."""

    url: Annotated[str, StringConstraints(max_length=2048, pattern=ADDRESS_PATTERN)] = Field(
        description="Base address, for example http://vllm.models:8000/v1."
    )
    model: ShortText = Field(description="Name of the model at that server.")
    secret: SecretKey | None = Field(default=None, description="Where the API key is kept.")


class ModelSource(Document):
    """Where the weights come from: exactly one of the fields."""

    ONE_OF = ("hugging_face", "volume", "endpoint")

    hugging_face: HuggingFaceSource | None = Field(
        default=None, description="A repository on the Hugging Face hub."
    )
    volume: VolumePath | None = Field(default=None, description="A folder on a volume.")
    endpoint: EndpointSource | None = Field(
        default=None, description="A running OpenAI-compatible server."
    )


class S3Store(Document):
    """An S3-compatible bucket."""

    uri: Annotated[
        str,
        StringConstraints(
            max_length=1024, pattern=r"^s3://[a-z0-9][a-z0-9.\-]{1,61}[a-z0-9](/.*)?$"
        ),
    ] = Field(description="s3://BUCKET or s3://BUCKET/PREFIX.")
    endpoint: Annotated[str, StringConstraints(max_length=2048, pattern=ADDRESS_PATTERN)] | None = (
        Field(default=None, description="Address of the service, if it is not AWS.")
    )
    region: Annotated[str, StringConstraints(max_length=64, pattern=r"^[a-z0-9\-]+$")] | None = (
        Field(default=None, description="Region of the bucket.")
    )
    secret_name: ObjectName | None = Field(
        default=None,
        description="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; without it the pods' "
        "own identity is used.",
    )


class ResultsSpec(Document):
    """Where answers and results are written. Left out: the administrator's default store."""

    ONE_OF = ("store", "s3", "volume")

    store: ObjectName | None = Field(
        default=None, description="A store from the administrator's configuration."
    )
    s3: S3Store | None = Field(default=None, description="A bucket, where the policy allows it.")
    volume: VolumePath | None = Field(
        default=None, description="A folder on a volume, where the policy allows it."
    )
    answers_retention_seconds: Annotated[int, Field(ge=0)] | None = Field(
        default=None,
        description="How long answers are kept after the last run that used them; evalrun gc "
        "removes older ones. For ever by default.",
    )
