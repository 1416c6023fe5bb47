"""The project's own families and their blend on a public split: one matrix to learn from, one to be measured on.

Settings and weights are chosen on cells held out of the training matrix; the test matrix is read by the last step only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, candidates, matrices
from tasks.candidates import Voice
from tasks.errors import ConfigurationError
from tasks.memory import Watch
from tasks.recommenders import Flags, Floats, Interactions, Ints, Recommender, TooLittleDataError
from tasks.recommenders.als import Als
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.opinions import Table
from tasks.recommenders.trending import Trending
from tasks.settings import Config

FAMILIES: tuple[type[Recommender], ...] = (Trending, ItemItem, GraphFilter, Als)
"""Those that need to know nothing but who met what; what a person had is never asked for again."""
K = 20
JUDGED_PEOPLE = 1_500
"""By whom settings are chosen: all cells teach, since a part of them asks for other settings than the whole."""
TAUGHT_PEOPLE = 4_000
"""From whom the weights are learned: three or four need no more."""
BLOCK_CELLS = 8_000_000
"""People × items scored at once by one thread: bounds memory, changes no result."""
SEARCHING, LEARNING = 0.2, 0.45
"""Shares of a budget after which no further setting is tried, and no further family is begun."""

TRIALS: Mapping[str, Sequence[Mapping[str, float]]] = {
    ItemItem.name: (
        {"person_exponent": 0.5},
        {"person_exponent": 1.0},
        {"person_exponent": 0.5, "own_exponent": 0.7, "other_exponent": 0.3},
    ),
    GraphFilter.name: ({"sharpness": 1.0}, {"sharpness": 0.0}, {"sharpness": 1.0, "person_exponent": 1.0}),
    Als.name: ({"confidence": 30.0, "regularization": 30.0}, {"confidence": 10.0, "regularization": 10.0}),
}
"""Tried in this order, the first one is the fallback: sane values of settings that data sets differ in."""
SMALL: Mapping[str, Mapping[str, int]] = {GraphFilter.name: {"rank": 128}, Als.name: {"factors": 64, "iterations": 6}}
LARGE: Mapping[str, Mapping[str, int]] = {GraphFilter.name: {"rank": 512}, Als.name: {"factors": 128, "iterations": 8}}
"""Size of a model in the search, and of the one that is measured: the search asks for an order only."""


@dataclass
class Progress:
    """Where the seconds went, and what a budget left undone."""

    budget: float | None
    started: float = field(default_factory=time.monotonic)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_mb: dict[str, float] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def late(self, share: float) -> bool:
        return self.budget is not None and time.monotonic() - self.started > share * self.budget

    def of(self, name: str, work: Callable[[], Any]) -> Any:
        """`work()`, with its seconds and its memory booked on `name`."""
        begun = time.monotonic()
        with Watch() as watch:
            done = work()
        self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - begun
        self.peak_mb[name] = max(self.peak_mb.get(name, 0.0), watch.peak_mb)
        return done


def run(train: Path, test: Path, config: Config, budget: float | None = None) -> dict[str, Any]:
    """Choose settings, learn weights, refit on the whole training matrix, measure on the test matrix.

    Args:
        train: sparse people × items matrix of scipy.sparse.save_npz; a positive cell is an interaction.
        test: the same shape; the interactions to be found.
        config: its seed, threads and the settings that are not searched.
        budget: seconds within which it should end; what it leaves undone is named in `left_out`.

    Returns:
        `models`: by family and for the `blend` recall@20, ndcg@20, seconds and peak_rss_mb; beside it sizes, chosen
        settings, weights and validation figures.

    Raises:
        MissingInputError: a file is not there.
        ConfigurationError: a file is no such matrix, the shapes differ, or nobody can be measured.
    """
    progress = Progress(budget)
    known, truth = matrices.read(train), matrices.read(test)
    if known.shape != truth.shape:
        raise ConfigurationError(
            f"{test}: is {matrices.size(truth)}, but the training matrix is {matrices.size(known)}"
        )
    if not known.nnz or not truth.nnz:
        raise ConfigurationError(f"{train if not known.nnz else test}: holds no positive cell")
    config = _unmasked(config)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(config.run.threads) as pool:
        shown, hidden = matrices.held_out(known, config.run.seed)
        config, validation = tune(shown, hidden, config, progress, pool)
        weights, names = _weights(shown, hidden, config, progress, pool)
        families = _fit(matrices.interactions(known), config, names, progress, pool)
        models = _measure(families, weights, matrices.interactions(known), truth, config, progress, pool)
    return {
        "models": models,
        "people": known.shape[0],
        "items": known.shape[1],
        "train_cells": known.nnz,
        "test_cells": truth.nnz,
        "people_measured": int(np.count_nonzero(np.diff(truth.indptr))),
        "weights": dict(zip(families.names, weights.tolist(), strict=True)),
        "validation": validation,
        "left_out": sorted(progress.left_out),
        "seconds": round(time.monotonic() - progress.started, 1),
    }


def tune(
    shown: sp.csr_array, hidden: sp.csr_array, config: Config, progress: Progress, pool: ThreadPoolExecutor
) -> tuple[Config, dict[str, list[dict[str, Any]]]]:
    """Family by family the settings that help the blend with the earlier ones most; every trial with its figure.

    What is best alone is often what the others know already, so that each trial is judged by NDCG of the mix.
    """
    history = matrices.interactions(shown)
    judged = _spread(np.flatnonzero(np.diff(hidden.indptr)), JUDGED_PEOPLE)
    block, truth = history.take(judged), hidden[judged]
    tried: dict[str, list[dict[str, Any]]] = {}
    earlier: list[Floats] = []
    for family in FAMILIES:
        trials = TRIALS.get(family.name)
        if trials is None:
            continue

        configs = [_with(config, family.name, {**SMALL.get(family.name, {}), **settings}) for settings in trials]
        asked = [pool.submit(_trial, family, one, history, block, truth, earlier, progress) for one in configs]
        results = [one.result() for one in asked]
        known = [(*result, settings) for result, settings in zip(results, trials, strict=True) if result is not None]
        tried[family.name] = [{**settings, "ndcg": value} for value, _, settings in known]
        best = max(known, key=lambda trial: trial[0], default=None)
        if best is not None:
            earlier.append(best[1])
        chosen = {**LARGE.get(family.name, {}), **(trials[0] if best is None else best[2])}
        config = _with(config, family.name, chosen)
    return config, tried


def recall_and_ndcg(
    positions: Ints, listed: Flags, truth: sp.csr_array
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per person with a truth: hits in the K first over |truth|; NDCG with the ideal over min(K, |truth|) hits."""
    owners = np.repeat(np.arange(truth.shape[0]), np.diff(truth.indptr))
    dense = np.zeros(truth.shape, dtype=bool)
    dense[owners, truth.indices] = True
    truths = np.diff(truth.indptr).astype(np.int64)
    some = truths > 0
    hits = (np.take_along_axis(dense, positions, axis=1) & listed)[some]
    return hits.sum(axis=1) / truths[some], blend.ndcg(hits, truths[some], K)


