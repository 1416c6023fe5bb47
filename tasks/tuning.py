"""Tuning: the settings of the families, searched on a window that the later comparison does not look at."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, evaluation, features
from tasks.candidates import Voice
from tasks.recommenders import Interactions, Recommender, TooLittleDataError, interactions
from tasks.settings import Config, Recommenders, Repeats, Run

NEEDED = ("user_item", "item_popularity", "item_attributes")
EXPONENT = (0.0, 1.0, False)
HALF_LIFE = (7.0, 365.0, True)
SPACE: Mapping[str, Mapping[str, tuple[float, float, bool]]] = {
    "repeat": {"half_life_days": (30.0, 730.0, True), "demand_exponent": (0.0, 0.7, False)},
    "item_item": {
        "half_life_days": HALF_LIFE,
        "person_exponent": EXPONENT,
        "own_exponent": EXPONENT,
        "other_exponent": EXPONENT,
    },
    "graph_filter": {"half_life_days": HALF_LIFE, "person_exponent": EXPONENT, "lift_exponent": EXPONENT},
    "als": {"half_life_days": HALF_LIFE, "regularization": (0.01, 1.0, True), "confidence": (1.0, 40.0, True)},
}
"""Family → setting → lowest, highest, whether on a logarithmic scale: beyond, the family is another one."""
DIGITS = 3
"""Of a setting that was found, so that people can read it."""
VOICES = (0.5, 1.0, 2.0)
"""Factors on the weight of a family whose settings changed, the others' staying: its scores mean something else now."""


@dataclass
class Found:
    """What a search found, and how far it came."""

    recommenders: Recommenders
    start: float = 0.0
    """NDCG@10 of the settings that it began with, mean over the placements' policies."""
    best: float = 0.0
    trials: int = 0
    complete: bool = True
    why: str = ""
    changed: dict[str, dict[str, float]] = field(default_factory=dict)
    """Family → settings that are new."""


def search(con: duckdb.DuckDBPyConnection, run: Run, trials: int, journal: Path, budget: float | None = None) -> Found:
    """Search the families' settings, one family at a time, on the validation window.

    A trial changes one family and leaves the others as the best so far, so that it costs one fit. Each family has a
    seeded tree-structured Parzen estimator of its own (Bergstra et al., "Algorithms for Hyper-Parameter Optimization",
    NIPS 2011), which begins with the settings in force.

    Args:
        con: the night's catalogue, with `staging.*`.
        run: whose settings are the start.
        trials: of all families together.
        journal: optuna's file, written anew: a record, never read.
        budget: seconds after which no trial begins; then the search is not complete and its result is for nobody.
    """
    began = time.perf_counter()
    with threadpool_limits(1, user_api="blas"):
        scene = _scene(con, run)
        if scene is None:
            return Found(run.config.recommenders, why="too little data to search on")
        found = Found(run.config.recommenders, start=scene.value, best=scene.value)
        for study, family in _turns(scene, run, journal, trials):
            if budget is not None and time.perf_counter() - began > budget:
                found.complete, found.why = False, f"cut short after {found.trials} of {trials} trials"
                break
            trial = study.ask()
            chosen = {
                name: round(trial.suggest_float(name, low, high, log=log), DIGITS)
                for name, (low, high, log) in SPACE[family].items()
            }
            value = scene.attempt(family, _with(scene.config, family, chosen))
            study.tell(trial, value)
            found.trials += 1
            if value > found.best:
                found.best = value
                found.changed[family] = chosen
        found.recommenders = scene.config.recommenders
        return found


@dataclass
class _Scene:
    """People of the validation window, what every family says of them, and the best settings so far."""

    config: Config
    history: Interactions
    people: Interactions
    truth: NDArray[np.bool_]
    voices: dict[str, Voice]
    weights: dict[Repeats, NDArray[np.float64]]
    value: float

    def attempt(self, family: str, config: Config) -> float:
        """The value with another fit of one family; where it is the best so far, it stays."""
        try:
            voice = _opinion(_kinds()[family], self.history, self.people, config)
        except TooLittleDataError:
            return 0.0
        voices = {**self.voices, family: voice}
        at = list(voices).index(family)
        weights, values = {}, []
        lessons = blend.lessons(list(voices.values()), self.people, list(self.weights), self.truth)
        for policy, before in self.weights.items():
            lesson = lessons[policy]
            louder = [np.where(np.arange(len(before)) == at, before * voice, before) for voice in VOICES]
            worths = [blend.worth([lesson], trial) for trial in louder]
            weights[policy] = louder[int(np.argmax(worths))]
            values.append(max(worths))
        value = round(float(np.mean(values)), 9)
        if value > self.value:
            self.config, self.voices, self.weights, self.value = config, voices, weights, value
        return value


def _scene(con: duckdb.DuckDBPyConnection, run: Run) -> _Scene | None:
    windows, config = evaluation.split(con, run), run.config
    if windows is None:
        return None
    with features.window(con, run, windows.validation, "window"):
        features.build(con, run, windows.validation, NEEDED)
        history = interactions.load(con, windows.validation, config.signals.half_life_days)
    happened = evaluation.truth(con, run, history, windows.validation, windows.test)
    signal = evaluation.main_signal(happened, config)
    if signal is None:
        return None
    rows = evaluation.measured_people(history, happened, config.retraining.people, config.run.seed)
    people, truth = history.take(rows), happened.dense(signal, rows)
    voices = {}
    for name, kind in _kinds().items():
        try:
            voices[name] = _opinion(kind, history, people, config)
        except TooLittleDataError:
            continue
    if not voices:
        return None
    weights, values = {}, []
    policies: list[Repeats] = sorted({p.repeats for p in config.placements.values()})
    for policy, lesson in blend.lessons(list(voices.values()), people, policies, truth).items():
        weights[policy] = blend.learn([lesson], len(voices))
        values.append(blend.worth([lesson], weights[policy]))
    return _Scene(config, history, people, truth, voices, weights, round(float(np.mean(values)), 9))


def _turns(scene: _Scene, run: Run, journal: Path, trials: int) -> Iterator[tuple[Any, str]]:
    """The studies in turn, `trials` times; each knows what the settings in force are worth, and begins around them."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal.parent.mkdir(parents=True, exist_ok=True)
    journal.unlink(missing_ok=True)
    storage = JournalStorage(JournalFileBackend(str(journal)))
    families = [family for family in SPACE if family in scene.voices]
    studies = {}
    for number, family in enumerate(families):
        sampler = optuna.samplers.TPESampler(seed=run.seed + number, n_startup_trials=1)
        studies[family] = optuna.create_study(study_name=family, storage=storage, sampler=sampler, direction="maximize")
        start = getattr(scene.config.recommenders, family).model_dump(include=set(SPACE[family]))
        # Settings of a deployment may lie outside; then the search begins anywhere.
        if all(low <= start[name] <= high for name, (low, high, _) in SPACE[family].items()):
            studies[family].add_trial(
                optuna.trial.create_trial(params=start, distributions=_distributions(family), value=scene.value)
            )
    for turn in range(trials if families else 0):
        family = families[turn % len(families)]
        yield studies[family], family


def _distributions(family: str) -> dict[str, Any]:
    from optuna.distributions import FloatDistribution

    return {name: FloatDistribution(low, high, log=log) for name, (low, high, log) in SPACE[family].items()}


def _kinds() -> dict[str, type[Recommender]]:
    return {family.name: family for family in blend.FAMILIES}


def _with(config: Config, family: str, chosen: Mapping[str, float]) -> Config:
    settings = getattr(config.recommenders, family).model_copy(update=dict(chosen))
    return config.model_copy(update={"recommenders": config.recommenders.model_copy(update={family: settings})})


def _opinion(kind: type[Recommender], history: Interactions, people: Interactions, config: Config) -> Voice:
    families = blend.Families({kind.name: kind.fit(history, config)}, {})
    return blend.opinions(families, people, config.privacy.min_people)[0]
