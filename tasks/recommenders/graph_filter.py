"""Graph filter: the broad tastes that run through who met what, found in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.recommenders.als import FIRST_SCALE, first_factors
from tasks.recommenders.item_item import LEAST_DEGREE, recent
from tasks.recommenders.products import Products, Vectors
from tasks.settings import Config

SPARE = 32
"""Directions iterated beside the wanted ones: the last wanted ones settle sooner."""
PASSES = 3
"""Of subspace iteration: scores rank alike after three and after more."""
LOW = 1 / 8
"""Of the directions that the items span: with more of them, what is passed is no taste but the items themselves."""
LEAST_MASS = 1.0
"""Of an item, in fresh people: below, one old event would be normalised up to a strong voice."""
VANISHING = 1e-5
"""Of the largest eigenvalue: below, single precision holds no direction."""


@dataclass(frozen=True)
class GraphFilter:
    """score(u, i) = Σ_j h(u, j) q(j)^-a [V g(Λ) Vᵀ](j, i) q(i)^b, with g(λ) = 1 − s λ / λ₁; nothing below 0.

    V, Λ are the leading eigenpairs of Q^-a Xᵀ D^-p X Q^-a, item_item's co-counts: x fresh weights, d(u) their sum for a
    person, q(i) for an item, h the decayed history. With s = 0 the ideal low-pass of GF-CF (Shen et al., "How Powerful
    is Graph Convolution for Recommendation?", CIKM 2021). With s > 0 the broadest taste, what is popular everywhere, is
    taken out, which item_item brings anyway: the sharpening of BSPM (Choi et al., "Blurring-Sharpening Process Models
    for Collaborative Filtering", SIGIR 2023) in one step. The first directions depend on the seed and item ids alone.
    Cost: PASSES × (cells × rank + items × rank²); 2 × items × rank of memory.
    """

    name: ClassVar[str] = "graph_filter"
    inward: Floats
    """items × rank: Q^-a V g(Λ)."""
    outward: Floats
    """items × rank: Q^b V."""

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings = config.recommenders.graph_filter
        fresh = history.fresh(settings.half_life_days)
        x = history.evidence(np.where(recent(history, settings.max_items), fresh, 0))
        met = np.bincount(x.indices, minlength=x.shape[1])
        if np.count_nonzero(met > 1) < 2:
            raise TooLittleDataError("fewer than two items were met by two people")
        degree = np.maximum(np.asarray(x.sum(axis=1, dtype=np.float64)).ravel(), LEAST_DEGREE)
        mass = np.maximum(np.asarray(x.sum(axis=0, dtype=np.float64)).ravel(), LEAST_MASS)
        own = mass**-settings.own_exponent
        voice = np.repeat(degree ** (-settings.person_exponent / 2), np.diff(x.indptr))
        graph = sp.csr_array(((x.data * voice * own[x.indices]).astype(np.float32), x.indices, x.indptr), shape=x.shape)
        rank = min(settings.rank, max(1, int(np.count_nonzero(met) * LOW)))
        width = min(rank + SPARE, int(np.count_nonzero(met)))
        start = first_factors(history.catalogue.ids, width, config.run.seed) - np.float32(FIRST_SCALE / 2)
        spectrum, basis = _leading(graph, start * (met > 0)[:, None], rank)
        passed = basis * (1 - settings.sharpness * spectrum / spectrum[0])
        lift = mass**settings.lift_exponent
        return cls((own[:, None] * passed).astype(np.float32), (lift[:, None] * basis).astype(np.float32))

    def score(self, block: Interactions) -> Floats:
        return self.say(block).table()

    def say(self, block: Interactions) -> Products:
        return Products((block.evidence(block.weight) @ self.inward).astype(np.float32), self._searched)

    @cached_property
    def _searched(self) -> Vectors:
        return Vectors(self.outward)

    def save(self, file: Path) -> None:
        np.savez(file, inward=self.inward, outward=self.outward)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["inward"], saved["outward"])

    def align(self, places: Ints) -> Self:
        return replace(self, inward=moved(self.inward, places), outward=moved(self.outward, places))


def _leading(graph: sp.csr_array, start: Floats, rank: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The largest eigenvalues of graphᵀ graph, descending, and their vectors (items × at most `rank`).

    Subspace iteration after Halko, Martinsson, Tropp, "Finding structure with randomness" (SIAM Review 2011).
    """
    back = graph.T.tocsr()
    basis = start
    for _ in range(PASSES):
        basis = np.linalg.qr(back @ (graph @ basis))[0]
    seen = (graph @ basis).astype(np.float64)
    values, turns = np.linalg.eigh(seen.T @ seen)
    kept = np.flatnonzero(values > VANISHING * values[-1])[::-1][:rank]
    return values[kept], basis.astype(np.float64) @ turns[:, kept]