def _trial(
    family: type[Recommender], config: Config, history: Interactions, block: Interactions, truth: sp.csr_array,
    earlier: Sequence[Floats], progress: Progress,
) -> tuple[float, Floats] | None:  # fmt: skip
    """How good the mix of the earlier families and this one is, and this one's opinions; none if it cannot tell."""
    if not len(block) or progress.late(SEARCHING):
        progress.left_out.append(f"a setting of {family.name}")
        return None
    try:
        models = blend.Families({family.name: progress.of(family.name, partial(family.fit, history, config))}, {})
    except TooLittleDataError:
        return None
    scale = np.empty(block.shape, dtype=np.float32)
    lessons = []
    for start, part in block.blocks(BLOCK_CELLS):
        rows = slice(start, start + len(part))
        scale[rows] = blend.scales(models, part, 1)[0]
        # Copies: other trials read the earlier ones at the same time.
        voices = [Voice(Table(known[rows].copy()), part.catalogue.recommendable) for known in (*earlier, scale)]
        lessons.append(blend.lesson(voices, part, "never", truth[rows].toarray() > 0))
    weights = blend.learn(lessons, len(earlier) + 1)
    return blend.worth(lessons, weights), scale


def _weights(
    shown: sp.csr_array, hidden: sp.csr_array, config: Config, progress: Progress, pool: ThreadPoolExecutor
) -> tuple[NDArray[np.float64], list[str]]:
    """The blend's weights, from families that do not know what was hidden."""
    history = matrices.interactions(shown)
    families = _fit(history, config, None, progress, pool)
    taught = _spread(np.flatnonzero(np.diff(hidden.indptr)), TAUGHT_PEOPLE)

    def lesson(start: int, block: Interactions) -> blend.Lesson:
        truth = hidden[taught[start : start + len(block)]].toarray() > 0
        return blend.lesson(blend.opinions(families, block, 1), block, "never", truth)

    with Watch() as watch:
        lessons = [part.result() for part in _submitted(pool, lesson, history.take(taught))]
        learned = blend.learn(lessons, len(families.models))
    progress.peak_mb["blend"] = watch.peak_mb
    return learned, list(families.names)


