from dataclasses import replace
from datetime import UTC, datetime

import pytest

from tests.sql.spec import Night

EVENTS = """
    event_id | user_id | occurred_at            | landed_on
    before   | ada     | 2026-02-28 23:59:59+00 | 2026-03-01 00:00:00+00
    anonym   | -       | 2026-02-28 23:59:59+00 | 2026-03-01 00:00:00+00
    at       | ada     | 2026-03-01 00:00:00+00 | 2026-03-01 00:00:00+00
    late     | ada     | 2026-02-01 00:00:00+00 | 2026-03-01 00:00:01+00
"""


@pytest.mark.parametrize("table", ["events", "activity"])
def test_what_had_landed_and_had_occurred_by_the_cut(night: Night, table: str) -> None:
    night.landed(events=EVENTS)

    night.open()

    night.shows(f"staging.{table}", "event_id\nbefore\nanonym")


def test_a_late_event_is_taken_in_by_a_later_run(night: Night) -> None:
    night.run = replace(night.run, as_of=datetime(2026, 3, 2, tzinfo=UTC))
    night.landed(events=EVENTS)

    night.open()

    night.shows("staging.events", "event_id\nlate\nbefore\nat\nanonym")


@pytest.mark.parametrize(("zone", "day"), [("UTC", "2026-02-28"), ("Asia/Tokyo", "2026-03-01")])
def test_the_day_is_that_of_the_configured_zone(night: Night, zone: str, day: str) -> None:
    night.setting("run", timezone=zone)
    night.landed(events="user_id | occurred_at\nada | 2026-02-28 15:00:00+00")

    night.open()

    night.shows("staging.events", f"occurred_on\n{day}")
