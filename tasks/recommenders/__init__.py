"""What every family of recommenders agrees on: the interactions it learns from, and the protocol it follows.

A family learns an item side from all people and scores a person from that person's history alone. No family stores
anything about a person, so that a new person needs no training and an erased one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]


class TooLittleDataError(Exception):
    """A family cannot learn from what there is; the text says which lack, without any value from the data."""


@dataclass(frozen=True)
class Catalogue:
    """The items as of a cut, in byte order of their ids; every array has one entry per item."""

    ids: tuple[str, ...]
    text: tuple[str, ...]
    """Title, category, brand, tags and description as one string."""
    people: Ints
    """Distinct people who had anything to do with the item before the cut."""
    purchases: Mapping[int, Ints]
    """Purchases of the last n days by n; 0 stands for all time. Anonymous ones count."""
    events: Ints
    known: Flags
    """Offered, or at least met, before the cut: an item from the future is nobody's candidate."""
    recommendable: Flags
    sensitive: Flags

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Interactions:
    """Who met which item, as of a cut: people × items in compressed rows, people and items in byte order of id.

    `columns[indptr[p]:indptr[p + 1]]` are the items of person p in ascending order; the facts run beside them.
    """

    catalogue: Catalogue
    people: tuple[str, ...]
    indptr: Ints
    columns: NDArray[np.int32]
    weight: Floats
    """Signal weights × decay at the cut, as in features.user_item; may be negative."""
    events: Floats
    purchases: Floats
    days: Floats
    """Distinct days with a positive event."""
    first_age: Floats
    """Days from the first event to the cut."""
    last_age: Floats
    """Days from the last event to the cut."""

    def __len__(self) -> int:
        return len(self.people)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.people), len(self.catalogue)

    def rows(self, start: int, stop: int) -> Interactions:
        """The people from `start` up to and without `stop`, with the same catalogue."""
        stop = min(stop, len(self.people))
        cells = slice(int(self.indptr[start]), int(self.indptr[stop]))
        facts = {name: getattr(self, name)[cells] for name in FACTS}
        indptr = self.indptr[start : stop + 1] - self.indptr[start]
        return replace(self, people=self.people[start:stop], indptr=indptr, columns=self.columns[cells], **facts)

    def evidence(self, values: NDArray[Any]) -> sp.csr_array:
        """`values` (one per cell) as people × items; only positive ones, and never a sensitive item."""
        keep = (values > 0) & ~self.catalogue.sensitive[self.columns]
        kept = np.concatenate(([0], np.cumsum(keep)))
        parts = (values[keep].astype(np.float32), self.columns[keep], kept[self.indptr])
        return sp.csr_array(parts, shape=self.shape)

    def touched(self) -> Flags:
        """Dense people × items: any event at all, sensitive items too."""
        return self._dense(np.ones(len(self.columns), dtype=bool))

    def had(self) -> Flags:
        """Dense people × items: what a repeat may repeat. Bought; where nothing was ever sold, liked on balance."""
        sold = bool(self.catalogue.purchases[0].any())
        cells = self.purchases > 0 if sold else self.weight > 0
        return self._dense(cells & ~self.catalogue.sensitive[self.columns])

    def _dense(self, cells: Flags) -> Flags:
        dense = np.zeros(self.shape, dtype=bool)
        dense[self.owners()[cells], self.columns[cells]] = True
        return dense

    def owners(self) -> Ints:
        """The row of each cell."""
        return np.repeat(np.arange(len(self.people)), np.diff(self.indptr))


FACTS = ("columns", "weight", "events", "purchases", "days", "first_age", "last_age")


class Recommender(Protocol):
    """One family. `fit` raises TooLittleDataError where it cannot learn; equal input gives equal bytes."""

    name: ClassVar[str]

    @classmethod
    def fit(cls, history: Interactions, *, min_people: int, seed: int) -> Self: ...

    def score(self, block: Interactions) -> Floats:
        """People of the block × items of the catalogue; higher is better, 0 where the family has nothing to say."""
        ...

    def save(self, folder: Path) -> None: ...

    @classmethod
    def load(cls, folder: Path) -> Self: ...