def _fit(
    history: Interactions, config: Config, names: Sequence[str] | None, progress: Progress, pool: ThreadPoolExecutor
) -> blend.Families:
    """The families of `names`, side by side; without names, all for which a budget leaves the time."""

    def fitted(family: type[Recommender]) -> Recommender | None:
        if names is None and family is not FAMILIES[0] and progress.late(LEARNING):
            progress.left_out.append(family.name)
            return None
        try:
            model: Recommender = progress.of(family.name, partial(family.fit, history, config))
        except TooLittleDataError:
            return None
        return model

    wanted = [family for family in FAMILIES if names is None or family.name in names]
    models = [one.result() for one in [pool.submit(fitted, family) for family in wanted]]
    found = {family.name: model for family, model in zip(wanted, models, strict=True) if model is not None}
    return blend.Families(found, {})


def _measure(
    families: blend.Families, weights: NDArray[np.float64], history: Interactions, truth: sp.csr_array, config: Config,
    progress: Progress, pool: ThreadPoolExecutor,
) -> dict[str, dict[str, float]]:  # fmt: skip
    """Every family and the blend on the test matrix."""
    measured = np.flatnonzero(np.diff(truth.indptr))

    def judge(start: int, block: Interactions) -> tuple[dict[str, Any], dict[str, float]]:
        theirs = truth[measured[start : start + len(block)]]
        found, seconds = {}, {}
        mixed = np.zeros(block.shape, dtype=np.float32)
        for (name, model), weight in zip(families.models.items(), weights, strict=True):
            begun = time.monotonic()
            scale = blend.scales(blend.Families({name: model}, {}), block, 1)[0]
            found[name] = recall_and_ndcg(*_ranked(scale, block), theirs)
            seconds[name] = time.monotonic() - begun
            mixed += np.float32(weight) * scale
        found["blend"] = recall_and_ndcg(*_ranked(mixed, block), theirs)
        return found, seconds

    with Watch() as watch:
        parts = [part.result() for part in _submitted(pool, judge, history.take(measured))]
    for _, seconds in parts:
        for name, more in seconds.items():
            progress.seconds[name] += more
    progress.seconds["blend"] = time.monotonic() - progress.started
    progress.peak_mb = {
        name: max(progress.peak_mb.get(name, 0.0), watch.peak_mb) for name in (*families.names, "blend")
    }
    progress.peak_mb["blend"] = max(progress.peak_mb.values())
    return {
        name: {
            "recall@20": round(float(np.concatenate([found[name][0] for found, _ in parts]).mean()), 6),
            "ndcg@20": round(float(np.concatenate([found[name][1] for found, _ in parts]).mean()), 6),
            "seconds": round(progress.seconds[name], 1),
            "peak_rss_mb": round(progress.peak_mb[name], 1),
        }
        for name in (*families.names, "blend")
    }


def _submitted(pool: ThreadPoolExecutor, work: Callable[[int, Interactions], Any], people: Interactions) -> list[Any]:
    """`work` on blocks of a fixed size: the same result with any number of threads."""
    return [pool.submit(work, start, block) for start, block in people.blocks(BLOCK_CELLS)]


def _ranked(scores: Floats, block: Interactions) -> tuple[Ints, Flags]:
    """The K best that a person did not have, in order, and which entries have a score at all."""
    masked = scores.copy()
    masked[block.owners(), block.columns] = 0
    positions, values = candidates.best(masked, K)
    return positions, values > 0


def _with(config: Config, family: str, settings: Mapping[str, Any]) -> Config:
    section = getattr(config.recommenders, family).model_copy(update=dict(settings))
    return config.model_copy(update={"recommenders": config.recommenders.model_copy(update={family: section})})


def _unmasked(config: Config) -> Config:
    """A public matrix holds no person to protect: an item that one person met may be brought to others."""
    return config.model_copy(update={"privacy": config.privacy.model_copy(update={"min_people": 1})})


def _spread(rows: Ints, most: int) -> Ints:
    """At most `most` of the rows, evenly spread over them."""
    return rows if len(rows) <= most else rows[np.arange(most) * len(rows) // most]
