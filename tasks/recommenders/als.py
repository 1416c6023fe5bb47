"""ALS: tastes that items share, found by matrix factorisation."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from numpy.typing import NDArray

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.recommenders.products import Products, Vectors
from tasks.settings import Config

FIRST_SCALE = 0.01
"""Of the first factors: implicit's own."""


@dataclass(frozen=True)
class Als:
    """score(u, i) = x(u)·y(i), where y are item factors and x(u) solves (YᵀY + Yᵀ(C_u − I)Y + λI) x = YᵀC_u p_u.

    Hu, Koren, Volinsky, "Collaborative Filtering for Implicit Feedback Datasets" (ICDM 2008), fitted by implicit 0.7.
    Person factors start at zero and are thrown away; a person is folded in from the item factors. The first factors of
    an item depend on the seed and its id alone, so that other items and people do not change where it starts.
    Cost: iterations × (cells × factors + (people + items) × factors²).
    """

    name: ClassVar[str] = "als"
    factors: Floats
    """items × factors."""
    regularization: float
    confidence: float
    half_life_days: float

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings = config.recommenders.als
        cells = history.evidence(history.fresh(settings.half_life_days))
        met = np.bincount(cells.indices, minlength=cells.shape[1])
        if np.count_nonzero(met > 1) < 2:
            raise TooLittleDataError("fewer than two items were met by two people")
        model = _solver(settings.factors, settings.regularization, settings.confidence, config.run.threads)
        model.iterations = settings.iterations
        model.item_factors = first_factors(history.catalogue.ids, settings.factors, config.run.seed)
        model.user_factors = np.zeros((cells.shape[0], settings.factors), dtype=np.float32)
        model.fit(sp.csr_matrix(cells), show_progress=False)
        factors = np.where((met > 0)[:, None], model.item_factors, 0).astype(np.float32)
        return cls(factors, settings.regularization, settings.confidence, settings.half_life_days)

    def score(self, block: Interactions) -> Floats:
        return self.say(block).table()

    def say(self, block: Interactions) -> Products:
        cells = block.evidence(block.fresh(self.half_life_days))
        people = self._folding.recalculate_user(np.arange(len(block)), sp.csr_matrix(cells))
        return Products(people, self._searched)

    @cached_property
    def _folding(self) -> AlternatingLeastSquares:
        """What folds people in; all blocks share its YᵀY."""
        model = _solver(self.factors.shape[1], self.regularization, self.confidence, threads=1)
        model.item_factors = self.factors
        model.YtY  # noqa: B018 - is kept when it is first asked for, here and not by two threads at once
        return model

    @cached_property
    def _searched(self) -> Vectors:
        return Vectors(self.factors)

    def save(self, file: Path) -> None:
        settings = np.array([self.regularization, self.confidence, self.half_life_days])
        np.savez(file, factors=self.factors, settings=settings)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["factors"], *(float(value) for value in saved["settings"]))

    def align(self, places: Ints) -> Self:
        return replace(self, factors=moved(self.factors, places))


def first_factors(ids: Sequence[str], factors: int, seed: int) -> Floats:
    """Items × factors, uniform in [0, FIRST_SCALE): SplitMix64 (Steele et al., OOPSLA 2014) from sha256(seed, id)."""
    digests = b"".join(hashlib.sha256(f"{seed}\0{item}".encode()).digest()[:8] for item in ids)
    start: NDArray[np.uint64] = np.frombuffer(digests, dtype="<u8").astype(np.uint64)
    steps = np.arange(1, factors + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = start[:, None] + steps[None, :]
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    unit = (z >> np.uint64(11)).astype(np.float64) / 2.0**53
    first: Floats = (unit * FIRST_SCALE).astype(np.float32)
    return first


def _solver(factors: int, regularization: float, confidence: float, threads: int) -> AlternatingLeastSquares:
    return AlternatingLeastSquares(
        factors=factors, regularization=regularization, alpha=confidence, num_threads=threads, random_state=0
    )
