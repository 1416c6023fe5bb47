"""Candidates are what a stable sort of every row would bring, whatever the policy."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tasks import blend, candidates
from tasks.recommenders import Floats, Interactions, Ints
from tasks.recommenders.top_k import SMALLEST
from tasks.settings import Repeats
from tests.tasks.worlds import strangers, voices

POLICIES: tuple[Repeats, ...] = ("allowed", "never", "only")
LEVELS = st.sampled_from([0, 0.25, 0.5, 1])


@pytest.mark.parametrize("decimals", [0, 1, 6], ids=lambda d: f"{d} decimals")
@pytest.mark.parametrize("share", [0, 0.003, 0.02, 1], ids=lambda share: f"{share} of them above 0")
@pytest.mark.parametrize(("people", "items", "k"), [(9, 4001, 20), (3, 777, 5), (0, 4000, 20), (2, 900, 0)])
def test_the_best_of_long_rows_are_those_of_a_stable_sort(
    people: int, items: int, k: int, share: float, decimals: int
) -> None:
    draw = np.random.default_rng(items)
    scores = draw.random((people, items)).round(decimals).astype(np.float32) * (draw.random((people, items)) < share)

    assert _above_0(*candidates.best(scores, k)) == _above_0(*_sorted(scores, k))


@given(arrays(np.float32, st.tuples(st.integers(1, 5), st.integers(1, 12)), elements=LEVELS), st.integers(1, 14))
def test_the_best_are_those_of_a_stable_sort(scores: np.ndarray, k: int) -> None:
    assert _above_0(*candidates.best(scores, k)) == _above_0(*_sorted(scores, k))


@given(
    arrays(np.float32, st.tuples(st.integers(1, 3), st.just(4), st.just(9)), elements=LEVELS),
    arrays(np.bool_, (4, 9)),
    st.integers(1, 10),
)
def test_each_policy_takes_the_best_of_what_it_lets_in(scales: Floats, met: np.ndarray, most: int) -> None:
    # given: what people met was bought in every other cell
    block = _who_met(met)
    scales /= np.maximum(scales.max(axis=2, keepdims=True), SMALLEST)
    given = scales.copy()
    # when
    found = candidates.gather(voices(scales), block, POLICIES, most)
    # then
    assert scales.tobytes() == given.tobytes(), "the opinions are given back as they came"
    for policy in POLICIES:
        expected = _best_by_sorting(scales, blend.allowed(block, policy), most)
        assert [
            row[valid].tolist() for row, valid in zip(found[policy].items, found[policy].valid, strict=True)
        ] == expected
        known = found[policy]
        np.testing.assert_array_equal(
            known.scores, np.take_along_axis(scales, known.items[None], axis=2) * known.valid[None]
        )


def test_candidates_carry_scores_and_ranks_of_every_family() -> None:
    scales = np.array([[[1.0, 0.1, 0.5]], [[0.0, 1.0, 0.2]]], dtype=np.float32)

    found = candidates.gather(voices(scales), strangers(1, 3), ["allowed"], per_family=1)["allowed"]

    assert found.items.tolist() == [[0, 1]]
    assert found.scores[:, 0].tolist() == [pytest.approx([1.0, 0.1]), pytest.approx([0.0, 1.0])]
    assert found.ranks().tolist() == [[[1, 2]], [[2, 1]]]


def test_of_nobody_there_are_no_candidates() -> None:
    found = candidates.gather(voices(np.zeros((2, 0, 5), dtype=np.float32)), strangers(0, 5), POLICIES)

    assert {policy: known.scores.shape for policy, known in found.items()} == dict.fromkeys(POLICIES, (2, 0, 0))


def _who_met(met: np.ndarray) -> Interactions:
    people, items = np.nonzero(met)
    once = np.ones(len(items), dtype=np.float32)
    return replace(
        strangers(*met.shape),
        indptr=np.concatenate(([0], np.cumsum(met.sum(axis=1)))),
        columns=items.astype(np.int32),
        purchases=((people + items) % 2).astype(np.float32),
        weight=once, events=once, days=once, first_age=once, last_age=once,
    )  # fmt: skip


def _sorted(scores: Floats, k: int) -> tuple[Ints, Floats]:
    positions = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return positions, np.take_along_axis(scores, positions, axis=1)


def _above_0(positions: Ints, values: Floats) -> list[list[tuple[int, float]]]:
    rows = zip(positions.tolist(), values.tolist(), strict=True)
    return [[(item, value) for item, value in zip(*row, strict=True) if value > 0] for row in rows]


def _best_by_sorting(scales: Floats, permitted: np.ndarray, most: int) -> list[list[int]]:
    chosen = np.zeros(permitted.shape, dtype=bool)
    for scale in scales * permitted:
        places = _sorted(scale, most)[0]
        among = np.zeros(permitted.shape, dtype=bool)
        np.put_along_axis(among, places, True, axis=1)
        chosen |= among & (scale > 0)
    return [np.flatnonzero(row).tolist() for row in chosen]
