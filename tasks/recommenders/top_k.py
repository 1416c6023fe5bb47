"""Top-k: the highest of each row of a table."""

from __future__ import annotations

import math

import numpy as np

from tasks.recommenders import Flags, Floats, Ints

SMALLEST = np.finfo(np.float32).smallest_subnormal
"""Whatever is above 0 is at least this."""


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
    kept = ~level | (place(rows, level) < k)
    rows, found, reached = rows[kept], found[kept], reached[kept]
    at = place(rows)
    width = max(k, int(at.max(initial=0)) + 1)
    positions, values = np.zeros((people, width), dtype=np.int64), np.zeros((people, width), dtype=np.float32)
    positions[rows, at], values[rows, at] = found, reached
    order = np.argsort(-values, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(values, order, axis=1)


def place(rows: Ints, counted: Flags | None = None) -> Ints:
    """How many entries of the same row, or how many that are counted, are before each; rows are in order."""
    before: Ints = np.arange(len(rows)) if counted is None else np.cumsum(counted) - counted
    sizes = np.bincount(rows)
    starts = np.cumsum(sizes) - sizes
    found: Ints = before - before[starts[rows]]
    return found
