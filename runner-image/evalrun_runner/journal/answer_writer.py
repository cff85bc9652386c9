"""The journal as the answer step writes it: with the files of answers, and rounds to read back."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from evalrun_api.journal import Record, RequestKey
from evalrun_runner.journal.visual_thought import KeptImages
from evalrun_runner.journal.writing import JournalWriter
from evalrun_runner.stores import Store


class AnswerWriter(JournalWriter):
    """See `JournalWriter`. images: keeps the files that answers name."""

    def __init__(
        self, store: Store, prefix: str, spool: Path, writer: str, images: KeptImages
    ) -> None:
        super().__init__(store, prefix, spool, writer)
        self._images = images
        self._rounds: dict[tuple[RequestKey, str], Record] = {}

    def append(self, records: Iterable[Record]) -> None:
        """Store the files of answers, then journal the answers."""
        kept = [self._images.keep(record) for record in records]
        super().append(kept)
        for record in kept:
            if record.round:
                self._rounds[record.key, record.fingerprint] = record

    def take_round(self, key: RequestKey, fingerprint: str) -> Record:
        """The answer to a round that was just asked; it is forgotten here."""
        return self._rounds.pop((key, fingerprint))
