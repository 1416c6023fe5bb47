"""The ranker: gradient boosting over what all families say about a candidate, learned from earlier windows.

Labels are later events only. Where something was shown is no feature: lists must not teach themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks import blend
from tasks.candidates import Candidates
from tasks.ranker_features import Columns, describe
from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.settings import Config, Repeats

Numbers = NDArray[np.float64]

RAW_SHARE = 1e-3
"""Of the uncalibrated probability in a score: isotonic regression has flat stretches, and there its order is kept."""
RARELY = 1e-9
"""Keeps a score above 0 where calibration says never: a list is filled in the order of the trees."""


@dataclass(frozen=True)
class Seen:
    """One window under one policy: the candidates of some people, and what they did next."""

    block: Interactions
    candidates: Candidates
    happened: Mapping[str, Flags]
    """Signal → people × candidates."""
    truths: Mapping[str, Ints]
    """Signal → per person, how many allowed items happened, candidates or not."""
    drawn: Flags
    """People drawn whatever they did: only they say how likely anything is."""

    def lesson(self, signal: str) -> blend.Lesson:
        """What the people with a truth teach the blend."""
        taught = self.truths[signal] > 0
        return blend.Lesson(self.candidates.take(taught), self.happened[signal][taught], self.truths[signal][taught])


@dataclass(frozen=True)
class Forest:
    """The trees of one signal as plain arrays, and the map from their probability to the one that was observed.

    scikit-learn's estimators persist by pickle only, which runs code when it is read. Their trees are arrays of nodes,
    and its compiled predictor takes such arrays: docs/decisions/0005-ranker-without-pickle.md.
    """

    trees: tuple[NDArray[Any], ...]
    base: float
    knots: Numbers
    """2 × n: raw probability and calibrated one, both ascending; straight lines between."""

    def raw(self, table: Numbers) -> Numbers:
        """Probability of each row by the trees alone."""
        from sklearn.ensemble._hist_gradient_boosting.predictor import TreePredictor

        none, nowhere = np.zeros((0, 8), dtype=np.uint32), np.zeros(table.shape[1], dtype=np.uint32)
        total = np.full(len(table), self.base)
        for nodes in self.trees:
            total += TreePredictor(nodes, none, none).predict(table, none, nowhere, 1)
        chance: Numbers = 1 / (1 + np.exp(-total))
        return chance

    def calibrated(self, raw: Numbers) -> Numbers:
        found: Numbers = np.interp(raw, self.knots[0], self.knots[1])
        return found


@dataclass(frozen=True)
class Ranker:
    """score = Σ_s o(s) p_s over what may be shown, with o the configured objective and p_s the chance of signal s.

    Friedman, "Greedy Function Approximation: A Gradient Boosting Machine" (2001), as scikit-learn's histogram gradient
    boosting; calibrated by isotonic regression (Zadrozny and Elkan, KDD 2002) on a window after those it learned from.
    """

    columns: tuple[str, ...]
    """Features in the order of the trees; one that was never known is not among them."""
    forests: Mapping[str, Forest]
    """By signal."""
    objective: Mapping[str, float]
    blend_share: float = 0.0
    """Of the blend's score beside the ranker's, each divided by the person's highest: see `rank`."""

    def probabilities(self, features: Columns) -> tuple[Floats, dict[str, Floats]]:
        """Score of each candidate, and its calibrated chance by signal."""
        table = _table(features, self.columns)
        score, chances = np.full(len(table), RARELY), {}
        total = sum(self.objective[signal] for signal in self.forests)
        for signal, forest in self.forests.items():
            raw = forest.raw(table)
            chances[signal] = forest.calibrated(raw).astype(np.float32)
            mixed = (1 - RAW_SHARE) * forest.calibrated(raw) + RAW_SHARE * raw
            score += self.objective[signal] / total * mixed
        return score.astype(np.float32), chances

    def save(self, file: Path) -> None:
        arrays: dict[str, Any] = {
            "columns": np.array(self.columns),
            "signals": np.array(list(self.forests)),
            "blend_share": self.blend_share,
        }
        for signal, forest in self.forests.items():
            arrays[f"{signal}_nodes"] = np.concatenate(forest.trees)
            arrays[f"{signal}_sizes"] = np.array([len(tree) for tree in forest.trees])
            arrays[f"{signal}_base"] = np.array([forest.base, self.objective[signal]])
            arrays[f"{signal}_knots"] = forest.knots
        np.savez(file, **arrays)

    @classmethod
    def load(cls, file: Path) -> Self:
        forests, objective = {}, {}
        with np.load(file, allow_pickle=False) as saved:
            for signal in saved["signals"].tolist():
                trees = np.split(saved[f"{signal}_nodes"], np.cumsum(saved[f"{signal}_sizes"])[:-1])
                base, objective[signal] = saved[f"{signal}_base"].tolist()
                forests[signal] = Forest(tuple(trees), base, saved[f"{signal}_knots"])
            return cls(tuple(saved["columns"].tolist()), forests, objective, float(saved["blend_share"]))


