"""What a backend has as `task_dict` while documents are decoded ahead: lmms-eval's, looked through.

A look-up of a document asks the prefetcher; all else is the dataset's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evalrun_runner.answering.prefetch import Prefetcher


class TaskView(MutableMapping[str, Any]):
    """What a backend has as `task_dict`: the documents, by task. It may add some of its own."""

    def __init__(self, documents: dict[str, Any], prefetcher: Prefetcher) -> None:
        self._documents = documents
        self._prefetcher = prefetcher

    def __getitem__(self, task: str) -> Any:
        of_task = self._documents[task]
        if not isinstance(of_task, Mapping):
            return of_task
        return _SplitsView(task, of_task, self._prefetcher)

    def __setitem__(self, task: str, value: Any) -> None:
        self._documents[task] = value

    def __delitem__(self, task: str) -> None:
        del self._documents[task]

    def __iter__(self) -> Iterator[str]:
        return iter(self._documents)

    def __len__(self) -> int:
        return len(self._documents)

    def __reduce__(self) -> Any:
        return _itself, (self._documents,)


class _SplitsView(MutableMapping[str, Any]):
    """A task's splits."""

    def __init__(self, task: str, splits: Any, prefetcher: Prefetcher) -> None:
        self._task = task
        self._splits = splits
        self._prefetcher = prefetcher

    def __getitem__(self, split: str) -> Any:
        documents = self._splits[split]
        if not self._prefetcher.suits(documents):
            return documents
        return _SplitView((self._task, str(split)), documents, self._prefetcher)

    def __setitem__(self, split: str, value: Any) -> None:
        self._splits[split] = value

    def __delitem__(self, split: str) -> None:
        del self._splits[split]

    def __reduce__(self) -> Any:
        return _itself, (self._splits,)

    def __iter__(self) -> Iterator[str]:
        return iter(self._splits)

    def __len__(self) -> int:
        return len(self._splits)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._splits, name)


class _SplitView:
    """A split whose documents may have been decoded ahead; in all else the split itself."""

    def __init__(self, where: tuple[str, str], documents: Any, prefetcher: Prefetcher) -> None:
        self._where = where
        self._split = documents
        self._prefetcher = prefetcher

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, Integral) or isinstance(key, bool):
            return self._split[key]
        return self._prefetcher.look_up(*self._where, int(key), self._split)

    def __len__(self) -> int:
        return len(self._split)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._split)

    def __reduce__(self) -> Any:
        return _itself, (self._split,)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._split, name)


def _itself(value: Any) -> Any:
    """What a copied or pickled view becomes: what it stands for."""
    return value
