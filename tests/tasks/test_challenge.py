"""A challenger takes the champion's place for being better, not for being lucky, and never at somebody's expense."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks import accuracy, blend, challenge, evaluation, model_runs
from tasks.accuracy import Figures
from tasks.recommenders import Flags
from tasks.settings import Config
from tasks.training import Trained
from tests.nights import settings

PEOPLE = 200
HOMES = {f"u{n:03}": "DE" if n < 50 else "GB" for n in range(PEOPLE)}


@pytest.fixture(scope="module")
def config() -> Config:
    return settings()


def trained(config: Config, skill: Any = 0.3, seed: int = 1, width: Mapping[str, float] | None = None) -> Trained:
    """A model whose lists hit with probability `skill` (one, or one per person) at each of twenty positions.

    The baselines hit with 0.1. The same seed hits the same people at the same positions, and more of them with more
    skill.
    """
    policies = {p.repeats for p in config.placements.values()}
    draw = np.random.default_rng(seed).random((PEOPLE, 20))
    measured: dict[tuple[str, str], Figures] = {}
    for name, chance in {"blend": skill, **dict.fromkeys(evaluation.BASELINES, 0.1)}.items():
        hits = draw < np.broadcast_to(np.asarray(chance, dtype=float).reshape(-1, 1), draw.shape)
        measured |= {(name, policy): figures(hits) for policy in policies}
    runs = [{"recommender": "blend", "placement": p, "role": "blend", "used": True} for p in config.placements]
    wide = [
        ("blend", p, "all", "all", "all", "all", "any", metric, blend.LEARNED_K, value, PEOPLE)
        for p in config.placements
        for metric, value in (width or {}).items()
    ]
    nothing: Any = None
    return Trained(
        history=nothing,
        families=blend.Families({}, {}),
        weights={},
        model_version="blend-0",
        evaluation={"signal": "purchase"},
        runs=pl.DataFrame(runs, schema_overrides=model_runs.SCHEMA),
        figures=pl.DataFrame(wide, schema=accuracy.SCHEMA, orient="row"),
        measured=measured,
        tested=tuple(HOMES),
    )


def figures(hits: Flags) -> Figures:
    made: Any = Figures
    known: dict[str, Any] = {
        "hits": dict.fromkeys(evaluation.SIGNALS, hits),
        "truths": dict.fromkeys(evaluation.SIGNALS, np.full(PEOPLE, 20)),
        "temperature": np.array(["hot", "warm"] * (PEOPLE // 2)),
    }
    return Figures(**{**dict.fromkeys(made.__dataclass_fields__), **known})


def test_equal_ones_change_nothing(config: Config) -> None:
    judged = challenge.against_champion(trained(config), trained(config), HOMES, config)

    assert not judged.better
    assert "not better than the champion beyond noise" in judged.why


def test_another_draw_of_the_same_skill_changes_nothing(config: Config) -> None:
    judged = [
        challenge.against_champion(trained(config, seed=seed), trained(config, seed=0), HOMES, config).better
        for seed in range(1, 21)
    ]

    # Two-sided intervals of 95 % let one in forty through.
    assert sum(judged) <= 2


def test_a_better_one_wins_and_the_figures_say_by_how_much(config: Config) -> None:
    judged = challenge.against_champion(trained(config, 0.4), trained(config, 0.3), HOMES, config)

    assert judged.better, judged.why
    mean, low, high = judged.figures["ndcg@10"]["all"]
    assert 0 < low < mean < high
    assert judged.figures["ndcg@10"].keys() >= {"country DE", "temperature hot", "repeats never"}


def test_a_worse_one_is_refused(config: Config) -> None:
    assert not challenge.against_champion(trained(config, 0.2), trained(config, 0.3), HOMES, config).better


def test_a_better_one_that_a_country_pays_for_is_refused(config: Config) -> None:
    skill = np.where([HOMES[person] == "DE" for person in HOMES], 0.1, 0.6)

    judged = challenge.against_champion(trained(config, skill), trained(config, 0.3), HOMES, config)

    assert not judged.better
    assert judged.why == "is better, but country DE is worse beyond noise"


@pytest.mark.parametrize(
    ("metric", "before", "after", "word"),
    [("coverage", 0.5, 0.4, "covers less"), ("popularity_share", 0.2, 0.3, "shows more of what is popular")],
)
def test_a_better_one_that_narrows_the_shop_is_refused(
    config: Config, metric: str, before: float, after: float, word: str
) -> None:
    champion = trained(config, 0.3, width={metric: before})

    judged = challenge.against_champion(trained(config, 0.4, width={metric: after}), champion, HOMES, config)
    unchanged = challenge.against_champion(trained(config, 0.4, width={metric: before}), champion, HOMES, config)

    assert not judged.better
    assert word in judged.why
    assert unchanged.better


def test_the_first_one_must_beat_every_baseline(config: Config) -> None:
    assert challenge.against_baselines(trained(config, 0.3), config).better
    refused = challenge.against_baselines(trained(config, 0.1), config)

    assert not refused.better
    assert all(name in refused.why for name in evaluation.BASELINES)


def test_a_ranker_that_only_the_test_window_could_judge_is_compared_by_the_lists_of_that_window(config: Config) -> None:
    # given: it makes tonight's lists, and was not measured
    made = trained(config)
    rows = [{"recommender": "ranker", "placement": p, "role": "ranker", "used": True} for p in config.placements]
    ranked = replace(made, runs=pl.concat([made.runs, pl.DataFrame(rows, schema_overrides=model_runs.SCHEMA)]))

    # when, then: the blend made the lists that were
    assert challenge.against_baselines(ranked, config) == challenge.against_baselines(made, config)
    assert not challenge.against_champion(ranked, made, HOMES, config).better


def test_too_little_to_compare_on_promotes_nobody(config: Config) -> None:
    empty = replace(trained(config), measured={}, tested=(), evaluation={"signal": None})

    assert not challenge.against_baselines(empty, config).better
    assert not challenge.against_champion(empty, empty, {}, config).better
