"""Chances: how likely a candidate is to be taken, learned for one signal by trees and nets together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks import nets
from tasks.nets import Nets, Numbers
from tasks.recommenders import Flags
from tasks.settings import Ranker as Settings


@dataclass(frozen=True)
class Forest:
    """Trees as plain arrays.

    scikit-learn's estimators persist by pickle only, which runs code when it is read. Their trees are arrays of nodes,
    and its compiled predictor takes such arrays: docs/decisions/0005-ranker-without-pickle.md.
    """

    trees: tuple[NDArray[Any], ...]
    base: float

    def log_odds(self, table: Numbers) -> Numbers:
        from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

        none, nowhere = np.zeros((0, 8), dtype=np.uint32), np.zeros(table.shape[1], dtype=np.uint32)
        total = np.full(len(table), self.base)
        for nodes in self.trees:
            total += TreePredictor(nodes, none, none).predict(table, none, nowhere, 1)
        return total


@dataclass(frozen=True)
class Chance:
    """How likely one signal is: trees and nets, each with its share of the log-odds, and what that came to be."""

    forest: Forest
    nets: Nets | None
    nets_share: float
    """Of the log-odds; the trees' is the rest."""
    offset: float
    """Added to the log-odds: it puts right that candidates which did not happen were thinned."""
    knots: Numbers
    """2 × n: raw probability and the one that was observed, both ascending; straight lines between."""

    def raw(self, table: Numbers) -> Numbers:
        """Probability of each row, as it was learned."""
        total = self.forest.log_odds(table)
        if self.nets is not None:
            total += self.nets_share * (self.nets.log_odds(table) - total)
        chance: Numbers = 1 / (1 + np.exp(-total - self.offset))
        return chance

    def calibrated(self, raw: Numbers) -> Numbers:
        found: Numbers = np.interp(raw, self.knots[0], self.knots[1])
        return found

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything, as plain arrays by name."""
        found = {
            "nodes": np.concatenate(self.forest.trees),
            "sizes": np.array([len(tree) for tree in self.forest.trees]),
            "odds": np.array([self.forest.base, self.nets_share, self.offset]),
            "knots": self.knots,
        }
        return found | ({} if self.nets is None else self.nets.arrays())

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """What `arrays` told."""
        trees = np.split(arrays["nodes"], np.cumsum(arrays["sizes"])[:-1])
        base, share, offset = arrays["odds"].tolist()
        found = Nets.of(arrays) if "depths" in arrays else None
        return cls(Forest(tuple(trees), base), found, share, offset, arrays["knots"])


def fit(table: Numbers, label: Flags, settings: Settings, seed: int) -> Chance:
    """Learn from rows that happened and rows that did not. Not calibrated yet."""
    return Chance(
        forest=_grown(table, label, settings, seed),
        nets=nets.fit(table, label, settings.nets, seed),
        nets_share=settings.nets.share,
        offset=float(np.log(settings.negatives)),
        knots=np.array([[0.0, 1.0], [0.0, 1.0]]),
    )


def _grown(table: Numbers, label: Flags, settings: Settings, seed: int) -> Forest:
    from sklearn.ensemble import HistGradientBoostingClassifier

    model = HistGradientBoostingClassifier(
        max_iter=settings.iterations, learning_rate=settings.learning_rate, max_leaf_nodes=settings.leaves,
        min_samples_leaf=settings.min_leaf, l2_regularization=1.0, early_stopping=False, random_state=seed,
    )  # fmt: skip
    model.fit(table, label)
    return Forest(tuple(grown[0].nodes for grown in model._predictors), float(model._baseline_prediction[0, 0]))
