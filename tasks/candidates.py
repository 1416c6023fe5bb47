"""Candidates: for each person the best items of every family, what the blend mixes and a ranker ranks.

They are all that is looked at after the families have scored the catalogue, and a hundredth of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.settings import Repeats

PER_FAMILY = 50
"""Of one family for one person: five times what people see, so that a mix finds its top in the union."""
SMALLEST = np.finfo(np.float32).smallest_subnormal
"""Whatever is above 0 is at least this."""


@dataclass(frozen=True)
class Candidates:
    """For each person the union of every family's best items."""

    items: Ints
    """people × candidates: positions in the catalogue."""
    valid: Flags
    """people × candidates: rows are as long as the longest union; the rest is padding."""
    scores: Floats
    """families × people × candidates, on the common scale."""

    def take(self, people: Flags) -> Candidates:
        """Of these people only."""
        return Candidates(self.items[people], self.valid[people], self.scores[:, people])

    def listed(self, scores: Floats, k: int) -> tuple[Ints, Flags, Ints]:
        """People × k by these scores of the candidates: items, which entries are real, and where they stood."""
        places, values = best(scores, min(k, scores.shape[1]))
        return np.take_along_axis(self.items, places, axis=1), values > 0, places

    def ranks(self) -> Ints:
        """Families × people × candidates, from 1; equal scores by position."""
        order = np.argsort(-np.where(self.valid, self.scores, -1), axis=2, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, order.shape[2] + 1)[None, None, :], axis=2)
        return ranks


def gather(
    scales: Sequence[Floats], block: Interactions, policies: Iterable[Repeats], per_family: int = PER_FAMILY
) -> dict[Repeats, Candidates]:
    """By policy, the best `per_family` permitted items of each family that has something to say about them.

    Policies differ by the few items that a person met. All others are searched once, whatever the policy.

    Args:
        scales: by family people × items, above 0 what may be shown; given back as they came.
        block: these people.
        policies: see `blend.allowed`.
        per_family: at least as many as a list is long.
    """
    people, items = block.owners(), block.columns.astype(np.int64)
    had = block.had_cells()
    keys: dict[Repeats, list[Ints]] = {policy: [] for policy in policies}
    for scale in scales:
        own = scale[people, items]
        scale[people, items] = 0
        unmet, values = best(scale, per_family)
        scale[people, items] = own
        said = values > 0
        new = np.nonzero(said)[0], unmet[said], values[said]
        for policy, found in keys.items():
            rows, columns = new[:2]
            if policy != "never":
                again = (own > 0) & had if policy == "only" else own > 0
                parts = [(people[again], items[again], own[again]), *([new] if policy == "allowed" else [])]
                rows, columns, of = (np.concatenate(facts) for facts in zip(*parts, strict=True))
                rows, columns = _leading(rows, columns, of, per_family)
            found.append(rows * len(block.catalogue) + columns)
    return {policy: _union(scales, found, block) for policy, found in keys.items()}


def _leading(rows: Ints, items: Ints, values: Floats, most: int) -> tuple[Ints, Ints]:
    """Rows and items of the `most` highest of each row, equal ones by position."""
    order = np.lexsort((items, -values, rows))
    kept = order[_place(rows[order]) < most]
    return rows[kept], items[kept]


def _union(scales: Sequence[Floats], keys: list[Ints], block: Interactions) -> Candidates:
    """What any family brought: keys are row × items + item."""
    people, items = np.divmod(np.unique(np.concatenate([np.zeros(0, dtype=np.int64), *keys])), len(block.catalogue))
    sizes = np.bincount(people, minlength=len(block))
    valid = np.arange(sizes.max(initial=0))[None, :] < sizes[:, None]
    table = np.zeros(valid.shape, dtype=np.int64)
    table[valid] = items
    scores = np.zeros((len(scales), *valid.shape), dtype=np.float32)
    for row, scale in zip(scores, scales, strict=True):
        row[valid] = scale[people, items]
    return Candidates(table, valid, scores)


def best(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The k highest above 0 of each row, highest first, equal ones by position; rows with fewer are filled with zeros.

    Rows are looked at in groups first: at least k cells reach the k-th highest peak of the groups, and hardly more do.
    Only these are ordered. See docs/decisions/0003-top-k.md.
    """
    people, items = scores.shape
    k = min(k, items)
    if not people * k:
        return np.zeros((people, k), dtype=np.int64), np.zeros((people, k), dtype=np.float32)
    # As many cells in the chosen groups as there are groups.
    depth = max(1, math.isqrt(items // k))
    groups = items // depth
    # A group is every so many cells: its peak is found by comparing whole stretches of the row.
    peaks = scores[:, : groups * depth].reshape(people, depth, groups).max(axis=1) if depth > 1 else scores
    # Sorted, because a partition of many zeros is slower than that.
    bar = np.maximum(np.sort(peaks, axis=1)[:, groups - k], SMALLEST)
    rows, found = np.divmod(np.flatnonzero(scores >= bar[:, None]), items)
    reached = scores[rows, found]
    # Of cells that are level with the bar, however many, the first ones are enough.
    level = reached == bar[rows]
    kept = ~level | (_place(rows, level) < k)
    rows, found, reached = rows[kept], found[kept], reached[kept]
    place = _place(rows)
    width = max(k, int(place.max(initial=0)) + 1)
    positions, values = np.zeros((people, width), dtype=np.int64), np.zeros((people, width), dtype=np.float32)
    positions[rows, place], values[rows, place] = found, reached
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(values, order, axis=1)


def _place(rows: Ints, counted: Flags | None = None) -> Ints:
    """How many entries of the same row, or how many that are counted, are before each; rows are in order."""
    before: Ints = np.arange(len(rows)) if counted is None else np.cumsum(counted) - counted
    sizes = np.bincount(rows)
    starts = np.cumsum(sizes) - sizes
    place: Ints = before - before[starts[rows]]
    return place
