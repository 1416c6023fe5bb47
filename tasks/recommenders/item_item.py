"""Item-item: what goes together with what the person had."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp

from tasks.recommenders import Flags, Floats, Interactions, Ints, TooLittleDataError, locate
from tasks.settings import Config

UNIT = 1 << 8
"""A fresh weight is a whole multiple of 1 / UNIT; what is too old for half of one is gone, and costs nothing."""
FINE = 1 << 20
"""The same of a weight that is normalised by its person. Both whole: co-counts are exact in any order of people."""
ROWS_AT_ONCE = 4096
"""Of the co-counts: bounds the memory of those that are cut away afterwards."""
LEAST_DEGREE = 0.3
"""Of a person, in fresh items: below, one old item would be normalised up to a strong voice."""


@dataclass(frozen=True)
class ItemItem:
    """score(u, i) = Σ_j h(u, j) S(j, i), with S(j, i) = G(j, i) / (q(j)^a q(i)^b) and G = Σ_u x(u, j) x(u, i) / d(u)^p.

    x are fresh weights (half-life of their own), d(u) their sum for a person, q the diagonal-free column mass of the
    normalised weights, h the decayed history. Pairs that fewer than `min_people` people share do not exist, so that
    every entry of S may be shown as a reason. Asymmetric cosine after Aiolli, "Efficient Top-N Recommendation for Very
    Large Scale Binary Rated Datasets" (RecSys 2013); degree normalisation as in Cooper et al., "Random Walks in
    Recommender Systems" (WWW 2014). Cost: Σ_u items(u)² to fit, bounded by `max_items` most recent items of a person;
    items × neighbours of memory.
    """

    name: ClassVar[str] = "item_item"
    similarity: sp.csr_array
    """items × items, float32; row: item in the history, column: item that is scored."""

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings = config.recommenders.item_item
        fresh = history.fresh(settings.half_life_days)
        x = history.evidence(np.rint(np.where(recent(history, settings.max_items), fresh, 0) * UNIT))
        degree = np.asarray(x.sum(axis=1)).ravel() / UNIT
        voice = np.maximum(degree, LEAST_DEGREE) ** -settings.person_exponent
        each = np.repeat(voice, np.diff(x.indptr))
        voiced = np.maximum(np.rint(x.data / UNIT * each * FINE), 1).astype(np.int64)
        y = sp.csr_array((voiced, x.indices, x.indptr), shape=x.shape)
        mass = np.maximum(np.asarray(y.sum(axis=0)).ravel() / FINE, 1 / FINE)
        own, other = mass**settings.own_exponent, mass**settings.other_exponent
        parts = []
        for start, together in _co_counts(y, x.astype(np.int64), config.privacy.min_people):
            rows = start + np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
            values = (together.data / (UNIT * FINE) / (own[rows] * other[together.indices])).astype(np.float32)
            near = sp.csr_array((values, together.indices, together.indptr), shape=together.shape)
            parts.append(_nearest(near, settings.neighbours))
        if not any(part.nnz for part in parts):
            raise TooLittleDataError(f"no two items are shared by {config.privacy.min_people} people")
        return cls(sp.csr_array(sp.vstack(parts, format="csr")))

    def score(self, block: Interactions) -> Floats:
        scores: Floats = (block.evidence(block.weight) @ self.similarity).toarray()
        return scores

    def link(self, own: Ints, other: Ints) -> Floats:
        """S(own, other), pair by pair; 0 where there is no such pair."""
        wanted = own * np.int64(self.similarity.shape[1]) + other
        # In order, the search walks through memory once.
        order = np.argsort(wanted)
        places, known = locate(wanted[order], self._keys)
        found = np.zeros(len(wanted), dtype=np.float32)
        found[order[known]] = self.similarity.data[places[known]]
        return found

    @cached_property
    def _keys(self) -> Ints:
        """One number per pair, ascending."""
        rows = np.repeat(np.arange(self.similarity.shape[0]), np.diff(self.similarity.indptr))
        keys: Ints = rows * np.int64(self.similarity.shape[1]) + self.similarity.indices
        return keys

    def save(self, file: Path) -> None:
        s = self.similarity
        np.savez(file, data=s.data, indices=s.indices, indptr=s.indptr)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            items = len(saved["indptr"]) - 1
            return cls(sp.csr_array((saved["data"], saved["indices"], saved["indptr"]), shape=(items, items)))

    def align(self, places: Ints) -> Self:
        old = self.similarity
        known = np.flatnonzero(places >= 0)
        shape = (len(places), old.shape[0])
        pick = sp.csr_array((np.ones(len(known), dtype=old.dtype), (known, places[known])), shape=shape)
        moved = sp.csr_array(pick @ old @ pick.T)
        moved.sort_indices()
        return replace(self, similarity=moved)


def recent(history: Interactions, most: int) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which cells are among the `most` youngest of their person; equally young ones by position."""
    if np.diff(history.indptr).max(initial=0) <= most:
        return np.ones(len(history.columns), dtype=bool)
    owners = history.owners()
    order = np.lexsort((history.columns, history.last_age, owners))
    place: Ints = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - history.indptr[owners[order]]
    return place < most


def _co_counts(y: sp.csr_array, x: sp.csr_array, min_people: int) -> Iterator[tuple[int, sp.csr_array]]:
    """yᵀx in blocks, each with its first row; without its diagonal and pairs that fewer than `min_people` share."""
    ones = sp.csr_array((np.ones(len(x.data), dtype=np.int32), x.indices, x.indptr), shape=x.shape)
    voiced, met = y.T.tocsr(), ones.T.tocsr()
    for start in range(0, x.shape[1], ROWS_AT_ONCE):
        together = voiced[start : start + ROWS_AT_ONCE] @ x
        rows = start + np.repeat(np.arange(together.shape[0]), np.diff(together.indptr))
        kept = rows != together.indices
        if min_people > 1:
            people = met[start : start + ROWS_AT_ONCE] @ ones
            # Both products have the same cells in the same order: every factor is positive.
            kept &= people.data >= min_people
        # Few pairs are left to be put in order.
        shared = _only(together, kept)
        shared.sort_indices()
        yield start, shared


def _nearest(similarity: sp.csr_array, most: int) -> sp.csr_array:
    """The `most` strongest cells of each row; equally strong ones by position."""
    kept = np.ones(similarity.nnz, dtype=bool)
    for row in np.flatnonzero(np.diff(similarity.indptr) > most):
        cells = slice(similarity.indptr[row], similarity.indptr[row + 1])
        values = similarity.data[cells]
        last = np.partition(values, len(values) - most)[len(values) - most]
        above, level = values > last, values == last
        kept[cells] = above | (level & (np.cumsum(level) <= most - np.count_nonzero(above)))
    return _only(similarity, kept)


def _only(cells: sp.csr_array, kept: Flags) -> sp.csr_array:
    indptr = np.concatenate(([0], np.cumsum(kept)))[cells.indptr]
    return sp.csr_array((cells.data[kept], cells.indices[kept], indptr), shape=cells.shape)
