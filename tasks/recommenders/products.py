"""Products: opinions that multiply a person's vector by each item's.

A score is computed from its two vectors alone, so that it is the same bytes whoever else is in the block, and level
where two items have equal vectors. BLAS, many times as fast, rounds a cell by where it stands in the table: it only
finds the candidates, which are all that its rounding leaves in doubt. See docs/decisions/0003-top-k.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tasks.recommenders import Flags, Floats, Ints
from tasks.recommenders.opinions import ROUNDING, Cells
from tasks.recommenders.top_k import GROUPS_PER_CELL, SMALLEST, leading, reaching

CELLS_AT_ONCE = 6_000_000
"""Of a matrix product that is searched at once, and not kept: 24 MB stay near the processor."""
PAIRS_AT_ONCE = 2048
"""Vectors multiplied pair by pair in one go: they stay nearer still."""
HEAD = 4
"""Of so many items the longest one is looked at first: it mostly tells how far a search has to go."""
UNEVEN = 2
"""The longest vector is at least so many times as long as the middle one, or their order is no use."""
MOST = 0.9
"""Of the people whose search goes on, so many are done with the next step."""


@dataclass(frozen=True)
class Vectors:
    """Of items, and the order in which they are searched.

    The longest first, because no product is above that of the lengths: whoever has found enough need not look at what
    is too short to reach it (Teflioudi and Gemulla, "Exact and Approximate Maximum Inner Product Search with LEMP",
    TODS 2016). Where all are about as long there is nothing to be gained, and they stay as they are.
    """

    rows: Floats
    """Items × dimensions."""

    @cached_property
    def lengths(self) -> Floats:
        """Per item."""
        return _lengths(self.rows)

    @cached_property
    def uneven(self) -> bool:
        """Whether the order is of use."""
        return len(self.rows) > 0 and bool(self.lengths.max() >= UNEVEN * np.median(self.lengths))

    @cached_property
    def order(self) -> Ints:
        """All items, the longest first, equally long ones by position; or by position all of them."""
        order: Ints = np.argsort(-self.lengths, kind="stable") if self.uneven else np.arange(len(self.rows))
        return order

    @cached_property
    def places(self) -> Ints:
        """Per item, where it stands in the order."""
        return np.argsort(self.order)

    @cached_property
    def ordered(self) -> Floats:
        """The vectors in that order."""
        return self.rows[self.order] if self.uneven else self.rows

    @cached_property
    def falling(self) -> Floats:
        """Minus their lengths in that order, which rise."""
        return -self.lengths[self.order]

    def first(self, k: int) -> int:
        """How many a search looks at first."""
        head = len(self.rows) // HEAD
        return head if self.uneven and head >= k * GROUPS_PER_CELL else len(self.rows)

    def as_long(self, least: Floats) -> Ints:
        """How many, in the order, a search has to look at that wants no shorter ones; only where they are uneven."""
        return np.searchsorted(self.falling, -least, side="right")

    def only(self, may: Flags) -> Vectors:
        """Of these items. Those of the last call are kept: all blocks of a night ask for the same."""
        key = may.tobytes()
        found = self._kept.get(key)
        if found is None:
            found = Vectors(self.rows[may])
            self._kept.clear()
            self._kept[key] = found
        return found

    @cached_property
    def _kept(self) -> dict[bytes, Vectors]:
        return {}


@dataclass(frozen=True)
class Products:
    """score(u, i) = people(u) · vectors(i), and nothing where rounding could make that of 0."""

    people: Floats
    """People × dimensions."""
    vectors: Vectors

    @cached_property
    def doubt(self) -> Floats:
        """Per person, by how much two ways of computing a score differ at most, times one or two over: see Higham,
        "Accuracy and Stability of Numerical Algorithms" (2002), section 3.1, |fl(xᵀy) − xᵀy| ≤ n u |x|ᵀ|y|.
        """
        rounding = (self.people.shape[1] + 2) * float(np.finfo(np.float32).eps)
        longest = self.vectors.lengths.max(initial=0)
        found: Floats = (rounding * longest * self.lengths).astype(np.float32)
        return found

    @cached_property
    def lengths(self) -> Floats:
        """Per person."""
        return _lengths(self.people)

    def table(self) -> Floats:
        """People × items, all of them, as BLAS rounds them."""
        scores = self.people @ self.vectors.rows.T
        scores[scores <= self.doubt[:, None]] = 0
        return scores

    def at(self, people: Ints, items: Ints) -> Floats:
        found = np.empty(len(people), dtype=np.float32)
        for first in range(0, len(people), PAIRS_AT_ONCE):
            part = slice(first, first + PAIRS_AT_ONCE)
            # Faster than an index in brackets.
            ours, theirs = self.people.take(people[part], axis=0), self.vectors.rows.take(items[part], axis=0)
            np.einsum("nd,nd->n", ours, theirs, out=found[part])
        found[found <= self.doubt[people]] = 0
        return found

    def best(self, k: int, may: Flags, aside: Cells) -> tuple[Ints, Ints, Floats]:
        columns, of = np.flatnonzero(may), self.vectors.only(may)
        k = min(k, len(columns))
        at_once = max(1, CELLS_AT_ONCE // max(1, len(columns)))
        brought = may[aside[1]]
        column = (np.cumsum(may) - 1)[aside[1][brought]]
        aside = aside[0][brought], of.places[column]
        parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))]
        for start in range(0, len(self.people), at_once) if k else ():
            people = np.arange(start, min(start + at_once, len(self.people)))
            rows, found = self._reaching(people, k, of, aside)
            items = columns[found]
            positions, values = leading(len(people), k, rows - start, items, self.at(rows, items))
            said = values > 0
            parts.append((np.nonzero(said)[0] + start, positions[said], values[said]))
        who, what, high = zip(*parts, strict=True)
        return np.concatenate(who), np.concatenate(what), np.concatenate(high)

    def _reaching(self, people: Ints, k: int, of: Vectors, aside: Cells) -> Cells:
        """Pairs of these people, in order, that may be among the k best `of` these: each person's k best are, and
        hardly more. `aside` has places in the order.
        """
        parts, items = [np.zeros(0, dtype=np.int64)], len(of.rows)
        bar = np.full(len(people), SMALLEST, dtype=np.float32)
        begin, end = 0, of.first(k)
        while len(people):
            scores = self.people[people] @ of.ordered[begin:end].T
            scores[self._within(aside, people, begin, end)] = 0
            # The bar itself may be rounded up, and what belongs above it down. So it is lowered, far enough for lengths
            # that were rounded as well.
            rows, found, bar = reaching(scores, k, 2 * self.doubt[people], bar)
            parts.append(people[rows] * items + of.order[begin + found])
            if end == items:
                break
            lengths = self.lengths[people]
            least = np.divide(bar * (1 - ROUNDING), lengths, out=np.full(len(bar), np.inf), where=lengths > 0)
            wanted = of.as_long(least)
            going = wanted > end
            people, bar, wanted = people[going], bar[going], wanted[going]
            begin, end = end, int(np.quantile(wanted, MOST, method="higher")) if len(wanted) else end
        return np.divmod(np.sort(np.concatenate(parts)), max(1, items))

    def _within(self, aside: Cells, people: Ints, begin: int, end: int) -> Cells:
        """Where pairs set aside stand in a table of these people and this part of the order."""
        rows = np.full(len(self.people), -1)
        rows[people] = np.arange(len(people))
        row, place = rows[aside[0]], aside[1]
        here = (row >= 0) & (place >= begin) & (place < end)
        return row[here], place[here] - begin


def _lengths(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths
