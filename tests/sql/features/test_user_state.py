import pytest

from tests.sql.spec import Night


def test_the_last_visit_is_the_state(night: Night) -> None:
    night.given(
        "staging.events",
        """
        user_id | occurred_at            | session_id | device | country | region
        ada     | 2026-02-28 05:59:59+00 | s2         | phone  | DE      | Bavaria
        ada     | 2026-02-27 12:00:00+00 | s1         | tablet | FR      | -
        bob     | 2026-02-28 21:30:00+00 | -          | -      | -       | -
        -       | 2026-02-28 21:30:00+00 | s9         | phone  | DE      | -
    """,
    )
    night.feature("user_activity")

    night.feature("user_state")

    # to midnight from 05:59:59 are 18 whole hours, from 21:30 two
    night.shows(
        "features.user_state",
        """
        user_id | last_session_id | last_at                | device | daypart | country | region  | recency_hours
        ada     | s2              | 2026-02-28 05:59:59+00 | phone  | night   | DE      | Bavaria | 18
        bob     | -               | 2026-02-28 21:30:00+00 | -      | evening | -       | -       | 2
    """,
    )


def test_events_of_one_instant_are_told_apart_by_their_id(night: Night) -> None:
    night.given(
        "staging.events",
        """
        user_id | event_id | occurred_at            | device
        ada     | e2       | 2026-02-28 12:00:00+00 | phone
        ada     | e10      | 2026-02-28 12:00:00+00 | tablet
    """,
    )
    night.feature("user_activity")

    night.feature("user_state")

    night.shows("features.user_state", "user_id | device\nada | phone")


def test_half_of_the_measured_visit_makes_the_mood(night: Night) -> None:
    night.given(
        "staging.events",
        """
        user_id | occurred_at            | session_id | scroll_speed | dwell_seconds
        ada     | 2026-02-28 08:00:00+00 | s1         | 3001         | 60
        ada     | 2026-02-28 08:01:00+00 | s1         | 10           | 60
        ada     | 2026-02-28 08:02:00+00 | s1         | -            | 4.999
        ada     | 2026-02-27 08:00:00+00 | s0         | 10           | 1
        bob     | 2026-02-28 08:00:00+00 | -          | 3000         | 5
        bob     | 2026-02-28 08:01:00+00 | -          | -            | 1
        bob     | 2026-02-27 08:00:00+00 | -          | 9000         | 90
        cyn     | 2026-02-28 08:00:00+00 | s3         | -            | -
    """,
    )
    night.feature("user_activity")

    night.feature("user_state")

    # ada: 1 of 2 scrolls are fast, 1 of 3 looks is short. bob's visit is the day: 0 of 1 beyond the limit, 1 of 2
    # below it. cyn was not measured.
    night.shows(
        "features.user_state",
        """
        user_id | rapid_scrolling | quick_leaving
        ada     | true            | false
        bob     | false           | true
        cyn     | -               | -
    """,
    )


@pytest.mark.parametrize(
    ("zone", "daypart"), [("UTC", "evening"), ("Asia/Tokyo", "morning"), ("America/New_York", "afternoon")]
)
def test_the_daypart_is_that_of_the_configured_zone(night: Night, zone: str, daypart: str) -> None:
    night.setting("run", timezone=zone)
    night.given("staging.events", "user_id | occurred_at\nada | 2026-02-27 22:00:00+00")
    night.feature("user_activity")

    night.feature("user_state")

    # 22:00 in Greenwich is 07:00 in Tokyo and 17:00 in New York
    night.shows("features.user_state", f"user_id | daypart\nada | {daypart}")
