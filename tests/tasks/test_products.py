"""What the product of two vectors promises, however a processor multiplies tables."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.recommenders import Floats, Ints, products, top_k
from tasks.recommenders.opinions import Cells
from tasks.recommenders.products import Products, Vectors


def drawn(seed: int, people: int, items: int, dimensions: int, spread: float = 0) -> Products:
    """Vectors of which some are equal, and some say nothing; by `spread` some are longer than others."""
    draw = np.random.default_rng(seed)
    ours = draw.standard_normal((people, dimensions)).astype(np.float32)
    theirs = draw.standard_normal((items, dimensions)).astype(np.float32)
    theirs *= draw.lognormal(0, spread, (items, 1)).astype(np.float32)
    theirs[draw.integers(0, items, items // 2)] = theirs[0]
    theirs[draw.integers(0, items, items // 5)] = 0
    return Products(ours, Vectors(theirs))


def by_sorting(said: Products, k: int, may: np.ndarray, aside: Cells) -> list[tuple[int, int, float]]:
    """Every pair, one at a time; the best of each person, equal ones by position."""
    found = []
    for person in range(len(said.people)):
        items = np.arange(len(said.vectors.rows))
        scores = said.at(np.full(len(items), person), items)
        scores[~may] = 0
        scores[aside[1][aside[0] == person]] = 0
        order = np.argsort(-scores, kind="stable")[:k]
        found += [(person, int(item), float(scores[item])) for item in order if scores[item] > 0]
    return found


@given(
    seed=st.integers(0, 2**32), people=st.integers(0, 9), items=st.integers(1, 300), dimensions=st.integers(1, 70),
    k=st.integers(1, 60), at_once=st.sampled_from([1, 500, 10**6]), spread=st.sampled_from([0, 0.5, 3]),
)  # fmt: skip
def test_the_best_products_are_those_of_a_stable_sort_of_all_pairs(
    seed: int, people: int, items: int, dimensions: int, k: int, at_once: int, spread: float
) -> None:
    said = drawn(seed, people, items, dimensions, spread)
    draw = np.random.default_rng(seed)
    may = draw.random(items) < 0.8
    rows, columns = np.nonzero(draw.random((people, items)) < 0.1)
    aside = rows.astype(np.int64), columns.astype(np.int64)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "CELLS_AT_ONCE", at_once)
        found = said.best(k, may, aside)

    assert list(zip(*found, strict=True)) == by_sorting(said, k, may, aside)


@pytest.mark.parametrize(("dimensions", "items"), [(64, 5000), (128, 333), (3, 1), (1, 40)])
def test_a_person_gets_the_same_bytes_in_any_block(dimensions: int, items: int) -> None:
    # given
    all_may, nothing = np.ones(items, dtype=bool), (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    whole = drawn(dimensions, 75, items, dimensions)
    rows, columns, scores = whole.best(20, all_may, nothing)
    for start, end in ((0, 1), (3, 20), (7, 75), (74, 75)):
        # when
        found = Products(whole.people[start:end], whole.vectors).best(20, all_may, nothing)
        # then
        here = (rows >= start) & (rows < end)
        assert (found[0] + start).tolist() == rows[here].tolist()
        assert found[1].tolist() == columns[here].tolist()
        assert found[2].tobytes() == scores[here].tobytes()


def test_a_search_ends_where_no_item_is_long_enough() -> None:
    # given: nearly all that anybody likes is long
    said = drawn(7, 40, 4000, 16, spread=2)
    looked = []
    nothing = np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    every = np.ones(4000, dtype=bool)

    def counted(scores: Floats, *given: Any) -> tuple[Ints, Ints, Floats]:
        looked.append(scores.size)
        return top_k.reaching(scores, *given)

    # when
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(products, "reaching", counted)
        found = said.best(20, every, nothing)

    # then
    assert sum(looked) < 40 * 4000 * 0.4
    assert list(zip(*found, strict=True)) == by_sorting(said, 20, every, nothing)


def test_items_with_equal_vectors_are_level_wherever_they_stand() -> None:
    draw = np.random.default_rng(1)
    vectors = np.tile(draw.standard_normal((1, 64)).astype(np.float32), (4999, 1))
    people = draw.standard_normal((30, 64)).astype(np.float32)

    scores = Products(people, Vectors(vectors)).at(np.repeat(np.arange(30), 4999), np.tile(np.arange(4999), 30))

    assert (scores.reshape(30, 4999) == scores[::4999, None]).all()


def test_what_rounding_alone_could_have_made_is_not_said() -> None:
    # given: two tastes at right angles, but for the last bits
    person = np.array([[1, 1, 1e-9]], dtype=np.float32)
    items = np.array([[1, -1, 1], [1, 1, 0]], dtype=np.float32)

    said = Products(person, Vectors(items))

    assert said.table().tolist() == [[0, 2]]
    assert said.at(np.zeros(2, dtype=np.int64), np.arange(2)).tolist() == [0, 2]
