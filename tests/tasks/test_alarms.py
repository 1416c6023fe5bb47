"""A retraining is asked for when the world moved, and not when few people did something else."""

import pytest

from tasks import alarms
from tests.sql.spec import Night, open_night

OUTCOMES = """
    CREATE SCHEMA IF NOT EXISTS marts;
    CREATE OR REPLACE TABLE marts.recommendation_outcomes AS
    SELECT DATE '2026-02-26' - (i % 20)::INTEGER AS shown_on, {assumed} AS assumed_shown, 1000 AS impressions,
           CASE WHEN i % 20 < 7 THEN {now} ELSE {once} END AS clicks, 0 AS purchases, 0 AS helpful
    FROM range(20) AS days(i)
"""


@pytest.fixture
def night() -> Night:
    """Two shelves, met equally often for four weeks, and in the last week as `events` says."""
    opened = open_night()
    opened.landed(items="item_id | category\ncup | Kitchen > Cups\nhat | Garden > Hats")
    opened.open()
    opened.feature("item_attributes")
    return opened


def meet(night: Night, cups: int, hats: int) -> None:
    night.con.execute(
        """
        INSERT INTO staging.events BY NAME SELECT 'u' || i AS user_id, 'view' AS event_type,
            CASE WHEN kind THEN 'cup' ELSE 'hat' END AS item_id, $cut - to_hours(CAST(hours AS INTEGER)) AS occurred_at
        FROM (SELECT i, true AS kind, 24 AS hours FROM range($cups) AS a(i)
              UNION ALL SELECT i, false, 24 FROM range($hats) AS b(i)
              UNION ALL SELECT i, i % 2 = 0, 24 * 20 FROM range(400) AS c(i))
        """,
        {"cut": night.run.as_of, "cups": cups, "hats": hats},
    )


@pytest.mark.parametrize(("cups", "hats", "rings"), [(50, 50, False), (95, 5, True), (2, 0, False), (0, 0, False)])
def test_another_shelf_is_an_alarm_beyond_chance(night: Night, cups: int, hats: int, rings: bool) -> None:
    meet(night, cups, hats)
    night.con.execute(OUTCOMES.format(assumed=True, now=0, once=0))

    assert ("category_shift" in alarms.ring(night.con, night.run)) is rings


@pytest.mark.parametrize("assumed", [True, False])
@pytest.mark.parametrize(("now", "once", "rings"), [(50, 50, False), (30, 50, True), (45, 50, False), (90, 50, False)])
def test_a_third_of_the_clicks_lost_is_an_alarm(night: Night, now: int, once: int, rings: bool, assumed: bool) -> None:
    night.con.execute(OUTCOMES.format(assumed=assumed, now=now, once=once))

    found = alarms.ring(night.con, night.run)

    assert found == ({"clicks_lost": pytest.approx(1 - now / once)} if rings else {})


def test_a_loss_among_few_is_chance(night: Night) -> None:
    night.con.execute(OUTCOMES.format(assumed=True, now=0, once=1).replace("1000 AS", "10 AS"))

    # None of 70 instead of 13 of 130 is a loss; none of 70 instead of 1 of 130 is nothing.
    assert "clicks_lost" in alarms.ring(night.con, night.run)
    night.con.execute("UPDATE marts.recommendation_outcomes SET clicks = 0 WHERE shown_on > '2026-02-08'")
    assert alarms.ring(night.con, night.run) == {}
