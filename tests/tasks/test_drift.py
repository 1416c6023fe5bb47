"""What watches the history: volume, freshness, references and the mix of things, by hand and by law."""

import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import drift, quality
from tasks.settings import Run
from tests.tasks.checked import event, failed

CUT = datetime(2011, 11, 11, tzinfo=UTC)


@pytest.mark.parametrize(
    ("landings", "ratio", "passed"),
    [
        ({}, None, True),
        ({0: 5}, None, True),
        ({0: 6, 7: 2, 14: 2}, 3.0, True),
        ({0: 7, 7: 2, 14: 2}, 3.5, False),
        ({0: 1, 7: 3}, 1 / 3, True),
        ({0: 1, 7: 4}, 1 / 4, False),
        # Other weekdays, a fifth week and a closed day say nothing about an ordinary day.
        ({0: 2, 1: 99, 6: 99, 7: 1, 28: 3, 35: 99}, 1.0, True),
    ],
)
def test_volume_compares_the_newest_day_with_its_weekday(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, landings: dict[int, int], ratio: float, passed: bool
) -> None:
    for ago, rows in landings.items():
        landed("events", event(f"e{ago}-", "'u'", f"{CUT - timedelta(days=ago + 1):%Y-%m-%d}", copies=rows))

    figure = drift.volume(con, CUT, "UTC", 3.0)

    assert (figure.value, figure.passed) == (ratio, passed)


@pytest.mark.parametrize(("day", "days", "passed"), [("2011-11-08", 2.5, True), ("2011-11-06", 4.5, False)])
def test_freshness_is_the_age_of_the_newest_event_before_the_cut(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, day: str, days: float, passed: bool
) -> None:
    # given an event of that day, an older one, and one of the future, which does not count
    for moment in (day, "2011-10-01", "2011-11-12"):
        landed("events", event(moment, "'u'", moment))

    figure = drift.staleness(con, CUT, 3)

    assert (figure.value, figure.rows, figure.passed) == (days, 2, passed)


@pytest.mark.parametrize(("strangers", "passed"), [(1, True), (2, False)])
def test_references_are_the_share_of_events_whose_item_is_known(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, strangers: int, passed: bool
) -> None:
    # given nine or so events about a known item, some about an unknown one, one about none
    landed("items", "SELECT 'i' AS item_id FROM range(2)")
    landed("events", event("e", "'u'", "2011-11-10", copies=9))
    landed("events", event("x", "'u'", "2011-11-10", item="gone", copies=strangers))
    landed("events", "SELECT 'n' AS event_id, TIMESTAMPTZ '2011-11-10' AS occurred_at")

    figure = drift.known_references(con, CUT, 0.9)

    assert (figure.value, figure.rows, figure.passed) == (9 / (9 + strangers), 9 + strangers, passed)


def test_stability_index_by_hand() -> None:
    # given shares 1/2, 1/2 against 3/4, 1/4: -1/4 ln(2/3) + 1/4 ln 2 = 1/4 ln 3
    assert drift.stability_index({"a": 50, "b": 50}, {"a": 75, "b": 25}) == pytest.approx(math.log(3) / 4)
    # given one world, there is none; given a value that is new, it counts as 1 in 10,000 before
    assert drift.stability_index({"a": 5, None: 5}, {"a": 50, None: 50}) == 0
    new = -0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    assert drift.stability_index({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(new)


MIX = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 10**6), min_size=1)


@given(one=MIX, other=MIX)
def test_stability_index_is_a_distance(one: dict[object, int], other: dict[object, int]) -> None:
    index = drift.stability_index(one, other)

    assert 0 <= index < 100
    assert index == pytest.approx(drift.stability_index(other, one))
    assert drift.stability_index(one, {kind: 3 * n for kind, n in one.items()}) == 0


@pytest.mark.parametrize(("copies", "passed"), [(200, False), (2, True)])
def test_a_changed_mix_is_drift_unless_there_are_too_few_events_to_tell(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, copies: int, passed: bool
) -> None:
    # given half phones last week, a quarter in the four weeks before, and another world before those
    for day, device, n in [("2011-11-09", "phone", 2), ("2011-11-09", "web", 2), ("2011-10-20", "phone", 1),
                           ("2011-10-20", "web", 3), ("2011-09-01", "fax", 99)]:  # fmt: skip
        landed("events", event(f"{day}{device}", "'u'", day, device=device, copies=n * copies))

    figure = drift.shift(con, CUT, "device", 0.25)

    assert figure.value == pytest.approx(math.log(3) / 4)
    assert (figure.rows, figure.passed) == (8 * copies, passed)


def test_what_watches_the_history_only_warns(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, run: Run
) -> None:
    # given a history in which volume, freshness, references and the mix of devices are all off
    landed("events", event("old", "'u'", "2011-10-26", device="fax", copies=400))
    landed("events", event("new", "'u'", "2011-11-05", item="gone", copies=50))
    landed("events", event("week", "'u'", "2011-10-29", copies=2))

    report = quality.check(con, run, "landing")

    assert failed(report) == dict.fromkeys(
        ["device_is_stable", "events_are_fresh", "items_are_known", "volume_is_ordinary"], "warning"
    )
    report.raise_for_errors("landing")
