"""The ranker: trees and nets over what all families say about a candidate, learned from earlier windows.

Labels are later events only. Where something was shown is no feature: lists must not teach themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from tasks import blend, chances
from tasks.candidates import Candidates
from tasks.chances import Chance
from tasks.nets import Numbers
from tasks.ranker_features import Columns, describe
from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.settings import Config, Repeats

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
class Ranker:
    """score = Σ_s o(s) p_s over what may be shown, with o the configured objective and p_s the chance of signal s.

    Friedman, "Greedy Function Approximation: A Gradient Boosting Machine" (2001), as scikit-learn's histogram gradient
    boosting, and nets beside it; calibrated by isotonic regression (Zadrozny and Elkan, KDD 2002) on a window after
    those it learned from.
    """

    columns: tuple[str, ...]
    """Features in the order of trees and nets; one that was never known is not among them."""
    learned: Mapping[str, Chance]
    """By signal."""
    objective: Mapping[str, float]
    blend_share: float = 0.0
    """Of the blend's score beside the ranker's, each divided by the person's highest: see `rank`."""

    def probabilities(self, features: Columns) -> tuple[Floats, dict[str, Floats]]:
        """Score of each candidate, and its calibrated chance by signal."""
        table = _table(features, self.columns)
        score, likely = np.full(len(table), RARELY), {}
        total = sum(self.objective[signal] for signal in self.learned)
        for signal, chance in self.learned.items():
            raw = chance.raw(table)
            likely[signal] = chance.calibrated(raw).astype(np.float32)
            mixed = (1 - RAW_SHARE) * chance.calibrated(raw) + RAW_SHARE * raw
            score += self.objective[signal] / total * mixed
        return score.astype(np.float32), likely

    def save(self, file: Path) -> None:
        arrays: dict[str, Any] = {
            "columns": np.array(self.columns),
            "signals": np.array(list(self.learned)),
            "objective": np.array([self.objective[signal] for signal in self.learned]),
            "blend_share": self.blend_share,
        }
        for signal, chance in self.learned.items():
            arrays |= {f"{signal}_{name}": values for name, values in chance.arrays().items()}
        np.savez(file, **arrays)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            signals = saved["signals"].tolist()
            learned = {}
            for signal in signals:
                own = f"{signal}_"
                learned[signal] = Chance.of({n.removeprefix(own): saved[n] for n in saved.files if n.startswith(own)})
            objective = dict(zip(signals, saved["objective"].tolist(), strict=True))
            return cls(tuple(saved["columns"].tolist()), learned, objective, float(saved["blend_share"]))


def fit(
    seen: Sequence[Seen], weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats, config: Config
) -> Ranker | None:
    """Learn from windows, each signal that happened often enough; None if none did. Not calibrated yet.

    Candidates that did not happen are thinned, they are many and teach little; the odds are put right afterwards.
    Weights would do the same, but scikit-learn finds weighted quantiles eight times slower than all trees.
    """
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
    learned: dict[str, Chance] = {}
    for signal, share in settings.objective.items():
        label = np.concatenate([of[signal] for of in labels])
        if share and np.count_nonzero(label) >= settings.min_successes:
            learned[signal] = chances.fit(table, label, settings, seed)
    if not learned:
        return None
    objective: dict[str, float] = {signal: share for signal, share in settings.objective.items() if signal in learned}
    return Ranker(columns, learned, objective, settings.blend_share)


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
    learned = dict(ranker.learned)
    for signal in ranker.learned.keys() & teacher.learned.keys():
        happened = outcomes[signal]
        if not len(table) or not happened.any():
            continue
        found = IsotonicRegression(out_of_bounds="clip").fit(teacher.learned[signal].raw(table), happened)
        knots = np.array([found.X_thresholds_, found.y_thresholds_], dtype=np.float64)
        learned[signal] = replace(learned[signal], knots=knots)
    return replace(ranker, learned=learned)


def candidate_chances(
    ranker: Ranker, later: Seen, weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats
) -> tuple[Ints, dict[str, Floats], dict[str, Flags]]:
    """Of each candidate of the drawn people: whose it is, its calibrated chance by signal, and whether it happened."""
    block, known, outcomes = _drawn(later)
    _, likely = ranker.probabilities(describe(block, known, weights, names, repeats))
    return np.nonzero(known.valid)[0], likely, outcomes


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
    flat, likely = ranker.probabilities(describe(block, known, weights, names, repeats))
    score = np.zeros(known.valid.shape, dtype=np.float32)
    score[known.valid] = flat
    spread = {}
    for signal, chance in likely.items():
        spread[signal] = np.full(known.valid.shape, np.nan, dtype=np.float32)
        spread[signal][known.valid] = chance
    return np.where(mixed > 0, beside(score, mixed, ranker.blend_share), 0), spread


def beside(score: Floats, mixed: Floats, share: float) -> Floats:
    """People × candidates: both scores divided by the person's highest and added, the blend's by `share`.

    The blend varies less from month to month, so that a little of it steadies the order of what was learned.
    """
    if not share:
        return score
    peaks = [np.maximum(of.max(axis=1, keepdims=True, initial=0), np.float32(RARELY)) for of in (score, mixed)]
    both: Floats = (score / peaks[0] + np.float32(share) * mixed / peaks[1]) / np.float32(1 + share)
    return both


def _table(features: Columns, columns: Sequence[str]) -> Numbers:
    """Rows × columns, as trees and nets read them."""
    rows = len(next(iter(features.values())))
    table = np.full((rows, len(columns)), np.nan)
    for place, name in enumerate(columns):
        table[:, place] = features[name]
    return table
