"""Opinions: what one family says of the people of a block, in the least that says it.

A table of people × items holds four billion cells for a small shop. Only families that know something of every pair
fill one; what is the same for everybody, or is about a person's own items alone, is said in a few numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.recommenders.top_k import best, place

Cells = tuple[Ints, Ints]
"""People of a block and items of the catalogue, pair by pair."""
ROUNDING = 1e-6
"""Share by which two strengths differ at most that a product in single precision may make equal."""


class Opinion(Protocol):
    """Higher is better, 0 where the family has nothing to say."""

    def at(self, people: Ints, items: Ints) -> Floats:
        """Of these pairs."""
        ...

    def best(self, k: int, may: Flags, aside: Cells) -> tuple[Ints, Ints, Floats]:
        """Person, item and score of each person's k highest above 0: person by person, the highest first, equal ones by
        position; of the items that `may` be brought, and without the pairs set `aside`: all that these people met are
        among them. Of another item `at` may say nothing from then on, unless the pair was set aside.
        """
        ...


@runtime_checkable
class Brief(Protocol):
    """A family that need not fill a table; it says what its `score` would."""

    def say(self, block: Interactions) -> Opinion: ...


@dataclass(frozen=True)
class Table:
    """Of every pair; or of some items, in ascending order, and nothing of others."""

    scores: Floats
    """People × items, or people × columns. It is written in, but for pairs set aside."""
    columns: Ints | None = None
    places: Ints | None = None
    """Per item of the catalogue, its column, or −1."""

    def at(self, people: Ints, items: Ints) -> Floats:
        if self.places is None:
            return self.scores[people, items]
        columns = self.places[items]
        known = np.flatnonzero(columns >= 0)
        found = np.zeros(len(items), dtype=np.float32)
        found[known] = self.scores[people[known], columns[known]]
        return found

    def best(self, k: int, may: Flags, aside: Cells) -> tuple[Ints, Ints, Floats]:
        people, columns = aside
        if self.places is not None:
            columns = self.places[columns]
            people, columns = people[columns >= 0], columns[columns >= 0]
        held = self.scores[people, columns]
        kept = may if self.columns is None else may[self.columns]
        if not kept.all():
            np.multiply(self.scores, kept.astype(np.float32), out=self.scores)
        self.scores[people, columns] = 0
        found, values = best(self.scores, k)
        self.scores[people, columns] = held
        said = values > 0
        items = found[said] if self.columns is None else self.columns[found[said]]
        return np.nonzero(said)[0], items, values[said]


def some(scores: Floats, columns: Ints, items: int) -> Table:
    """A table of these columns of a catalogue of so many items."""
    places = np.full(items, -1, dtype=np.int64)
    places[columns] = np.arange(len(columns))
    return Table(scores, columns, places)


@dataclass(frozen=True)
class Alike:
    """score(u, i) = strength(i) × lean(u, kind(i)): within a kind everybody ranks alike."""

    strength: Floats
    """Per item."""
    kind: Ints
    """Per item."""
    lean: Floats
    """People × kinds."""
    order: Ints
    """All items, kind by kind, the strongest first: see `ranked`."""

    def at(self, people: Ints, items: Ints) -> Floats:
        said: Floats = self.lean[people, self.kind[items]] * self.strength[items]
        return said

    def best(self, k: int, may: Flags, aside: Cells) -> tuple[Ints, Ints, Floats]:
        columns = self._leading(k, may, aside)
        scores = self.lean[:, self.kind[columns]] * self.strength[columns]
        return some(scores, columns, len(self.kind)).best(k, may, aside)

    def _leading(self, k: int, may: Flags, aside: Cells) -> Ints:
        """Enough of each kind that its k best are left, whoever of the block set some aside; in ascending order."""
        width = self.lean.shape[1]
        order = self.order[may[self.order] & (self.strength[self.order] > 0)]
        kinds = self.kind[order]
        set_aside = np.bincount(aside[0] * width + self.kind[aside[1]], minlength=self.lean.size)
        enough = k + set_aside.reshape(self.lean.shape).max(axis=0, initial=0)
        last = place(kinds) == enough[kinds] - 1
        bar = np.zeros(width, dtype=np.float32)
        bar[kinds[last]] = self.strength[order[last]] * np.float32(1 - ROUNDING)
        return np.sort(order[self.strength[order] >= bar[kinds]])


def ranked(strength: Floats, kind: Ints) -> Ints:
    """All items, kind by kind, the strongest first, equal ones by position."""
    order: Ints = np.lexsort((-strength, kind))
    return order


@dataclass(frozen=True)
class OfOwn:
    """About what a person met, and nothing else."""

    block: Interactions
    values: Floats
    """One per cell."""

    def at(self, people: Ints, items: Ints) -> Floats:
        return self.block.at(self.values, people, items)

    def best(self, k: int, may: Flags, aside: Cells) -> tuple[Ints, Ints, Floats]:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32)
