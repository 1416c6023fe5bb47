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
    def order(self) -> Ints:
        """All items, the longest first, equally long ones by position."""
        lengths = _lengths(self.rows)
        uneven = len(lengths) > 0 and lengths.max() >= UNEVEN * np.median(lengths)
        order: Ints = np.argsort(-lengths, kind="stable") if uneven else np.arange(len(lengths))
        return order

    @cached_property
    def places(self) -> Ints:
        """Per item, where it stands in the order."""
        return np.argsort(self.order)

    @cached_property
    def ordered(self) -> Floats:
        """The vectors in that order."""
        return self.rows[self.order]

    @cached_property
    def falling(self) -> Floats:
        """In that order the length of the longest one from there on."""
        falling: Floats = np.maximum.accumulate(_lengths(self.ordered)[::-1])[::-1]
        return falling

    def first(self, k: int) -> int:
        """How many a search looks at first."""
        head = len(self.rows) // HEAD
        return head if head >= k * GROUPS_PER_CELL and self.falling[head] < self.falling[0] else len(self.rows)

    def as_long(self, least: Floats) -> Ints:
        """How many, in the order, a search has to look at that wants no shorter ones."""
        return np.searchsorted(-self.falling, -least, side="right")


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
        longest = self.vectors.falling.max(initial=0)
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
        k = min(k, int(np.count_nonzero(may)))
        at_once = max(1, CELLS_AT_ONCE // max(1, len(may)))
        parts = [(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))]
        for start in range(0, len(self.people), at_once) if k else ():
            people = np.arange(start, min(start + at_once, len(self.people)))
            rows, found = self._reaching(people, k, may, aside)
            items, values = leading(len(people), k, rows - start, found, self.at(rows, found))
            said = values > 0
            parts.append((np.nonzero(said)[0] + start, items[said], values[said]))
        who, what, high = zip(*parts, strict=True)
        return np.concatenate(who), np.concatenate(what), np.concatenate(high)

    def _reaching(self, people: Ints, k: int, may: Flags, aside: Cells) -> Cells:
        """Pairs of these people, in order, that may be among the k best: each person's k best are, and hardly more."""
        of, parts = self.vectors, [np.zeros(0, dtype=np.int64)]
        hidden = np.sort(of.places[~may])
        bar = np.full(len(people), SMALLEST, dtype=np.float32)
        begin, end = 0, of.first(k)
        while len(people):
            scores = self.people[people] @ of.ordered[begin:end].T
            scores[:, hidden[slice(*np.searchsorted(hidden, (begin, end)))] - begin] = 0
            scores[self._aside(aside, people, begin, end)] = 0
            # The bar itself may be rounded up, and what belongs above it down.
            rows, found, bar = reaching(scores, k, 2 * self.doubt[people], bar)
            parts.append(people[rows] * len(may) + of.order[begin + found])
            lengths = self.lengths[people]
            least = np.divide(bar * (1 - ROUNDING), lengths, out=np.full(len(bar), np.inf), where=lengths > 0)
            wanted = of.as_long(least)
            going = wanted > end
            people, bar, wanted = people[going], bar[going], wanted[going]
            begin, end = end, int(np.quantile(wanted, MOST, method="higher")) if len(wanted) else end
        return np.divmod(np.sort(np.concatenate(parts)), len(may))

    def _aside(self, aside: Cells, people: Ints, begin: int, end: int) -> Cells:
        """Where pairs set aside stand in a table of these people and this part of the order."""
        rows = np.full(len(self.people), -1)
        rows[people] = np.arange(len(people))
        row, place = rows[aside[0]], self.vectors.places[aside[1]]
        here = (row >= 0) & (place >= begin) & (place < end)
        return row[here], place[here] - begin


def _lengths(vectors: Floats) -> Floats:
    lengths: Floats = np.sqrt(np.einsum("nd,nd->n", vectors, vectors))
    return lengths
