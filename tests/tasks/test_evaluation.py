"""Evaluation: windows that never look ahead, and figures that say how sure they are."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest

from tasks import accuracy, blend, contracts, evaluation, model_runs, training
from tasks.recommenders.interactions import load
from tests.sql.spec import CUT, Night
from tests.tasks.worlds import FIRST_DAY, market, night_of, settings, table

SMALL = {"min_people": 5, "bootstrap": 50}


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[Night, training.Trained]]:
    night = market()
    yield night, training.train(night.con, night.run)
    night.con.close()


def figures(night: Night, name: str = "model_evaluation") -> pl.DataFrame:
    return table(night, name)


def test_windows_are_the_last_days_on_record_and_no_longer_than_the_horizon() -> None:
    night = market()
    first, last = night.con.execute("SELECT min(occurred_on), max(occurred_on) FROM staging.events").fetchall()[0]
    days = (last - first).days + 1

    found = evaluation.split(night.con, night.run)
    night.setting("evaluation", max_horizon_days=3)
    short = evaluation.split(night.con, night.run)

    assert found is not None
    assert short is not None
    assert (found.end - found.test).days == (found.test - found.validation).days == round(days * 0.125)
    assert found.end.date() == last + timedelta(days=1)
    assert found.start.date() == first
    assert [(short.end - short.test).days, (short.test - short.validation).days] == [3, 3]


def test_a_record_too_short_to_split_is_said() -> None:
    night = night_of(
        events="user_id | item_id | event_type | occurred_at\nann | cup | view | 2026-02-27 12:00:00+00",
        items="item_id | title\ncup | cup",
    )

    trained = training.train(night.con, night.run)

    assert evaluation.split(night.con, night.run) is None
    assert trained.evaluation["split"] == {"too_little_data": True}
    assert figures(night).is_empty()
    assert figures(night, "model_runs")["test_ndcg_10"].null_count() == figures(night, "model_runs").height


def test_truth_is_what_happened_in_the_window_with_items_on_offer_by_signal() -> None:
    night = night_of(
        events="""
        user_id | item_id | event_type | value | occurred_at
        ann     | cup     | view       | -     | 2026-02-01 12:00:00+00
        ann     | jar     | purchase   | -     | 2026-02-10 00:00:00+00
        ann     | cup     | purchase   | -     | 2026-02-20 00:00:00+00
        ann     | cup     | click      | -     | 2026-02-12 00:00:00+00
        ann     | gone    | purchase   | -     | 2026-02-12 00:00:00+00
        ann     | cup     | rate       | 4     | 2026-02-12 00:00:00+00
        ann     | jar     | rate       | 3.9   | 2026-02-12 00:00:00+00
        new     | jar     | purchase   | -     | 2026-02-12 00:00:00+00
        """,
        items="item_id | title\ncup | cup\njar | jar",
    )
    known = load(night.con, night.run.as_of, 90.0)
    known = known.take(np.array([known.people.index("ann")]))
    start, end = datetime(2026, 2, 10, tzinfo=UTC), datetime(2026, 2, 20, tzinfo=UTC)

    happened = evaluation.truth(night.con, night.run, known, start, end)

    cup, jar = known.catalogue.ids.index("cup"), known.catalogue.ids.index("jar")
    found = {s: np.flatnonzero(happened.dense(s, np.array([0]))[0]).tolist() for s in evaluation.SIGNALS}
    assert found == {"purchase": [jar], "click": [cup], "helpful": [cup]}


def test_recall_and_hit_rate_are_worked_by_hand() -> None:
    hits = np.array([[1, 0, 0, 0, 0, 1] + [0] * 14, [0] * 20, [0] * 20], dtype=bool)
    of = accuracy.Figures({"purchase": hits}, {"purchase": np.array([4, 1, 0])}, np.array(["hot"] * 3))

    def value(metric: str, k: int) -> list[float]:
        return [float(v) for v in accuracy.per_person(of, "purchase", metric, k)]

    assert value("recall", 5) == [0.25, 0]
    assert value("recall", 10) == [0.5, 0]
    assert value("hit_rate", 5) == [1, 0]
    assert value("ndcg", 5) == [pytest.approx(1 / sum(1 / np.log2(p + 1) for p in range(1, 5))), 0]


def test_lists_are_compared_with_the_best_family_person_by_person() -> None:
    # given: of two families one is better; the blend hits wherever that one does, and once more
    hits = {"repeat": [1, 0, 0, 1], "als": [0, 0, 1, 0], "blend": [1, 1, 0, 1], "popular_all_time": [0, 0, 0, 0]}
    roles = {"repeat": "family", "als": "family", "blend": "blend", "popular_all_time": "baseline"}
    config = settings(evaluation={"min_people": 4, "bootstrap": 100})
    runs = pl.DataFrame(
        [
            {
                "recommender": name,
                "placement": "for_you",
                "role": roles[name],
                "used": name != "als",
                "test_ndcg_10": 0.5,
            }
            for name in hits
        ],
        schema_overrides=model_runs.SCHEMA,
    )
    measured: dict[tuple[str, str], accuracy.Figures] = {
        (name, config.placements["for_you"].repeats): accuracy.Figures(
            {"purchase": np.array(found, dtype=bool)[:, None] & (np.arange(20) == 0)},
            {"purchase": np.ones(4, dtype=np.int64)},
            np.array(["hot"] * 4),
        )
        for name, found in hits.items()
    }
    # when
    told = model_runs.compared(runs, measured, "purchase", config)["for_you"]
    # then
    assert (told["lists_by"], told["people"]) == ("blend", 4)
    assert told["against_best_family"]["name"] == "repeat"
    mean, low, high = told["against_best_family"]["ndcg@10"]
    assert mean == 0.25
    assert 0 == low < mean < high
    assert told["against_best_baseline"]["ndcg@10"][0] == 0.75


def test_the_interval_repeats_and_narrows_with_people() -> None:
    few, many = np.array([0.0, 1.0] * 10), np.array([0.0, 1.0] * 1000)

    low, high = accuracy.interval(few, 200, seed=1)

    assert (low, high) == accuracy.interval(few, 200, seed=1)
    assert (low, high) != accuracy.interval(few, 200, seed=2)
    assert low < 0.5 < high
    narrow = accuracy.interval(many, 200, seed=1)
    assert narrow[1] - narrow[0] < (high - low) / 5


def test_of_very_many_people_the_same_few_are_measured() -> None:
    night = market()
    history = load(night.con, night.run.as_of, 90.0)
    happened = evaluation.truth(night.con, night.run, history, FIRST_DAY, CUT)

    some = evaluation.measured_people(history, happened, 10, seed=1)

    assert len(some) == 10
    assert sorted(some) == some.tolist()
    mixed = history.take(np.arange(len(history))[::-1])
    again = evaluation.measured_people(mixed, evaluation.truth(night.con, night.run, mixed, FIRST_DAY, CUT), 10, seed=1)
    assert {history.people[row] for row in some} == {mixed.people[row] for row in again}


def test_every_recommender_is_measured_and_the_blend_beats_popularity(
    trained: tuple[Night, training.Trained],
) -> None:
    night, _ = trained

    runs = {(r["recommender"], r["placement"]): r for r in figures(night, "model_runs").iter_rows(named=True)}

    names = {name for name, _ in runs}
    assert names == {*(f.name for f in blend.FAMILIES), "blend", "ranker", *evaluation.BASELINES}
    mixed, popular = runs["blend", "for_you"], runs["popular_14_days", "for_you"]
    assert mixed["test_ndcg_10"] > popular["test_ndcg_10"]
    assert mixed["test_ndcg_10_low"] <= mixed["test_ndcg_10"] <= mixed["test_ndcg_10_high"]
    assert runs["repeat", "discover"]["used"] is False
    assert runs["repeat", "discover"]["why"] == "has nothing to say under this placement's rules"
    measured = figures(night)
    assert set(measured["temperature"]) == set(accuracy.TEMPERATURES)
    assert set(measured["signal"]) == {"any", *evaluation.SIGNALS}
    assert measured.filter(pl.col("people") < 5, pl.col("signal") != "any")["value"].null_count() > 0
    assert measured.filter(pl.col("people") < 5, pl.col("signal") != "any")["value"].drop_nulls().is_empty()


@pytest.mark.parametrize("name", ["model_runs", "model_evaluation"])
def test_the_tables_are_what_their_contracts_say(trained: tuple[Night, training.Trained], name: str) -> None:
    night, _ = trained

    found = [(c[0], c[1]) for c in night.con.execute(f"DESCRIBE marts.{name}").fetchall()]

    assert found == [(c.name, c.type) for c in contracts.load("marts", name).columns]


def learned(night: Night) -> tuple[Any, ...]:
    """All that training says, comparable."""
    trained = training.train(night.con, night.run)
    weights = {policy: of.tolist() for policy, of in trained.weights.items()}
    scores = {name: m.score(trained.history).tobytes() for name, m in trained.families.models.items()}
    return figures(night).rows(), figures(night, "model_runs").rows(), weights, scores, trained.model_version


def test_training_does_not_depend_on_the_order_of_rows_or_the_number_of_threads() -> None:
    config = settings(evaluation=SMALL)
    two = settings(evaluation=SMALL, run={"threads": 2})

    one = learned(market(config=config))

    assert one == learned(market(config=config, shuffled=4))
    assert one == learned(market(config=two, shuffled=5))


def test_what_happens_later_changes_nothing_that_an_earlier_window_says() -> None:
    # given the same 100 days with and without 30 days of wild purchases after the test window
    night, longer = market(), market()
    later = pl.DataFrame(
        {
            "event_id": [f"x{n}" for n in range(300)],
            "user_id": [f"u{n % 60:03}" for n in range(300)],
            "item_id": [f"i{n % 3:03}" for n in range(300)],
            "event_type": ["purchase"] * 300,
            "occurred_at": [CUT + timedelta(days=1 + n % 30) for n in range(300)],
        }
    )
    longer.con.register("later", later.to_arrow())
    longer.con.execute(
        "INSERT INTO staging.events BY NAME SELECT *, CAST(occurred_at AS DATE) AS occurred_on FROM later"
    )
    start = datetime(2026, 2, 1, tzinfo=UTC)

    # when both learn up to a day in the past
    known, happened = training._past(night.con, night.run, start, CUT)
    same, again = training._past(longer.con, longer.run, start, CUT)
    one, other = blend.fit(known, night.run.config), blend.fit(same, night.run.config)

    # then nothing differs
    assert known.people == same.people
    assert one.models
    for name, model in one.models.items():
        assert model.score(known).tobytes() == other.models[name].score(same).tobytes(), name
    for signal in evaluation.SIGNALS:
        assert (happened.by_signal[signal] != again.by_signal[signal]).nnz == 0
    cells = float(known.events.sum())
    before = night.con.execute(
        "SELECT count(*) FROM staging.events WHERE occurred_at < $start", {"start": start}
    ).fetchone()
    assert before is not None
    assert cells == before[0], "the window holds every event before its start, and no other"
