"""The record of a training: which recommenders make the lists, which do not and why, and how good each was."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl

from tasks import accuracy, blend, evaluation
from tasks.choice import Learned
from tasks.recommenders import Interactions
from tasks.settings import Config, Repeats

SCHEMA = {
    "recommender": pl.String, "placement": pl.String, "role": pl.String, "used": pl.Boolean, "why": pl.String,
    "weight": pl.Float64, "people_trained": pl.Int64, "items_trained": pl.Int64, "events_trained": pl.Int64,
    "own_lists_share": pl.Float64,
    "test_signal": pl.String, "test_people": pl.Int64, "test_ndcg_10": pl.Float64,
    "test_ndcg_10_low": pl.Float64, "test_ndcg_10_high": pl.Float64,
}  # fmt: skip
"""Of marts.model_runs."""
MAKERS = ("ranker", "blend")
"""Of lists: the first that is used."""


def table(
    families: blend.Families,
    learned: Mapping[Repeats, Learned],
    measured: Mapping[tuple[str, str], accuracy.Figures],
    history: Interactions,
    signal: str | None,
    own_lists: float | None,
    config: Config,
) -> pl.DataFrame:
    """One row per recommender and placement: used or why not, with how much it learned from, and how good it was."""
    rows = []
    met = int(np.count_nonzero(history.catalogue.people))
    sizes = (len(history), met, int(history.events.sum(dtype=np.float64)), own_lists)
    for placement, settings in config.placements.items():
        chosen = learned[settings.repeats]
        mixture = dict(zip(families.names, chosen.weights.tolist(), strict=True))
        contenders = [(f.name, "family") for f in blend.FAMILIES] + [("blend", "blend"), ("ranker", "ranker")]
        for name, role in contenders + [(name, "baseline") for name in evaluation.BASELINES]:
            weight = mixture.get(name)
            used, why = _why(name, role, weight, families, chosen)
            found = _headline(measured.get((name, settings.repeats)), signal, config)
            why = why if found[0] is not None or role == "family" else f"{why}; not measured: too_little_data"
            rows.append((name, placement, role, used, why, weight, *sizes, signal, *found))
    return pl.DataFrame([(*row[:11], row[14], *row[11:14]) for row in rows], schema=SCHEMA, orient="row").sort(
        "placement", "recommender"
    )


def _why(name: str, role: str, weight: float | None, families: blend.Families, chosen: Learned) -> tuple[bool, str]:
    if role == "baseline":
        return False, "measured for comparison"
    if role == "ranker":
        return chosen.ranker is not None, chosen.why
    if role == "blend":
        return bool(families.models), _why_blend(families, chosen)
    if name in families.unused:
        return False, families.unused[name]
    if not weight:
        return False, "has nothing to say under this placement's rules"
    adds = "adds to the others on earlier windows"
    return True, adds if weight > blend.WHISPER else "fills what the others leave empty; adds nothing more"


def _why_blend(families: blend.Families, chosen: Learned) -> str:
    if not families.models:
        return "too_little_data: no family could learn"
    if chosen.chosen == "ranker":
        return "explains the lists that the ranker orders"
    mixed = "the mix of all used families"
    return mixed if chosen.chosen == "blend" else f"{mixed}, led by {chosen.chosen}, which was better alone"


def _headline(
    of: accuracy.Figures | None, signal: str | None, config: Config
) -> tuple[float | None, float | None, float | None, int]:
    """NDCG@10 with its interval, and of how many people; no value where they are too few."""
    if of is None or signal is None:
        return None, None, None, 0
    values = accuracy.per_person(of, signal, "ndcg", blend.LEARNED_K)
    if len(values) < config.evaluation.min_people:
        return None, None, None, len(values)
    low, high = accuracy.interval(values, config.evaluation.bootstrap, config.run.seed)
    return round(float(values.mean()), 6), round(low, 6), round(high, 6), len(values)


def maker(runs: pl.DataFrame, placement: str) -> str:
    """The recommender whose lists the placement shows."""
    used = runs.filter((pl.col("placement") == placement) & pl.col("used"))["recommender"].to_list()
    return next((name for name in MAKERS if name in used), "blend")


def compared(
    runs: pl.DataFrame, measured: Mapping[tuple[str, str], accuracy.Figures], signal: str | None, config: Config
) -> dict[str, Any]:
    """By placement, what makes its lists against the best family and the best baseline, on the test window.

    `ndcg@10` is the mean difference over the same people with its paired 95 % bootstrap interval. The best is the best
    of that window, which was not known before it: whoever is compared with it has the harder part. Placements with too
    few people are left out.
    """
    found: dict[str, Any] = {}
    known = runs.filter(pl.col("test_ndcg_10").is_not_null()) if signal else runs.clear()
    for placement, settings in config.placements.items():
        rows = known.filter(pl.col("placement") == placement)
        gains = {name: accuracy.per_person(measured[name, settings.repeats], str(signal), "ndcg", blend.LEARNED_K)
                 for name in rows["recommender"]}  # fmt: skip
        name = maker(runs, placement)
        if name not in gains:
            continue
        found[placement] = {"lists_by": name, "people": len(gains[name])}
        for role in ("family", "baseline"):
            others = rows.filter(pl.col("role") == role)["recommender"]
            if others.is_empty():
                continue
            best = min(others, key=lambda other: (-gains[other].mean(), other))
            ahead = gains[name] - gains[best]
            interval = accuracy.interval(ahead, config.evaluation.bootstrap, config.run.seed)
            figures = [round(float(value), 6) for value in (ahead.mean(), *interval)]
            found[placement][f"against_best_{role}"] = {"name": best, "ndcg@10": figures}
    return found


def summary(
    runs: pl.DataFrame,
    measured: pl.DataFrame,
    windows: evaluation.Split | None,
    signal: str | None,
    versus: Mapping[str, Any],
) -> dict[str, Any]:
    """The `evaluation` object of the run's summary; `versus` is what `compared` found."""
    told = (pl.col("metric") == "coverage") | ((pl.col("signal") == (signal or "")) & (pl.col("metric") != "ndcg"))
    others = accuracy.of_everybody(measured).filter((pl.col("k") == 10) & told)
    by_model: dict[tuple[str, str], dict[str, float | None]] = {}
    for name, placement, metric, value in others.select("recommender", "placement", "metric", "value").iter_rows():
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
        "horizon_days": (w.end - w.test).days,
        "windows": len(w.spans),
        "train": [w.start.date().isoformat(), w.validation.date().isoformat()],
        "validation": [w.validation.date().isoformat(), w.test.date().isoformat()],
        "test": [w.test.date().isoformat(), w.end.date().isoformat()],
    }  # fmt: skip
    split = {**dates, "too_little_data": w is None or signal is None}
    return {"split": split, "signal": signal, "models": models, "compared": dict(versus)}
