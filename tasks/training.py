"""Training: windows → weights → figures → the models that tonight's lists come from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import accuracy, blend, choice, evaluation, features, lessons, memory, model_runs, outcomes, reliability
from tasks.accuracy import Figures
from tasks.ranker import Ranker
from tasks.recommenders import Catalogue, Interactions, Recommender, TooLittleDataError, interactions
from tasks.settings import Config, Repeats, Run

NEEDED = ("user_item", "item_popularity", "item_attributes")
"""Feature tables that families read."""

FORMAT = 4
"""Of a saved model; another one is refused."""

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
    runs: pl.DataFrame
    """marts.model_runs."""
    figures: pl.DataFrame
    """marts.model_evaluation."""
    measured: Mapping[tuple[str, str], Figures] = field(default_factory=dict)
    """By (recommender, repeat policy), person by person, on the test window; not part of a saved model."""
    tested: tuple[str, ...] = ()
    """The people of `measured`, in its order."""
    rankers: Mapping[Repeats, Ranker] = field(default_factory=dict)
    """By repeat policy; under one without, the blend makes the lists."""
    reliability: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=reliability.SCHEMA))
    """marts.model_reliability."""


def train(con: duckdb.DuckDBPyConnection, run: Run, *, ranked: bool = False) -> Trained:
    """Evaluate on the last days before the cut, then learn from everything; writes the marts of a model.

    Weights are learned on the validation window and reported on the test window, by families that know nothing of
    either. What is published is refitted up to the cut, and its weights are learned on both windows: the newest season
    is the best teacher, and no figure is reported on it.

    Args:
        con: the night's catalogue, with `history.items`, `staging.*` and `features.*` as of the run.
        run: its cut and settings.
        ranked: learn a ranker, too, from more and earlier windows: minutes instead of seconds.

    Returns:
        The models; its three marts are written: see `record`.
    """
    memory.keep_freed()
    with threadpool_limits(1, user_api="blas"):
        config = run.config
        policies: list[Repeats] = sorted({p.repeats for p in config.placements.values()})
        history = interactions.load(con, run.as_of, config.signals.half_life_days)
        windows = evaluation.split(con, run, config.ranker.windows if ranked else 2)
        spans = windows.spans if windows else []
        past = [_past(con, run, start, end) for start, end in spans]
        halfway = [_past(con, run, *span) for span in _halfway(spans)] if ranked and config.ranker.halfway else []
        families, *earlier = blend.fit_each([history, *(known for known, _ in past)], config, config.run.threads)
        seen = [lessons.Window(of, *world) for of, world in zip(earlier, past, strict=True)]
        signal = evaluation.main_signal(seen[-2].happened, config) if seen else None
        before = learned = choice.untaught(families, policies)
        measured: dict[tuple[str, str], Figures] = {}
        tested: tuple[str, ...] = ()
        if seen:
            before, learned = choice.learn(seen, halfway, families, signal, policies, config, ranked)
            test = seen[-1]
            measured = evaluation.measure(
                test.families,
                {policy: of.weights for policy, of in before.items()},
                test.history,
                test.happened,
                config,
                {policy: of.ranker for policy, of in before.items() if of.ranker},
            )
            people = evaluation.measured_people(
                test.history, test.happened, config.evaluation.max_people, config.run.seed
            )
            tested = tuple(test.history.people[row] for row in people)
        weights = {policy: of.weights for policy, of in learned.items()}
        believed = reliability.table({p: of.reliability for p, of in before.items()}, config)
        shown = _shown(seen[-1].history.catalogue) if seen else 0
        figures = accuracy.table(measured, shown, config)
        own = outcomes.own_lists_share(con, run.as_of, config.outcomes.window_days)
        runs = model_runs.table(families, learned, measured, history, signal, own, config)
        version = _version(run, families, weights, learned)
        versus = model_runs.compared(runs, measured, signal, config)
        told = model_runs.summary(runs, figures, windows, signal, versus)
        rankers = {policy: of.ranker for policy, of in learned.items() if of.ranker}
        trained = Trained(history, families, weights, version, told, runs, figures, measured, tested, rankers, believed)
    record(con, trained)
    return trained


def _shown(catalogue: Catalogue) -> int:
    return int(catalogue.recommendable.sum()) + catalogue.unscored


def record(con: duckdb.DuckDBPyConnection, trained: Trained) -> None:
    """Write the marts of a model: what was learned when it was trained, how good it was, and which it is."""
    version = pl.lit(trained.model_version).alias("model_version")
    write(con, "model_runs", trained.runs.with_columns(version))
    write(con, "model_evaluation", trained.figures.with_columns(version))
    write(con, "model_reliability", trained.reliability.with_columns(version))


def save(trained: Trained, folder: Path) -> None:
    """Write the model into `folder`, which must exist: one .npz per family and `trained.json`; nothing of a person.

    Equal models are equal bytes. Tonight's history is not part of it.
    """
    for name, model in trained.families.models.items():
        model.save(folder / f"{name}.npz")
    for policy, ranker in trained.rankers.items():
        ranker.save(folder / f"ranker-{policy}.npz")
    facts = {
        "format": FORMAT,
        "items": trained.history.catalogue.ids,
        "families": trained.families.names,
        "rankers": sorted(trained.rankers),
        "unused": dict(trained.families.unused),
        "weights": {policy: weights.tolist() for policy, weights in trained.weights.items()},
        "model_version": trained.model_version,
        "evaluation": trained.evaluation,
        "runs": trained.runs.to_dict(as_series=False),
        "figures": trained.figures.to_dict(as_series=False),
        "reliability": trained.reliability.to_dict(as_series=False),
    }
    (folder / "trained.json").write_text(json.dumps(facts, sort_keys=True), encoding="utf-8")


def load(folder: Path, history: Interactions, config: Config) -> Trained:
    """The model in `folder`, ready for people and items of `history`, whatever happened since it was saved.

    Families in `blend.FITTED_NIGHTLY` are fitted again on `history`, with the recipe of `config`. The others keep what
    they learned about items; each person is scored from the history of tonight, and an item that they do not know waits
    for the next training.

    Raises:
        OSError, ValueError, KeyError: the folder does not hold what `save` wrote.
    """
    facts = json.loads((folder / "trained.json").read_text(encoding="utf-8"))
    if facts["format"] != FORMAT:
        raise ValueError(f"a model of format {facts['format']}; this version reads {FORMAT}")
    stood = {item: place for place, item in enumerate(facts["items"])}
    places = np.array([stood.get(item, -1) for item in history.catalogue.ids], dtype=np.int64)
    kinds = {family.name: family for family in blend.FAMILIES}

    def ready(name: str) -> Recommender | None:
        if kinds[name] not in blend.FITTED_NIGHTLY:
            return kinds[name].load(folder / f"{name}.npz").align(places)
        try:
            return kinds[name].fit(history, config)
        except TooLittleDataError:
            return None

    # Each fit is the same alone or beside others.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max_workers=config.run.threads) as pool:
        found = dict(zip(facts["families"], pool.map(ready, facts["families"]), strict=True))
    models = {name: model for name, model in found.items() if model is not None}
    kept = [name in models for name in facts["families"]]
    return Trained(
        history=history,
        families=blend.Families(models, facts["unused"]),
        weights={policy: np.array(weights)[kept] for policy, weights in facts["weights"].items()},
        model_version=facts["model_version"],
        evaluation=facts["evaluation"],
        runs=pl.DataFrame(facts["runs"], schema=model_runs.SCHEMA),
        figures=pl.DataFrame(facts["figures"], schema=accuracy.SCHEMA),
        reliability=pl.DataFrame(facts["reliability"], schema=reliability.SCHEMA),
        rankers={policy: Ranker.load(folder / f"ranker-{policy}.npz") for policy in facts["rankers"]},
    )


def _past(con: duckdb.DuckDBPyConnection, run: Run, start: datetime, end: datetime) -> lessons.Known:
    """The world up to `start`, and what happened from there up to `end`."""
    with features.window(con, run, start, "window"):
        features.build(con, run, start, NEEDED)
        history = interactions.load(con, start, run.config.signals.half_life_days)
    return history, evaluation.truth(con, run, history, start, end)


def _halfway(spans: Sequence[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    """From the middle of each window to the middle of the next, at the start of a local day."""
    middles = [start + timedelta(days=(end.date() - start.date()).days // 2) for start, end in spans]
    # A window of a single day has no middle.
    apart = all(middle > start for middle, (start, _) in zip(middles, spans, strict=True))
    return list(pairwise(middles)) if apart else []


def _version(run: Run, families: blend.Families, weights: Weights, learned: Mapping[Repeats, choice.Learned]) -> str:
    """A pure hash of the settings, the cut and what was learned."""
    facts = {
        "cut": run.label,
        "config": run.config.model_dump(
            mode="json", include={"recommenders", "ranker", "signals", "evaluation", "privacy"}
        ),
        "weights": {p: dict(zip(families.names, w.tolist(), strict=True)) for p, w in weights.items()},
    }
    kind = "ranker-" if any(of.ranker for of in learned.values()) else "blend-"
    return kind + hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]


def write(con: duckdb.DuckDBPyConnection, name: str, frame: pl.DataFrame) -> None:
    """Create `marts.<name>` from a frame, in the frame's order."""
    con.register("written", frame.to_arrow())
    try:
        con.execute(f'CREATE SCHEMA IF NOT EXISTS marts; CREATE OR REPLACE TABLE marts."{name}" AS FROM written')
    finally:
        con.unregister("written")