def fit(
    seen: Sequence[Seen], weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats, config: Config
) -> Ranker | None:
    """Learn from windows, one forest per signal that happened often enough; None if none did. Not calibrated yet.

    Candidates that did not happen are thinned, they are many and teach little; the odds are put right afterwards.
    Weights would do the same, but scikit-learn finds weighted quantiles eight times slower than all trees.
    """
    from sklearn.ensemble import HistGradientBoostingClassifier

    settings, seed = config.ranker, config.run.seed
    parts, labels = [], []
    draw = np.random.Generator(np.random.Philox(seed))
    for window in seen:
        taught = np.sum([truths > 0 for truths in window.truths.values()], axis=0) > 0
        taught[_beyond(taught, settings.people)] = False
        known = window.candidates.take(taught)
        valid = known.valid
        happened = {signal: of[taught][:, : valid.shape[1]][valid] for signal, of in window.happened.items()}
        kept = (draw.random(int(valid.sum())) < settings.negatives) | np.any(list(happened.values()), axis=0)
        block = window.block.take(np.flatnonzero(taught))
        features = describe(block, known, weights, names, repeats)
        parts.append({name: column[kept] for name, column in features.items()})
        labels.append({signal: of[kept] for signal, of in happened.items()})
    if not parts:
        return None
    features = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    columns = tuple(name for name, column in features.items() if not np.isnan(column).all())
    table = _table(features, columns)
    forests: dict[str, Forest] = {}
    for signal, share in settings.objective.items():
        label = np.concatenate([of[signal] for of in labels])
        if not share or np.count_nonzero(label) < settings.min_successes:
            continue
        model = HistGradientBoostingClassifier(
            max_iter=settings.iterations, learning_rate=settings.learning_rate, max_leaf_nodes=settings.leaves,
            min_samples_leaf=settings.min_leaf, l2_regularization=1.0, early_stopping=False, random_state=seed,
        )  # fmt: skip
        model.fit(table, label)
        trees = tuple(grown[0].nodes for grown in model._predictors)
        forests[signal] = Forest(
            trees,
            float(model._baseline_prediction[0, 0]) + np.log(settings.negatives),
            np.array([[0.0, 1.0], [0.0, 1.0]]),
        )
    if not forests:
        return None
    objective: dict[str, float] = {signal: share for signal, share in settings.objective.items() if signal in forests}
    return Ranker(columns, forests, objective, settings.blend_share)


def _beyond(taught: Flags, most: int) -> Ints:
    """Rows to leave out so that `most` stay, spread over all: ids often tell how long somebody is a customer."""
    rows = np.flatnonzero(taught)
    kept = rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)] if len(rows) > most else rows
    return np.setdiff1d(rows, kept)


def calibrate(
    ranker: Ranker, teacher: Ranker, later: Seen, weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats
) -> Ranker:
    """`ranker` with the maps that make `teacher` right on a window after those that taught it."""
    from sklearn.isotonic import IsotonicRegression

    block, known, outcomes = _drawn(later)
    table = _table(describe(block, known, weights, names, repeats), teacher.columns)
    forests = dict(ranker.forests)
    for signal in ranker.forests.keys() & teacher.forests.keys():
        happened = outcomes[signal]
        if not len(table) or not happened.any():
            continue
        found = IsotonicRegression(out_of_bounds="clip").fit(teacher.forests[signal].raw(table), happened)
        knots = np.array([found.X_thresholds_, found.y_thresholds_], dtype=np.float64)
        forests[signal] = Forest(forests[signal].trees, forests[signal].base, knots)
    return replace(ranker, forests=forests)


def candidate_chances(
    ranker: Ranker, later: Seen, weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats
) -> tuple[Ints, dict[str, Floats], dict[str, Flags]]:
    """Of each candidate of the drawn people: whose it is, its calibrated chance by signal, and whether it happened."""
    block, known, outcomes = _drawn(later)
    _, chances = ranker.probabilities(describe(block, known, weights, names, repeats))
    return np.nonzero(known.valid)[0], chances, outcomes


def _drawn(later: Seen) -> tuple[Interactions, Candidates, dict[str, Flags]]:
    """The people drawn whatever they did, their candidates, and of each valid one what happened."""
    known = later.candidates.take(later.drawn)
    happened = {signal: of[later.drawn][known.valid] for signal, of in later.happened.items()}
    return later.block.take(np.flatnonzero(later.drawn)), known, happened


def rank(
    ranker: Ranker | None, block: Interactions, known: Candidates, mixed: Floats, names: Sequence[str],
    weights: NDArray[np.float64], repeats: Repeats,
) -> tuple[Floats, dict[str, Floats]]:  # fmt: skip
    """People × candidates: the score that orders a list, and chances by signal, 0 and NaN where there is no candidate.

    Without a ranker the score is the blend's, and there are no chances. A candidate that no used family speaks for is
    none: the same lists are full with and without a ranker.
    """
    if ranker is None:
        return mixed, {}
    flat, chances = ranker.probabilities(describe(block, known, weights, names, repeats))
    score = np.zeros(known.valid.shape, dtype=np.float32)
    score[known.valid] = flat
    spread = {}
    for signal, chance in chances.items():
        spread[signal] = np.full(known.valid.shape, np.nan, dtype=np.float32)
        spread[signal][known.valid] = chance
    return np.where(mixed > 0, beside(score, mixed, ranker.blend_share), 0), spread


def beside(score: Floats, mixed: Floats, share: float) -> Floats:
    """People × candidates: both scores divided by the person's highest and added, the blend's by `share`.

    The blend varies less from month to month, so that a little of it steadies the order of the trees.
    """
    if not share:
        return score
    peaks = [np.maximum(of.max(axis=1, keepdims=True, initial=0), np.float32(RARELY)) for of in (score, mixed)]
    both: Floats = (score / peaks[0] + np.float32(share) * mixed / peaks[1]) / np.float32(1 + share)
    return both


def _table(features: Columns, columns: Sequence[str]) -> Numbers:
    """Rows × columns, as the trees read them."""
    rows = len(next(iter(features.values())))
    table = np.full((rows, len(columns)), np.nan)
    for place, name in enumerate(columns):
        table[:, place] = features[name]
    return table
