"""What lists are like besides being right, worked by hand."""

from dataclasses import replace

import numpy as np
import pytest

from tasks import accuracy, diversity
from tasks.recommenders import Catalogue
from tests.tasks.worlds import settings


def catalogue(people: list[int], shown: list[bool] | None = None) -> Catalogue:
    n = len(people)
    return Catalogue(
        ids=tuple(f"i{i}" for i in range(n)), text=("",) * n, people=np.array(people), demand={}, sold=True,
        newest=np.arange(n), recommendable=np.array(shown or [True] * n), sensitive=np.zeros(n, dtype=bool),
    )  # fmt: skip


def lists(*rows: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Twenty positions; what is missing is no entry."""
    items = np.zeros((len(rows), 20), dtype=np.int64)
    listed = np.zeros((len(rows), 20), dtype=bool)
    for person, row in enumerate(rows):
        items[person, : len(row)], listed[person, : len(row)] = row, True
    return items, listed


def test_little_known_is_measured_in_bits() -> None:
    by = diversity.yardstick(catalogue([15, 3, 0]), people=15, vectors=None)

    found = diversity.variety(*lists([0, 1], [1, 2], []), by)

    # (15 + 1) / 16 says nothing, (3 + 1) / 16 two bits, (0 + 1) / 16 four; whoever has no list has no figure.
    assert by.bits.tolist() == [0, 2, 4]
    assert found.novelty[5][:2].tolist() == [1, 3]
    assert np.isnan(found.novelty[5][2])
    assert np.isnan(found.distance[5]).all(), "no text, no distance"


def test_distance_is_one_minus_the_mean_cosine_over_pairs() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1], [0.6, 0.8], [0, 0]], dtype=np.float32)
    by = diversity.yardstick(catalogue([1] * 5), people=1, vectors=vectors)

    found = diversity.variety(*lists([0, 1], [0, 2], [0, 1, 3], [0, 4], [2], [0, 1, 0, 1, 0, 2]), by)

    # [0, 1, 3]: cosines 1, 0.6, 0.6; without text an item is like no other; of one entry there is no pair.
    assert found.distance[10][:4] == pytest.approx([0, 1, 1 - 2.2 / 3, 1])
    assert np.isnan(found.distance[10][4])
    assert found.distance[5][5] == pytest.approx(0)
    assert found.distance[10][5] == pytest.approx(1 - 10 / 15), "five alike make ten pairs of fifteen"


def test_gini_coverage_and_the_share_of_the_famous() -> None:
    by = diversity.yardstick(catalogue([9, 1, 1, 1, 1, 1, 1, 1, 1, 1, 50], [True] * 10 + [False]), 60, None)
    found = diversity.variety(*lists([0, 1], [0, 2], [0]), by)

    told = diversity.figures(found, 5, shown=10)

    # The item of fifty people may not be shown: item 0 is the most famous tenth. Counts 3, 1, 1 and seven times none.
    assert np.flatnonzero(by.famous).tolist() == [0]
    assert told["popularity_share"] == pytest.approx(3 / 5)
    assert told["coverage"] == pytest.approx(3 / 10)
    assert told["gini"] == pytest.approx(2 * (8 * 1 + 9 * 1 + 10 * 3) / (10 * 5) - 11 / 10)
    assert diversity.gini(np.array([2, 2, 2]), 3) == pytest.approx(0)
    assert diversity.gini(np.array([0, 0, 7]), 3) == pytest.approx(2 / 3)
    assert diversity.gini(np.zeros(3, dtype=np.int64), 3) is None


def test_blocks_make_no_difference() -> None:
    draw = np.random.default_rng(1)
    vectors = draw.normal(size=(30, 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    by = diversity.yardstick(catalogue(draw.integers(0, 40, 30).tolist()), 40, vectors)
    items = np.array([draw.choice(30, 20, replace=False) for _ in range(9)])
    listed = np.arange(20)[None, :] < draw.integers(0, 20, 9)[:, None]

    whole = diversity.variety(items, listed, by)
    parts = diversity.joined(
        [diversity.variety(items[:4], listed[:4], by), diversity.variety(items[4:], listed[4:], by)]
    )

    for k in diversity.CUTOFFS:
        assert diversity.figures(whole, k, 30) == diversity.figures(parts, k, 30)


def test_serendipity_is_a_success_that_popularity_would_not_have_shown() -> None:
    hits = np.array([[1, 1, 0, 0, 0, 1] + [0] * 14, [0] * 20], dtype=bool)
    unusual = np.array([[0, 1, 1, 0, 0, 1] + [0] * 14, [1] * 20], dtype=bool)
    of = accuracy.Figures({"click": hits}, {"click": np.array([3, 0])}, np.array(["hot"] * 2), unusual=unusual)

    assert accuracy.per_person(of, "click", "serendipity", 5).tolist() == [1 / 5]
    assert accuracy.per_person(of, "click", "serendipity", 10).tolist() == [2 / 10]


def test_groups_have_rows_and_small_ones_no_value() -> None:
    hits = np.zeros((6, 20), dtype=bool)
    hits[:4, 0] = True
    config = settings(evaluation={"min_people": 2})
    of = accuracy.Figures(
        {"click": hits}, {"click": np.array([1, 1, 1, 1, 1, 0])}, np.array(["hot"] * 6), unusual=hits,
        slices={"country": np.array(["DE", "DE", "DE", "FR", "", "DE"]), "activity": np.array(["last_7_days"] * 6)},
    )  # fmt: skip

    found = accuracy.table({("als", "allowed"): replace(of)}, 10, config)

    told = found.filter(metric="hit_rate", k=10, placement="for_you")
    rows = {
        (r["temperature"], r["country"], r["activity"]): (r["value"], r["people"]) for r in told.iter_rows(named=True)
    }
    assert rows == {
        ("all", "all", "all"): (0.8, 5), ("hot", "all", "all"): (0.8, 5), ("warm", "all", "all"): (None, 0),
        ("cold", "all", "all"): (None, 0), ("all", "DE", "all"): (1, 3), ("all", "FR", "all"): (None, 1),
        ("all", "all", "last_7_days"): (0.8, 5),
    }  # fmt: skip
    assert set(found.filter(k=5)["country"]) == {"all"}
    assert accuracy.of_everybody(told).height == 1
