"""What every family of recommenders agrees on: the interactions it learns from, and the protocol it follows.

A family learns an item side from all people and scores a person from that person's history alone. No family stores
anything about a person, so that a new person needs no training and an erased one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks.settings import Config

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
    demand: Mapping[int, Ints]
    """Purchases of the last n days by n; 0 stands for all time, anonymous ones count. Where nothing was ever sold:
    people who liked the item on balance and whose last event is that young."""
    sold: bool
    """Whether anything was ever bought here: without sales, liking stands for buying."""
    newest: Ints
    """Positions of all items, the newest landed first, then by id: an order that reads no behaviour."""
    recommendable: Flags
    sensitive: Flags
    facts: Mapping[str, Floats] = field(default_factory=dict)
    """What else is known of an item, by name; NaN where it is not. Families read none of it."""
    unscored: int = 0
    """Items that could be shown but that nobody met, beyond the newest ones that are here."""

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
    half_life_days: float
    """Of `weight`."""
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
    facts: Mapping[str, Floats] = field(default_factory=dict)
    """What else is known of a cell, by name. Families read none of it."""
    traits: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """What people told of themselves, by name, one value per person; empty where they did not."""

    def __len__(self) -> int:
        return len(self.people)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.people), len(self.catalogue)

    def take(self, rows: Ints) -> Interactions:
        """These people, in this order, with the same catalogue."""
        sizes = self.indptr[rows + 1] - self.indptr[rows]
        indptr = np.concatenate(([0], np.cumsum(sizes)))
        cells = np.arange(indptr[-1]) + np.repeat(self.indptr[rows] - indptr[:-1], sizes)
        facts = {name: getattr(self, name)[cells] for name in FACTS}
        more = {name: values[cells] for name, values in self.facts.items()}
        people = tuple(self.people[row] for row in rows)
        told = {name: values[rows] for name, values in self.traits.items()}
        return replace(self, people=people, indptr=indptr, facts=more, traits=told, **facts)

    def blocks(self, cells: int) -> Iterator[tuple[int, Interactions]]:
        """All people in blocks of at most `cells` people × items, each with the position of its first person.

        Nobody is one empty block: what is made per block keeps its shape.
        """
        size = max(1, cells // max(1, len(self.catalogue)))
        for start in range(0, max(1, len(self.people)), size):
            yield start, self.take(np.arange(start, min(start + size, len(self.people))))

    def evidence(self, values: NDArray[Any]) -> sp.csr_array:
        """`values` (one per cell) as people × items; only positive ones, and never a sensitive item."""
        keep = (values > 0) & ~self.catalogue.sensitive[self.columns]
        # Numbers of 32 bits, as long as they are enough: products of sparse matrices mostly move them about.
        kept = np.cumsum(np.concatenate(([False], keep)), dtype=np.int32 if len(keep) < 2**31 else np.int64)
        parts = (values[keep].astype(np.float32), self.columns[keep], kept[self.indptr])
        return sp.csr_array(parts, shape=self.shape)

    def fresh(self, half_life_days: float) -> Floats:
        """`weight` at most 1 per cell, decayed faster or slower: as if the last event carried all of it."""
        rate = 1 / half_life_days - 1 / self.half_life_days
        fresh: Floats = np.minimum(np.minimum(self.weight, 1) * np.exp2(-self.last_age * rate), 1).astype(np.float32)
        return fresh

    def touched(self) -> Flags:
        """Dense people × items: any event at all, sensitive items too."""
        return self.dense(np.ones(len(self.columns), dtype=bool))

    def had(self) -> Flags:
        """Dense people × items: what a repeat may repeat. Bought; where nothing was ever sold, liked on balance."""
        return self.dense(self.had_cells())

    def had_cells(self) -> Flags:
        """The same, one per cell."""
        cells = self.purchases > 0 if self.catalogue.sold else self.weight > 0
        had: Flags = cells & ~self.catalogue.sensitive[self.columns]
        return had

    def at(self, values: NDArray[Any], people: Ints, items: Ints) -> NDArray[Any]:
        """`values` (one per cell) of these pairs, zero where the person did not meet the item."""
        if not len(values):
            return np.zeros(len(people), dtype=values.dtype)
        places, known = locate(people * np.int64(len(self.catalogue)) + items, self.keys())
        return np.where(known, values[places], values.dtype.type(0))

    def dense(self, values: NDArray[Any]) -> NDArray[Any]:
        """`values` (one per cell) as people × items, zero elsewhere."""
        table = np.zeros(self.shape, dtype=values.dtype)
        table[self.owners(), self.columns] = values
        return table

    def keys(self) -> Ints:
        """One number per cell, ascending."""
        keys: Ints = self.owners() * np.int64(len(self.catalogue)) + self.columns
        return keys

    def owners(self) -> Ints:
        """The row of each cell."""
        return np.repeat(np.arange(len(self.people)), np.diff(self.indptr))

    def temperatures(self) -> NDArray[np.str_]:
        """hot, warm or cold, by number of events: see COLD_BELOW and HOT_FROM."""
        owned = np.concatenate(([0.0], np.cumsum(self.events, dtype=np.float64)))
        events = owned[self.indptr[1:]] - owned[self.indptr[:-1]]
        return np.where(events < COLD_BELOW, "cold", np.where(events < HOT_FROM, "warm", "hot"))


FACTS = ("columns", "weight", "events", "purchases", "days", "first_age", "last_age")
COLD_BELOW = 5
"""Events: below, a history names hardly more than one taste, and popularity does most of the work."""
HOT_FROM = 20
"""Events: from here on a history is longer than a list, and the person's own habits lead it."""


class Recommender(Protocol):
    """One family. `fit` raises TooLittleDataError where it cannot learn; equal input gives equal bytes."""

    name: ClassVar[str]

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self: ...

    def score(self, block: Interactions) -> Floats:
        """People of the block × items of the catalogue; higher is better, 0 where the family has nothing to say.

        Whoever asks owns the table and may write in it.
        """
        ...

    def save(self, file: Path) -> None:
        """One .npz without pickled objects."""
        ...

    @classmethod
    def load(cls, file: Path) -> Self: ...

    def align(self, places: Ints) -> Self:
        """The same model for another catalogue: its item i stood at `places[i]`, or nowhere if that is −1.

        An item that stood nowhere is one that the model has nothing to say about.
        """
        ...


def locate(wanted: Ints, known: Ints) -> tuple[Ints, Flags]:
    """Where each number stands among those known, which are ascending, and whether it is there."""
    if not len(known):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return places, known[places] == wanted


def moved(rows: NDArray[Any], places: Ints) -> NDArray[Any]:
    """One row per item of another catalogue, zero where the item stood nowhere: see `Recommender.align`."""
    found = np.zeros((len(places), *rows.shape[1:]), dtype=rows.dtype)
    known = places >= 0
    found[known] = rows[places[known]]
    return found
