"""EASE: the item weights that explain every person's items by their other items, in closed form."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from scipy.linalg import lapack

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.recommenders.opinions import Table, some
from tasks.settings import Config

NOWHERE = -1
"""Place among the kept items of one that is not kept."""


@dataclass(frozen=True)
class Ease:
    """score(u, i) = Σ_j x(u, j) B(j, i), with B = I − P / diag(P), P = (XᵀX + λI)^-1, x the fresh weights.

    Steck, "Embarrassingly Shallow Autoencoders for Sparse Data" (WWW 2019), on decayed history. Unlike co-counts it
    takes out of a pair what other items already explain. The inverse costs items³ / 2 multiplications and three tables
    of items², so only the `max_items` that most people met take part; the rest is left to the other families.
    """

    name: ClassVar[str] = "ease"
    weights: Floats
    """kept × kept: B."""
    places: Ints
    """Per item of the catalogue: its row in `weights`, or NOWHERE."""
    half_life_days: float

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings = config.recommenders.ease
        x = history.evidence(history.fresh(settings.half_life_days)).astype(np.float64)
        people = np.bincount(x.indices, minlength=x.shape[1])
        most = np.argsort(-people, kind="stable")[: settings.max_items]
        kept = np.sort(most[people[most] > 1])
        if len(kept) < 2:
            raise TooLittleDataError("fewer than two items were met by two people")
        known = x[:, kept]
        gram = (known.T @ known).toarray(order="F")
        gram[np.diag_indices(len(kept))] += settings.regularization
        factor, _ = lapack.dpotrf(gram, lower=1, overwrite_a=1)
        inverse, _ = lapack.dpotri(factor, lower=1, overwrite_c=1)
        lower = np.tril(inverse)
        inverse = lower + np.tril(lower, -1).T
        weights = (inverse / -np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(weights, 0)
        places = np.full(x.shape[1], NOWHERE, dtype=np.int64)
        places[kept] = np.arange(len(kept))
        return cls(weights, places, settings.half_life_days)

    def score(self, block: Interactions) -> Floats:
        known = self.say(block)
        scores = np.zeros(block.shape, dtype=np.float32)
        scores[:, known.columns] = known.scores
        return scores

    def say(self, block: Interactions) -> Table:
        """Of the items that take part."""
        items = np.flatnonzero(self.places != NOWHERE)
        rows = self.places[items]
        history = block.evidence(block.fresh(self.half_life_days))[:, items]
        # All of them in their order, mostly: then no copy of the table is needed.
        whole = len(rows) == len(self.weights) and bool((np.diff(rows) > 0).all())
        weights = self.weights if whole else self.weights[np.ix_(rows, rows)]
        # Sparse times dense adds a person's items in their order, so a row is the same bytes in any block.
        scores = history @ weights
        return some(np.maximum(scores, 0, out=scores), items, len(self.places))

    def save(self, file: Path) -> None:
        np.savez(file, weights=self.weights, places=self.places, half_life_days=self.half_life_days)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["weights"], saved["places"], float(saved["half_life_days"]))

    def align(self, places: Ints) -> Self:
        """An item that the model did not know stood nowhere: 1 is added so that `moved` fills in NOWHERE."""
        return replace(self, places=moved(self.places - NOWHERE, places) + NOWHERE)
