"""The ranker: it learns from later windows alone, and is kept as what was grown."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from threadpoolctl import threadpool_limits

from tasks import (
    blend,
    candidates,
    chances,
    evaluation,
    lessons,
    nets,
    placements,
    ranker,
    reliability,
    training,
)
from tasks.chances import Chance, Forest
from tasks.ranker import Ranker, Seen, beside
from tasks.ranker_features import describe
from tasks.recommenders import Interactions, interactions
from tasks.settings import Config
from tests.sql.spec import Night, defaults
from tests.tasks.worlds import market, settings, table


def eager() -> Config:
    """A ranker is learned even from a handful of successes."""
    return settings(
        evaluation={"min_people": 5, "bootstrap": 50},
        ranker={"min_successes": 5, "min_leaf": 5, "iterations": 20},
    )


@dataclass(frozen=True)
class World:
    night: Night
    trained: training.Trained


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    night = market(people=150, config=eager())
    yield World(night, training.train(night.con, night.run, ranked=True))
    night.con.close()


@dataclass(frozen=True)
class Grown:
    """A ranker of items that were never met, and the last window, which taught it, too."""

    ranker: Ranker
    seen: Seen
    names: list[str]


def grow() -> Grown:
    night = market(people=80, config=eager())
    run = night.run
    windows = evaluation.split(night.con, run, 3)
    assert windows is not None
    with threadpool_limits(1, user_api="blas"):
        past = [training._past(night.con, run, start, end) for start, end in windows.spans]
        known = [lessons.Window(blend.fit(history, run.config), history, truth) for history, truth in past]
        names = list(known[-1].families.names)
        seen = [lessons.gather(window, names, ["never"], run.config)["never"] for window in known]
        found = ranker.fit(seen, np.ones(len(names)), names, "never", run.config)
    night.con.close()
    assert found is not None
    return Grown(found, seen[-1], names)


@pytest.fixture(scope="module")
def grown() -> Grown:
    return grow()


def test_what_is_kept_says_what_the_estimators_say(tmp_path: Path) -> None:
    # given
    draw = np.random.default_rng(3)
    rows = draw.random((400, 3))
    rows[::7, 1] = np.nan
    label = rows[:, 0] + draw.random(400) > 1.2
    estimator = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, early_stopping=False, random_state=0)
    estimator.fit(rows, label)
    trees = tuple(tree[0].nodes for tree in estimator._predictors)
    forest = Forest(trees, float(estimator._baseline_prediction[0, 0]))
    beside = nets.fit(rows, label, defaults().ranker.nets, 0)
    assert beside is not None
    chance = Chance(forest, beside, 0.5, -1.0, np.array([[0.0, 1.0], [0.0, 0.5]]))
    kept = Ranker(("a", "b", "c"), {"purchase": chance}, {"purchase": 1.0}, 0.25)
    # when
    kept.save(tmp_path / "ranker.npz")
    again = Ranker.load(tmp_path / "ranker.npz")
    # then
    told = again.learned["purchase"].forest.log_odds(rows)
    np.testing.assert_allclose(1 / (1 + np.exp(-told)), estimator.predict_proba(rows)[:, 1], rtol=1e-12)
    features = {name: rows[:, place].astype(np.float32) for place, name in enumerate(kept.columns)}
    score, likely = again.probabilities(features)
    assert score.tobytes() == kept.probabilities(features)[0].tobytes()
    assert again.blend_share == kept.blend_share
    assert likely["purchase"].max() <= 0.5, "calibrated by the knots"


def test_a_chance_lies_between_what_trees_and_nets_say() -> None:
    # given
    draw = np.random.default_rng(3)
    rows = draw.random((300, 2))
    chance = chances.fit(rows, rows[:, 0] > 0.7, eager().ranker, 0)
    knots = np.array([[0.0, 1.0], [0.0, 1.0]])
    # when
    alone = Chance(chance.forest, None, 0.5, chance.offset, knots).raw(rows)
    beside = replace(chance, nets_share=1.0).raw(rows)
    both = chance.raw(rows)
    # then
    assert (both <= np.maximum(alone, beside)).all()
    assert (both >= np.minimum(alone, beside)).all()
    assert not np.array_equal(both, alone)


def test_the_same_windows_grow_the_same_bytes_with_one_and_two_threads(grown: Grown, tmp_path: Path) -> None:
    # given
    with threadpool_limits(2, user_api="openmp"):
        again = grow()
    # when
    for name, of in (("one", grown), ("two", again)):
        of.ranker.save(tmp_path / f"{name}.npz")
    # then
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_nothing_is_told_of_where_it_was_shown_or_of_what_cannot_have_been(grown: Grown) -> None:
    columns = grown.ranker.columns

    assert "item_item_score" in columns
    assert not [name for name in columns if name.startswith("pair_")], "only new items are allowed"
    assert not [name for name in columns if any(word in name for word in ("position", "shown", "placement"))]


def test_calibrated_chances_are_as_frequent_as_they_say_where_they_were_calibrated(grown: Grown) -> None:
    # given
    weights = np.ones(len(grown.names))
    known = ranker.calibrate(grown.ranker, grown.ranker, grown.seen, weights, grown.names, "never")
    # when
    rows = reliability.judge(known, grown.seen, weights, grown.names, "never")
    # then
    bought = [row for row in rows if row[0] == "purchase"]
    assert [row[1] for row in bought] == list(range(1, reliability.BINS + 1))
    assert sum(row[2] for row in bought) == int(grown.seen.candidates.valid[grown.seen.drawn].sum())
    predicted, observed = np.array([row[4:] for row in bought]).T
    assert (np.diff(predicted) >= 0).all()
    assert observed.max() > 0
    np.testing.assert_allclose(predicted.mean(), observed.mean(), atol=0.01)


def test_a_tenth_of_too_few_people_has_no_value() -> None:
    rows = [("purchase", 1, 50, 3, 0.1, 0.2), ("purchase", 2, 50, 30, 0.2, 0.3)]

    found = reliability.table({"never": rows}, settings(evaluation={"min_people": 20}))

    assert found.filter(pl.col("placement") == "discover")["observed"].to_list() == [None, 0.3]


def test_features_of_a_person_are_the_same_alone_and_among_others(world: World) -> None:
    # given
    history, families = world.trained.history, world.trained.families
    names, weights = list(families.names), world.trained.weights["allowed"]

    def told(rows: list[int]) -> dict[str, np.ndarray]:
        block = history.take(np.array(rows))
        scales = blend.opinions(families, block, 1)
        known = candidates.gather(scales, block, ["allowed"])["allowed"]
        columns = describe(block, known, weights, names, "allowed")
        return {name: column[np.nonzero(known.valid)[0] == 0] for name, column in columns.items()}

    # when
    alone, among = told([7]), told([7, 3, 50])
    # then
    assert alone.keys() == among.keys()
    for name, column in alone.items():
        np.testing.assert_array_equal(column, among[name], err_msg=name)


def test_visits_and_returns_are_counted_from_the_days_of_the_items() -> None:
    # given: somebody who came 30, 20 and 10 days ago, twice for the cup
    history = one_person(columns=[0, 1, 2], days=[2, 1, 1], first_age=[30.5, 20.5, 10.5], last_age=[20.5, 20.5, 10.5])
    known = candidates.Candidates(
        np.array([[0, 1, 2]]), np.ones((1, 3), dtype=bool), np.ones((1, 1, 3), dtype=np.float32)
    )
    # when
    told = describe(history, known, np.ones(1), ["trending"], "allowed")
    # then
    assert told["person_visits"].tolist() == [3, 3, 3]
    assert told["person_last_visit_items"].tolist() == [1, 1, 1]
    np.testing.assert_allclose(told["person_once_share"], 2 / 3, rtol=1e-6)
    assert told["pair_visits_since"].tolist() == [1, 1, 0], "the visit ten days ago"
    np.testing.assert_allclose(told["pair_visit_share"], [2 / 3, 1 / 3, 1 / 3], rtol=1e-6)
    assert told["pair_recency_rank"].tolist() == [1, 2, 0]


def one_person(columns: list[int], days: list[float], first_age: list[float], last_age: list[float]) -> Interactions:
    night = market(people=20)
    history = interactions.load(night.con, night.run.as_of, 90.0)
    night.con.close()
    ones = np.ones(len(columns), dtype=np.float32)
    return replace(
        history,
        people=("p",),
        indptr=np.array([0, len(columns)]),
        columns=np.array(columns, dtype=np.int32),
        weight=ones,
        events=ones,
        purchases=ones,
        facts={"quantity": ones},
        days=np.array(days, dtype=np.float32),
        first_age=np.array(first_age, dtype=np.float32),
        last_age=np.array(last_age, dtype=np.float32),
    )


def test_a_ranker_makes_the_lists_and_says_how_likely_each_entry_is(world: World, grown: Grown) -> None:
    # given
    model = replace(world.trained, rankers={"never": grown.ranker})
    # when
    placements.recommend(world.night.con, world.night.run, model)
    # then
    listed = table(world.night, "recommendations")
    ranked = listed.filter(pl.col("placement") == "discover")
    assert len(ranked)
    assert ranked["p_purchase"].is_not_null().all()
    assert ranked["p_purchase"].is_between(0, 1).all()
    assert listed.filter(pl.col("placement") == "for_you")["p_purchase"].is_null().all(), "the blend makes this list"


def test_a_retraining_measures_the_ranker_and_keeps_it(world: World, tmp_path: Path) -> None:
    # given
    model = world.trained
    reported = model.runs.filter(pl.col("recommender") == "ranker")
    # when
    training.save(model, tmp_path)
    again = training.load(tmp_path, model.history, world.night.run.config)
    # then
    assert reported["why"].is_not_null().all()
    assert again.rankers.keys() == model.rankers.keys()
    assert again.reliability.equals(model.reliability)


def test_windows_halfway_begin_in_the_middle_of_one_and_end_in_the_middle_of_the_next() -> None:
    # given: summer time begins in the night to 27 March
    zone = ZoneInfo("Europe/Berlin")
    days = [datetime(2011, 3, 1, tzinfo=zone), datetime(2011, 3, 15, tzinfo=zone), datetime(2011, 4, 12, tzinfo=zone)]
    # when
    found = training._halfway(list(pairwise(days)))
    # then
    assert found == [(datetime(2011, 3, 8, tzinfo=zone), datetime(2011, 3, 29, tzinfo=zone))]
    assert not training._halfway([(days[0], days[0] + timedelta(days=1)), (days[0] + timedelta(days=1), days[1])])


def test_a_window_halfway_is_left_out_where_a_family_could_not_learn_by_then(world: World) -> None:
    # given
    run, windows = world.night.run, evaluation.split(world.night.con, world.night.run, 3)
    assert windows is not None
    with threadpool_limits(1, user_api="blas"):
        known = training._past(world.night.con, run, *windows.spans[0])
        names = list(blend.fit(known[0], run.config).names)
        # when
        shown = lessons.between(known, names, ["never"], run.config)
        less = lessons.between(known, [*names, "unheard_of"], ["never"], run.config)
    # then
    assert shown["never"].truths["purchase"].any()
    assert not shown["never"].drawn.any(), "it teaches alone: nothing is calibrated on it"
    assert not less


def test_a_night_that_trains_within_itself_says_that_it_has_no_ranker(world: World) -> None:
    cold = training.train(world.night.con, world.night.run)

    assert not cold.rankers
    assert cold.reliability.is_empty()
    assert set(cold.runs.filter(pl.col("recommender") == "ranker")["used"]) == {False}


def test_a_share_of_the_blend_moves_the_order_between_the_two() -> None:
    # given
    trees, mixed = np.array([[0.2, 0.1]], dtype=np.float32), np.array([[0.3, 0.9]], dtype=np.float32)
    # when
    alone, half = beside(trees, mixed, 0.0), beside(trees, mixed, 1.0)
    # then
    assert alone.argmax() == 0
    np.testing.assert_allclose(half, [[(1 + 1 / 3) / 2, (0.5 + 1) / 2]], rtol=1e-6)
    assert half.argmax() == 1
