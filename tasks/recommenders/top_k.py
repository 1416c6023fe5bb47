"""Top-k: the highest of each row of a table."""

from __future__ import annotations

import numpy as np

from tasks.recommenders import Flags, Floats, Ints

SMALLEST = float(np.finfo(np.float32).smallest_subnormal)
"""Whatever is above 0 is at least this."""
GROUPS_PER_CELL = 8
"""That is wanted: of twenty that are wanted one shares a group with another, and one more cell reaches the bar."""


def best(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The k highest above 0 of each row, highest first, equal ones by position; rows with fewer are filled with zeros.

    See docs/decisions/0003-top-k.md.
    """
    people, items = scores.shape
    k = min(k, items)
    if not people * k:
        return np.zeros((people, k), dtype=np.int64), np.zeros((people, k), dtype=np.float32)
    rows, found, bar = reaching(scores, k)
    reached = scores[rows, found]
    # Of cells that are level with the bar, however many, the first ones are enough.
    level = reached == bar[rows]
    kept = ~level | (place(rows, level) < k)
    return leading(people, k, rows[kept], found[kept], reached[kept])


def reaching(
    scores: Floats, k: int, short: Floats | float = 0, least: Floats | float = SMALLEST
) -> tuple[Ints, Ints, Floats]:
    """Row and position, in order, of all cells that reach their row's bar, and the bars: the k highest above 0 are
    among them, and hardly more.

    Rows are looked at in groups first: at least k cells reach the k-th highest peak of the groups, which is the bar.

    Args:
        scores: rows × positions.
        k: at least 1.
        short: by row, so far below the bar counts, too.
        least: by row, above 0: what is wanted is known to reach it. With fewer than k positions it is the bar.
    """
    items = scores.shape[1]
    bar = np.broadcast_to(np.float32(least), len(scores))
    if k <= items:
        depth = max(1, items // (k * GROUPS_PER_CELL))
        groups = items // depth
        # A group is every so many cells: its peak is found by comparing whole stretches of the row.
        peaks = scores[:, : groups * depth].reshape(len(scores), depth, groups).max(axis=1) if depth > 1 else scores
        # Sorted, because a partition of many zeros is slower than that.
        bar = np.maximum(np.sort(peaks, axis=1)[:, groups - k] - short, bar)
    rows, found = np.divmod(np.flatnonzero(scores >= bar[:, None]), items)
    return rows, found, bar


def leading(people: int, k: int, rows: Ints, found: Ints, values: Floats) -> tuple[Ints, Floats]:
    """People × k: positions and values of the k highest of each row's cells, which are given in order: see `best`."""
    at = place(rows)
    width = max(k, int(at.max(initial=0)) + 1)
    table, high = np.zeros((people, width), dtype=np.int64), np.zeros((people, width), dtype=np.float32)
    table[rows, at], high[rows, at] = found, values
    order = np.argsort(-high, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, order, axis=1), np.take_along_axis(high, order, axis=1)


def place(rows: Ints, counted: Flags | None = None) -> Ints:
    """How many entries of the same row, or how many that are counted, are before each; rows are in order."""
    before: Ints = np.arange(len(rows)) if counted is None else np.cumsum(counted) - counted
    sizes = np.bincount(rows)
    starts = np.cumsum(sizes) - sizes
    found: Ints = before - before[starts[rows]]
    return found
