"""Challenge: what a challenger must show on the same later days before it takes the champion's place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import accuracy, blend, evaluation, model_runs
from tasks.settings import Config, Repeats
from tasks.training import Trained

NOISE = 2.5
"""Per cent outside either end of an interval: a difference that zero lies outside of is beyond noise."""

Gains = dict[Repeats, NDArray[np.float64]]
"""By repeat policy: one value for each person tested, NaN without a truth under the policy."""


@dataclass(frozen=True)
class Judgement:
    """Whether the challenger may be promoted, and what decided."""

    better: bool
    why: str
    figures: dict[str, Any] = field(default_factory=dict)


def against_baselines(challenger: Trained, config: Config) -> Judgement:
    """Better than every baseline beyond noise: the bar for the first model of a lake."""
    mine, signal = _gains(challenger, None, config)
    if signal is None:
        return Judgement(False, "too little data to compare on")
    figures = {name: _difference(mine, _gains(challenger, name, config)[0], config) for name in evaluation.BASELINES}
    unbeaten = [name for name, (_, low, _) in figures.items() if not low > 0]
    why = f"does not beat {' and '.join(unbeaten)} beyond noise" if unbeaten else "beats every baseline beyond noise"
    return Judgement(not unbeaten, why, {"signal": signal, "ndcg@10": _told(figures)})


def against_champion(challenger: Trained, champion: Trained, homes: Mapping[str, str], config: Config) -> Judgement:
    """Better beyond noise over all placements, and no slice, coverage or popularity gate breaks.

    Both were trained on the same days before the same test window; each person is compared with themselves.

    Args:
        challenger: what may take the place.
        champion: the champion's recipe, trained anew.
        homes: person → country.
        config: its `retraining` gates; slices of fewer than `evaluation.min_people` people say nothing.
    """
    mine, signal = _gains(challenger, None, config)
    theirs, other_signal = _gains(champion, None, config)
    if signal is None or signal != other_signal or challenger.tested != champion.tested:
        return Judgement(False, "too little data to compare on")
    overall = _difference(mine, theirs, config)
    slices = _slices(challenger, mine, theirs, homes, config)
    widths = {p: _width(challenger, champion, p, of.repeats) for p, of in config.placements.items()}
    worse = [f"{name} is worse beyond noise" for name, (_, _, high) in slices.items() if high < 0]
    worse += [f"{p}: {told}" for p, width in widths.items() if (told := _narrower(width, config))]
    figures = {"signal": signal, "ndcg@10": _told({"all": overall, **slices}), "width": widths}
    if not overall[1] > 0:
        return Judgement(False, "is not better than the champion beyond noise", figures)
    if worse:
        return Judgement(False, f"is better, but {'; '.join(worse)}", figures)
    return Judgement(True, "is better than the champion beyond noise, and nowhere worse", figures)


def _gains(trained: Trained, name: str | None, config: Config) -> tuple[Gains, str | None]:
    """NDCG@10 of each person tested, of a recommender or else of the lists as they would be shown; and the signal."""
    signal = trained.evaluation.get("signal")
    if signal is None or not trained.measured:
        return {}, None
    gains: Gains = {}
    for placement, settings in config.placements.items():
        figures = trained.measured[name or _maker(trained, placement, settings.repeats), settings.repeats]
        gains[settings.repeats] = np.full(len(trained.tested), np.nan)
        counted = figures.truths[signal] > 0
        gains[settings.repeats][counted] = accuracy.per_person(figures, signal, "ndcg", blend.LEARNED_K)
    enough = [g for g in gains.values() if np.count_nonzero(~np.isnan(g)) >= config.evaluation.min_people]
    return gains, signal if enough else None


def _maker(trained: Trained, placement: str, policy: Repeats) -> str:
    """Whose lists the placement showed on the test window; a ranker that nothing before it could judge made none."""
    maker = model_runs.maker(trained.runs, placement)
    return maker if (maker, policy) in trained.measured else "blend"


def _difference(
    mine: Gains, theirs: Gains, config: Config, chosen: NDArray[np.bool_] | None = None
) -> tuple[float, float, float]:
    """Mean paired difference over people and policies, with its 95 % bootstrap interval over people.

    A policy counts by the people who can tell: the mean of policy means let the few of one drown the many of another.
    """
    table = np.column_stack([mine[policy] - theirs[policy] for policy in sorted(mine)])
    table = table if chosen is None else table[chosen]
    table = table[~np.isnan(table).all(axis=1)]
    known, table = ~np.isnan(table), np.nan_to_num(table)

    def mean(rows: NDArray[np.int64]) -> float:
        return float(table[rows].sum() / known[rows].sum())

    draw = np.random.Generator(np.random.Philox(config.run.seed))
    size = len(table)
    if not size:
        return 0.0, 0.0, 0.0
    means = [mean(draw.integers(0, size, size)) for _ in range(config.evaluation.bootstrap)]
    low, high = np.percentile(means, [NOISE, 100 - NOISE])
    return mean(np.arange(size)), float(low), float(high)


def _slices(
    trained: Trained, mine: Gains, theirs: Gains, homes: Mapping[str, str], config: Config
) -> dict[str, tuple[float, float, float]]:
    """The difference for each placement's policy, temperature and country with enough people."""
    everybody = np.ones(len(trained.tested), dtype=bool)
    groups = {f"repeats {policy}": ({policy: mine[policy]}, everybody) for policy in mine}
    warmth = next(iter(trained.measured.values())).temperature
    lived = np.array([homes.get(person, "") for person in trained.tested])
    groups |= {f"temperature {t}": (mine, warmth == t) for t in accuracy.TEMPERATURES[1:]}
    groups |= {f"country {c}": (mine, lived == c) for c in sorted(set(homes.values())) if c != "ZZ"}
    found = {}
    for name, (gains, people) in groups.items():
        told = people & np.any([~np.isnan(g) for g in gains.values()], axis=0)
        if np.count_nonzero(told) >= config.evaluation.min_people:
            found[name] = _difference(gains, {p: theirs[p] for p in gains}, config, told)
    return found


def _width(challenger: Trained, champion: Trained, placement: str, policy: Repeats) -> dict[str, tuple[float, float]]:
    """Challenger's and champion's coverage and popularity share of the placement's lists, where they are measured."""
    found = {}
    for metric in ("coverage", "popularity_share"):
        both = []
        for trained in (challenger, champion):
            maker = _maker(trained, placement, policy)
            kept = (
                (pl.col("placement") == placement) & (pl.col("recommender") == maker)
                & (pl.col("metric") == metric) & (pl.col("k") == blend.LEARNED_K)
            )  # fmt: skip
            both += accuracy.of_everybody(trained.figures).filter(kept)["value"].drop_nulls().to_list()[:1]
        if len(both) == 2:
            found[metric] = (both[0], both[1])
    return found


def _narrower(width: Mapping[str, tuple[float, float]], config: Config) -> str:
    limits = config.retraining
    now, before = width.get("coverage", (1, 1))
    if now < before * (1 - limits.max_coverage_loss):
        return "covers less of the catalogue"
    now, before = width.get("popularity_share", (0, 0))
    return "shows more of what is popular" if now > before + limits.max_popularity_gain else ""


def _told(figures: Mapping[str, tuple[float, float, float]]) -> dict[str, list[float]]:
    return {name: [round(value, 6) for value in values] for name, values in figures.items()}
