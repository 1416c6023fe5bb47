from dataclasses import replace
from datetime import UTC, datetime

from tasks import sql
from tests.sql.spec import Night

EVENTS = """
    user_id|item_id|event_type|occurred_at|device|currency|amount|quantity|value|session_id|publication_id
    ada | cup | view | 2026-02-27 08:00+00 | phone | - | - | - | - | s1 | p1
    ada | pot | view | 2026-02-27 08:01+00 | phone | - | - | - | - | s1 | -
    - | cup | view | 2026-02-27 08:02+00 | phone | - | - | - | - | s2 | -
    bob | cup | view | 2026-02-27 08:03+00 | - | - | - | - | - | - | -
    ada | cup | purchase | 2026-02-27 08:04+00 | phone | EUR | 10 | 2 | - | s1 | p1
    ada | cup | purchase | 2026-02-27 08:05+00 | phone | JPY | 500 | 1 | - | s1 | -
    ada | cup | rate | 2026-02-28 08:00+00 | phone | - | - | - | 4 | s3 | -
    ada | cup | rate | 2026-02-28 08:01+00 | phone | - | - | - | 3.9 | s3 | -
"""


def test_daily_sums_keep_currencies_apart_and_count_anonymous_events(night: Night) -> None:
    night.given("staging.activity", EVENTS)

    night.mart("metrics_daily")

    # a view counts as a click (signals.success); of the ratings 4 and 3.9, one is helpful
    night.shows(
        "marts.metrics_daily",
        """
        occurred_on | event_type | device  | currency | events | anonymous_events | listed_events | clicks | purchases
        2026-02-27  | purchase   | phone   | EUR      | 1      | 0                | 1             | 0      | 1
        2026-02-27  | purchase   | phone   | JPY      | 1      | 0                | 0             | 0      | 1
        2026-02-27  | view       | phone   | none     | 3      | 1                | 1             | 3      | 0
        2026-02-27  | view       | unknown | none     | 1      | 0                | 0             | 1      | 0
        2026-02-28  | rate       | phone   | none     | 2      | 0                | 0             | 0      | 0
    """,
    )
    night.shows(
        "marts.metrics_daily",
        """
        helpful | people | items | sessions | quantity | amount
        0       | 1      | 1     | 1        | 2        | 10
        0       | 1      | 1     | 1        | 1        | 500
        0       | 1      | 2     | 2        | 0        | -
        0       | 1      | 1     | 0        | 0        | -
        1       | 1      | 1     | 1        | 0        | -
    """,
    )


def test_a_day_that_has_not_ended_is_no_fact_yet(night: Night) -> None:
    night.run = replace(night.run, as_of=datetime(2026, 2, 28, 12, tzinfo=UTC))
    night.given("staging.activity", EVENTS)

    night.mart("metrics_daily")

    assert night.con.execute("SELECT DISTINCT occurred_on::VARCHAR FROM marts.metrics_daily").fetchall() == [
        ("2026-02-27",)
    ]


def test_ratios_are_made_of_the_sums(night: Night) -> None:
    night.given("staging.activity", EVENTS)
    night.mart("metrics_daily")
    night.con.execute("USE marts")

    night.con.execute(f"CREATE VIEW main.daily_ratios AS {sql.text('marts/views', 'daily_ratios')}")

    # 27th: no clicks, 4 views, 2 purchases: 0 / 4, 2 / 4, nothing returned; 2 of 6 events came from our lists.
    # 28th: nobody viewed or bought, 1 of 2 events is helpful.
    night.shows(
        "main.daily_ratios",
        """
        occurred_on | click_through | cart_rate | conversion | return_rate | helpful_share | listed_share
        2026-02-27  | 0             | 0         | 0.5        | 0           | 0             | 0.3333333333
        2026-02-28  | -             | -         | -          | -           | 0.5           | 0
    """,
    )
