"""What every family of recommenders agrees on: the interactions it learns from, and the protocol it follows.

A family learns an item side from all people and scores a person from that person's history alone. No family stores
anything about a person, so that a new person needs no training and an erased one leaves nothing behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
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
        kept = np.concatenate(([0], np.cumsum(keep)))
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


ROWS_AT_ONCE, COLUMNS_AT_ONCE = 8, 2048
"""Of a matrix product in single precision: so few rows are one tile of the processor, and the columns stay near it."""
EXACT_ROWS, EXACT_COLUMNS = 512, 4096
"""Of one in double precision, whose memory this bounds."""


def product(people: Floats, across: Floats) -> Floats:
    """The rows of `people` times the columns of `across`, so that a person's row is the same bytes in any block.

    BLAS rounds a row by where it stands among the others. So it is given few at a time, always as many, and whether it
    then rounds all of them alike is tried out for each shape. If not, double precision is the way, at up to twice the
    time: there the difference is far below what single precision keeps, 0 of 10 million cells differed.
    """
    if not _alike(*across.shape):
        return exact_product(people, across)
    found = np.empty((len(people), across.shape[1]), dtype=np.float32)
    whole = len(people) // ROWS_AT_ONCE * ROWS_AT_ONCE
    _tiled(people[:whole], across, found[:whole])
    if whole < len(people):
        last = np.zeros((ROWS_AT_ONCE, people.shape[1]), dtype=np.float32)
        last[: len(people) - whole] = people[whole:]
        tile = np.empty((ROWS_AT_ONCE, across.shape[1]), dtype=np.float32)
        _tiled(last, across, tile)
        found[whole:] = tile[: len(people) - whole]
    return found


def _tiled(people: Floats, across: Floats, found: Floats) -> None:
    """Into `found`; there are whole tiles of people."""
    for first in range(0, across.shape[1], COLUMNS_AT_ONCE):
        columns = slice(first, first + COLUMNS_AT_ONCE)
        for start in range(0, len(people), ROWS_AT_ONCE):
            rows = slice(start, start + ROWS_AT_ONCE)
            np.matmul(people[rows], across[:, columns], out=found[rows, columns])


@lru_cache(maxsize=256)
def _alike(dimensions: int, items: int) -> bool:
    """Whether equal rows of one tile have equal products with a table of this shape."""
    draw = np.random.Generator(np.random.Philox(dimensions))
    across = draw.random((dimensions, items), dtype=np.float32) - np.float32(0.5)
    people = np.repeat(draw.random((1, dimensions), dtype=np.float32), ROWS_AT_ONCE, axis=0)
    found = np.empty((ROWS_AT_ONCE, items), dtype=np.float32)
    _tiled(people, across, found)
    return bool((found == found[0]).all())


def exact_product(people: Floats, across: Floats) -> Floats:
    """The same in double precision: equal columns have equal products, too, wherever they stand."""
    found = np.empty((len(people), across.shape[1]), dtype=np.float32)
    for first in range(0, across.shape[1], EXACT_COLUMNS):
        columns = slice(first, first + EXACT_COLUMNS)
        exact = across[:, columns].astype(np.float64)
        for start in range(0, len(people), EXACT_ROWS):
            rows = slice(start, start + EXACT_ROWS)
            found[rows, columns] = people[rows].astype(np.float64) @ exact
    return found


def across(items: Floats) -> Floats:
    """Items × dimensions as `product` wants them."""
    return np.ascontiguousarray(items.T)


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
