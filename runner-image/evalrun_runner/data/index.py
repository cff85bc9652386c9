"""What prepare leaves in the store about the documents that the later steps need."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from evalrun_api.digests import digest
from evalrun_api.document import Document, Sha256

DATA_VERSION: Final = 1
_BLOCK = 4096


def _beneath(path: str) -> str:
    pure = PurePosixPath(path)
    plain = pure.as_posix() == path and not pure.is_absolute() and ".." not in pure.parts
    if not plain or path == "." or "\0" in path:
        raise ValueError(f"{path!r} is not a plain path beneath the folder")
    return path


Beneath = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_beneath)]
Size = Annotated[int, Field(ge=0, le=2**53)]


class Member(Document):
    """A file of the archive, by its path beneath the cache folder (HF_HOME)."""

    path: Beneath
    size: Size
    sha256: Sha256


class Link(Document):
    """A link of the cache folder that leads to another folder in it."""

    path: Beneath
    target: Beneath


class Part(Document):
    """A piece of the archive: one zstd frame.

    sha256: of the object. size: of what is in it, in bytes.
    """

    sha256: Sha256
    size: Size


class Contents(Document):
    """The files and links of an archive: its digest names it."""

    members: list[Member] = Field(default_factory=list)
    links: list[Link] = Field(default_factory=list)

    @property
    def archive(self) -> str:
        """The archive's name."""
        return digest(self.document())

    @property
    def space(self) -> int:
        """Bytes that the files take on a disk: whole blocks."""
        return sum(-(-member.size // _BLOCK) * _BLOCK for member in self.members)


class ArchiveIndex(Document):
    """An archive: written last, so an archive with an index is whole."""

    version: Literal[1] = DATA_VERSION
    contents: Contents
    parts: list[Part]


class DataRecord(Document):
    """How a run's documents reach its later steps.

    archive: name of the packed archive; None where all steps see one cache.
    builders: datasets in arrow form that were used, as paths beneath HF_HOME. The later steps see
    these alone, so a newer commit that another run fetched is not in their way.
    complete: whether everything is there, so that the later steps need no hub.
    """

    version: Literal[1] = DATA_VERSION
    archive: Sha256 | None = None
    builders: list[Beneath] = Field(default_factory=list)
    complete: bool = True
