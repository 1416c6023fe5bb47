"""Diversity: what lists are like besides being right, and how evenly the items of the catalogue get their turn.

Of a list L of k entries, with n(i) people who ever met item i, of N people:

- novelty: mean of −log2((n(i) + 1) / (N + 1)) over L, in bits: how little known what is shown is (Zhou et al., "Solving
  the apparent diversity-accuracy dilemma of recommender systems", PNAS 2010). Nobody met: as if one more person had.
- intra_list_distance: mean of 1 − cos(v(i), v(j)) over the pairs of L, v the vectors of the catalogue's text (Ziegler
  et al., "Improving recommendation lists through topic diversification", WWW 2005).
- serendipity: share of L that was a success and is not in the list of the popularity baseline (Ge et al., "Beyond
  accuracy: evaluating recommender systems by coverage and serendipity", RecSys 2010).
- gini: (2 Σ r x(r)) / (n Σ x) − (n + 1) / n over how often each item that may be shown is in a list, r its rank from
  the rarest: 0 is the same for all, 1 is all for one. coverage: the share of these items that is in any list.
- popularity_share: share of entries among the tenth of the items that most people met.

Cost: entries × dimensions of a vector for the distances, entries for everything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks.recommenders import Catalogue, Flags, Floats, Ints

CUTOFFS = (5, 10, 20)
FAMOUS = 0.1
"""Of the items that may be shown: the share of list entries that they take says how narrow the shop is."""


@dataclass(frozen=True)
class Yardstick:
    """What is known of the items that lists are measured with, before any list is made."""

    bits: Floats
    """Per item, how little known it is."""
    famous: Flags
    """Per item, whether it is in the tenth of what may be shown that most people met; equal ones by position."""
    vectors: NDArray[np.float64] | None
    """Items × dimensions, of length 1 or 0; nothing where the catalogue has no text."""
    worded: Flags
    """Per item, whether its vector is not 0."""


@dataclass(frozen=True)
class Variety:
    """Of one recommender's lists, by cut-off."""

    exposure: dict[int, Ints]
    """Per item, in how many lists it is."""
    novelty: dict[int, NDArray[np.float64]]
    """Per person, mean bits; NaN without an entry."""
    distance: dict[int, NDArray[np.float64]]
    """Per person; NaN below two entries, or without vectors."""
    famous: dict[int, Ints]
    """Per person, entries among the best known items."""
    entries: dict[int, Ints]
    """Per person."""


def yardstick(catalogue: Catalogue, people: int, vectors: Floats | None) -> Yardstick:
    bits = -np.log2((catalogue.people + 1) / (max(people, int(catalogue.people.max(initial=0))) + 1))
    met = np.where(catalogue.recommendable, catalogue.people, -1)
    most = round(FAMOUS * np.count_nonzero(catalogue.recommendable))
    famous = np.zeros(len(catalogue), dtype=bool)
    famous[np.argsort(-met, kind="stable")[:most]] = True
    worded = np.zeros(len(catalogue), dtype=bool) if vectors is None else np.any(vectors, axis=1)
    return Yardstick(bits.astype(np.float32), famous, None if vectors is None else vectors.astype(np.float64), worded)


def variety(items: Ints, listed: Flags, by: Yardstick) -> Variety:
    """Of lists given as people × positions; `listed` says which entries are real, the real ones come first."""
    bits = np.where(listed, by.bits[items], 0).astype(np.float64)
    famous = by.famous[items] & listed
    found = Variety({}, {}, {}, {}, {})
    sums: NDArray[np.float64] | None = None
    for before, k in zip((0, *CUTOFFS), CUTOFFS, strict=False):
        real = listed[:, :k]
        size = real.sum(axis=1)
        found.entries[k] = size
        found.exposure[k] = np.bincount(items[:, :k][real], minlength=len(by.bits))
        found.famous[k] = famous[:, :k].sum(axis=1)
        found.novelty[k] = np.where(size > 0, bits[:, :k].sum(axis=1) / np.maximum(size, 1), np.nan)
        if by.vectors is None:
            found.distance[k] = np.full(len(items), np.nan)
            continue
        # Sparse times dense adds the vectors without a copy of each.
        part = _chosen(items[:, before:k], listed[:, before:k], len(by.bits)) @ by.vectors
        sums = part if sums is None else sums + part
        # Σ over pairs of cos = (|Σ v|² − Σ |v|²) / 2: no pair is looked at.
        own = np.count_nonzero(by.worded[items[:, :k]] & real, axis=1)
        alike = (np.square(sums).sum(axis=1) - own) / np.maximum(size * (size - 1), 1)
        found.distance[k] = np.where(size > 1, np.clip(1 - alike, 0, 1), np.nan)
    return found


def _chosen(items: Ints, listed: Flags, width: int) -> sp.csr_array:
    """People × items of the catalogue, 1 for what is listed."""
    ends = np.concatenate(([0], np.cumsum(listed.sum(axis=1))))
    return sp.csr_array((np.ones(ends[-1]), items[listed], ends), shape=(len(items), width))


def joined(parts: Sequence[Variety]) -> Variety:
    """The lists of several blocks of people as those of one."""
    return Variety(
        exposure={k: np.sum([p.exposure[k] for p in parts], axis=0) for k in CUTOFFS},
        novelty={k: np.concatenate([p.novelty[k] for p in parts]) for k in CUTOFFS},
        distance={k: np.concatenate([p.distance[k] for p in parts]) for k in CUTOFFS},
        famous={k: np.concatenate([p.famous[k] for p in parts]) for k in CUTOFFS},
        entries={k: np.concatenate([p.entries[k] for p in parts]) for k in CUTOFFS},
    )


def figures(of: Variety, k: int, shown: int) -> dict[str, float | None]:
    """Every figure of everybody's lists that needs no success, by metric; `shown` is how many items could be shown."""
    entries = max(1, int(of.entries[k].sum()))
    return {
        "coverage": int(np.count_nonzero(of.exposure[k])) / max(1, shown),
        "gini": gini(of.exposure[k], shown),
        "novelty": _mean(of.novelty[k]),
        "intra_list_distance": _mean(of.distance[k]),
        "popularity_share": int(of.famous[k].sum()) / entries,
    }


def gini(exposure: Ints, shown: int) -> float | None:
    """Of whole counts; items that may be shown and are not among `exposure` were never shown."""
    counts = np.sort(exposure[exposure > 0])
    n, total = max(shown, len(counts)), int(counts.sum())
    if not total:
        return None
    ranks = np.arange(n - len(counts) + 1, n + 1)
    return 2 * int((ranks * counts).sum()) / (n * total) - (n + 1) / n


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else None
