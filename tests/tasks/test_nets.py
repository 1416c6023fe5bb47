"""Nets: what they read does not depend on units, what they say does not depend on who else is asked about."""

import numpy as np
import pytest

from tasks import nets
from tasks.nets import Nets, Reading
from tests.sql.spec import defaults

EAGER = defaults().ranker.nets.model_copy(update={"passes": 40, "batch": 32})
DRAW = np.random.default_rng(11)
ROWS = DRAW.lognormal(size=(600, 3))
ROWS[::5, 1] = np.nan
ROWS[::5, 2] = np.nan
LABEL = (np.log(ROWS[:, 0]) > 0.5) | (np.isnan(ROWS[:, 1]) & (ROWS[:, 0] < 0.7))


@pytest.fixture(scope="module")
def known() -> Nets:
    found = nets.fit(ROWS, LABEL, EAGER, 5)
    assert found is not None
    return found


def test_a_net_tells_what_happened_from_what_did_not_also_where_nothing_is_known(known: Nets) -> None:
    odds = known.log_odds(ROWS)

    assert ((odds > 0) == LABEL).mean() > 0.9


def test_units_change_nothing_that_is_read() -> None:
    # given
    units = np.array([1024.0, 1 / 256, 8.0])
    # when
    usual, other = Reading.of(ROWS)(ROWS), Reading.of(ROWS * units)(ROWS * units)
    # then
    np.testing.assert_allclose(usual, other, atol=1e-6)
    assert np.abs(usual).max() <= nets.FAR
    assert usual.shape == (600, 4), "columns that are absent together are told of once"


def test_what_nobody_heard_of_is_read_as_the_furthest_known() -> None:
    read = Reading.of(ROWS)

    assert np.isfinite(read(np.array([[1e30, -1e30, np.nan]]))).all()


def test_a_column_that_never_varies_or_is_all_zero_says_nothing() -> None:
    table = np.column_stack([ROWS[:, 0], np.zeros(600), np.full(600, 7.0)])

    assert (np.abs(Reading.of(table)(table)[:, 1:]) < 1e-6).all()


def test_a_row_says_the_same_alone_and_among_others(known: Nets) -> None:
    together = known.log_odds(ROWS)

    for size in (1, 7, 64):
        parts = [known.log_odds(ROWS[start : start + size]) for start in range(0, len(ROWS), size)]
        assert np.concatenate(parts).tobytes() == together.tobytes()


def test_kept_nets_say_the_same_and_the_same_rows_teach_the_same_bytes(known: Nets) -> None:
    again = Nets.of(known.arrays())
    other = nets.fit(ROWS, LABEL, EAGER, 5)

    assert again.log_odds(ROWS).tobytes() == known.log_odds(ROWS).tobytes()
    assert other is not None
    for name, values in known.arrays().items():
        assert other.arrays()[name].tobytes() == values.tobytes(), name


def test_none_is_wanted() -> None:
    assert nets.fit(ROWS, LABEL, EAGER.model_copy(update={"count": 0}), 5) is None
