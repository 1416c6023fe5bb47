"""Training: windows → weights → figures → the models that tonight's lists come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from itertools import repeat
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, evaluation, features
from tasks.recommenders import Interactions
from tasks.recommenders.interactions import load
from tasks.settings import Config, Repeats, Run

NEEDED = ("user_item", "item_popularity", "item_attributes")
"""Feature tables that families read."""

LESSON_PEOPLE = 4_000
"""Of a window: a handful of weights needs no more, and their candidates stay in memory."""

Weights = dict[Repeats, NDArray[np.float64]]


@dataclass(frozen=True)
class Trained:
    """What placements need, all of it learned before the cut."""

    history: Interactions
    families: blend.Families
    weights: Weights
    """By repeat policy, in the order of `families.names`."""
    model_version: str
    evaluation: dict[str, Any]
    """For the summary: split and figures."""


@dataclass(frozen=True)
class _Window:
    """Families that know the world up to a cut, that world, and what happened next."""

    families: blend.Families
    history: Interactions
    happened: evaluation.Truth


def train(con: duckdb.DuckDBPyConnection, run: Run) -> Trained:
    """Evaluate on the last days before the cut, then learn from everything; writes the two marts of figures.

    Weights are learned on the validation window and reported on the test window, by families that know nothing of
    either. What is published is refitted up to the cut, and its weights are learned on both windows: the newest season
    is the best teacher, and no figure is reported on it.

    Args:
        con: the night's catalogue, with `history.items`, `staging.*` and `features.*` as of the run.
        run: its cut and settings.

    Returns:
        The models; `marts.model_runs` and `marts.model_evaluation` are written.
    """
    with threadpool_limits(1, user_api="blas"):
        config = run.config
        policies: list[Repeats] = sorted({p.repeats for p in config.placements.values()})
        history = load(con, run.as_of, config.signals.half_life_days)
        windows = evaluation.split(con, run)
        cuts = [] if windows is None else [(windows.validation, windows.test), (windows.test, windows.end)]
        past = [_past(con, run, start, end) for start, end in cuts]
        # Each fit is the same alone or beside another.
        with ThreadPoolExecutor(max_workers=config.run.threads) as pool:
            families, *earlier = pool.map(blend.fit, [history, *(known for known, _ in past)], repeat(config))
        measured: dict[tuple[str, str], evaluation.Figures] = {}
        signal = None
        weights = {policy: _equal(families) for policy in policies}
        if windows is not None:
            validation, test = (_Window(of, *seen) for of, seen in zip(earlier, past, strict=True))
            signal = evaluation.main_signal(validation.happened, config)
            names = [
                n for n in families.names if {n} <= validation.families.models.keys() & test.families.models.keys()
            ]
            first = _lessons(validation, names, signal, policies, config)
            second = _lessons(test, names, signal, policies, config)
            taught = {p: _learn(first[p], names, test.families, config) for p in policies}
            measured = evaluation.measure(test.families, taught, test.history, test.happened, config)
            weights = {p: _learn(first[p] + second[p], names, families, config) for p in policies}
        shown = int(test.history.catalogue.recommendable.sum()) if windows is not None else 0
        write(con, "model_evaluation", evaluation.table(measured, shown, config))
        runs = _model_runs(families, weights, measured, history, signal, config)
        write(con, "model_runs", runs)
        version = _version(run, families, weights)
        return Trained(history, families, weights, version, _summary(con, runs, windows, signal))


def _past(
    con: duckdb.DuckDBPyConnection, run: Run, start: datetime, end: datetime
) -> tuple[Interactions, evaluation.Truth]:
    """The world up to `start`, and what happened from there up to `end`."""
    with features.window(con, run, start, "window"):
        features.build(con, run, start, NEEDED)
        history = load(con, start, run.config.signals.half_life_days)
    return history, evaluation.truth(con, run, history, start, end)


def _lessons(
    window: _Window, names: list[str], signal: str | None, policies: list[Repeats], config: Config
) -> dict[Repeats, list[blend.Lesson]]:
    """What a window teaches about these families, under each policy."""
    lessons: dict[Repeats, list[blend.Lesson]] = {policy: [] for policy in policies}
    if signal is None or not names:
        return lessons
    people = evaluation.measured_people(window.history, window.happened, LESSON_PEOPLE, config.run.seed)
    known = blend.Families({name: window.families.models[name] for name in names}, {})
    for start, block in window.history.take(people).blocks(config.run.max_block_cells // (len(names) + 1)):
        scales = blend.opinions(known, block, config.privacy.min_people)
        truth = window.happened.dense(signal, people[start : start + len(block)])
        for policy in policies:
            lessons[policy].append(blend.lesson(scales, blend.allowed(block, policy), truth))
    return lessons


def _learn(
    lessons: list[blend.Lesson], names: list[str], target: blend.Families, config: Config
) -> NDArray[np.float64]:
    """Weights for the families of `target`; equal ones where too few people can teach."""
    if sum(len(lesson.truths) for lesson in lessons) < config.evaluation.min_people:
        return _equal(target)
    learned = dict(zip(names, blend.learn(lessons, len(names)), strict=True))
    return np.array([learned.get(name, 0.0) for name in target.names])


def _equal(families: blend.Families) -> NDArray[np.float64]:
    count = len(families.models)
    return np.round(np.full(count, 1 / max(1, count)), blend.DECIMALS)


def _version(run: Run, families: blend.Families, weights: Weights) -> str:
    """A pure hash of the settings, the cut and what was learned."""
    facts = {
        "cut": run.label,
        "config": run.config.model_dump(mode="json", include={"recommenders", "signals", "evaluation", "privacy"}),
        "weights": {p: dict(zip(families.names, w.tolist(), strict=True)) for p, w in weights.items()},
    }
    return "blend-" + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def _model_runs(
    families: blend.Families,
    weights: Weights,
    measured: Mapping[tuple[str, str], evaluation.Figures],
    history: Interactions,
    signal: str | None,
    config: Config,
) -> pl.DataFrame:
    """One row per recommender and placement: used or why not, with how much it learned from, and how good it was."""
    rows = []
    sizes = (len(history), int(np.count_nonzero(history.catalogue.people)), int(history.events.sum(dtype=np.float64)))
    for placement, settings in config.placements.items():
        mixture = dict(zip(families.names, weights[settings.repeats].tolist(), strict=True))
        contenders = [(f.name, "family") for f in blend.FAMILIES] + [("blend", "blend")]
        for name, role in contenders + [(name, "baseline") for name in evaluation.BASELINES]:
            weight = mixture.get(name)
            used, why = _why(name, role, weight, families)
            figures = _headline(measured.get((name, settings.repeats)), signal, config)
            why = why if figures[0] is not None or role == "family" else f"{why}; not measured: too_little_data"
            rows.append((name, placement, role, used, why, weight, *sizes, signal, *figures))
    schema = {"recommender": pl.String, "placement": pl.String, "role": pl.String, "used": pl.Boolean, "why": pl.String,
              "weight": pl.Float64, "people_trained": pl.Int64, "items_trained": pl.Int64, "events_trained": pl.Int64,
              "test_signal": pl.String, "test_people": pl.Int64, "test_ndcg_10": pl.Float64,
              "test_ndcg_10_low": pl.Float64, "test_ndcg_10_high": pl.Float64}  # fmt: skip
    return pl.DataFrame([(*row[:10], row[13], *row[10:13]) for row in rows], schema=schema, orient="row").sort(
        "placement", "recommender"
    )


def _why(name: str, role: str, weight: float | None, families: blend.Families) -> tuple[bool, str]:
    if role == "baseline":
        return False, "measured for comparison"
    if role == "blend":
        used = bool(families.models)
        return used, "the mix of all used families" if used else "too_little_data: no family could learn"
    if name in families.unused:
        return False, families.unused[name]
    if not weight:
        return False, "has nothing to say under this placement's rules"
    if weight <= blend.WHISPER:
        return True, "fills what the others leave empty; adds nothing more on earlier windows"
    return True, "adds to the others on earlier windows"


def _headline(
    figures: evaluation.Figures | None, signal: str | None, config: Config
) -> tuple[float | None, float | None, float | None, int]:
    """NDCG@10 with its interval, and of how many people; no value where they are too few."""
    if figures is None or signal is None:
        return None, None, None, 0
    values = evaluation.per_person(figures, signal, "ndcg", blend.LEARNED_K)
    if len(values) < config.evaluation.min_people:
        return None, None, None, len(values)
    low, high = evaluation.interval(values, config.evaluation.bootstrap, config.run.seed)
    return round(float(values.mean()), 6), round(low, 6), round(high, 6), len(values)


def _summary(
    con: duckdb.DuckDBPyConnection, runs: pl.DataFrame, windows: evaluation.Split | None, signal: str | None
) -> dict[str, Any]:
    """The `evaluation` object of the run's summary."""
    others = con.execute(
        "SELECT recommender, placement, metric, value FROM marts.model_evaluation "
        "WHERE k = 10 AND temperature = 'all' AND (metric = 'coverage' OR (signal = $signal AND metric <> 'ndcg'))",
        {"signal": signal},
    ).fetchall()
    by_model: dict[tuple[str, str], dict[str, float | None]] = {}
    for name, placement, metric, value in others:
        by_model.setdefault((name, placement), {}).update({metric: value})
    models: dict[str, dict[str, Any]] = {}
    for row in runs.iter_rows(named=True):
        more = by_model.get((row["recommender"], row["placement"]), {})
        models.setdefault(row["recommender"], {})[row["placement"]] = {
            "ndcg@10": [row["test_ndcg_10"], row["test_ndcg_10_low"], row["test_ndcg_10_high"]],
            "recall@10": more.get("recall"), "hit_rate@10": more.get("hit_rate"), "coverage": more.get("coverage"),
            "people": row["test_people"], "weight": row["weight"],
        }  # fmt: skip
    w = windows
    dates = {} if w is None else {
        "train": [w.start.date().isoformat(), w.validation.date().isoformat()],
        "validation": [w.validation.date().isoformat(), w.test.date().isoformat()],
        "test": [w.test.date().isoformat(), w.end.date().isoformat()],
    }  # fmt: skip
    return {"split": {**dates, "too_little_data": w is None or signal is None}, "signal": signal, "models": models}


def write(con: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Create `marts.<name>` from a frame, in the frame's order."""
    con.register("written", frame.to_arrow())
    try:
        con.execute(f'CREATE SCHEMA IF NOT EXISTS marts; CREATE OR REPLACE TABLE marts."{name}" AS FROM written')
    finally:
        con.unregister("written")
