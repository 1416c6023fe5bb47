"""What was shown is known of people who allow analytics, up to the cut, and since they last started anew."""

from tests.sql.spec import Night


def test_what_was_shown_before_the_cut_to_people_who_allow_analytics(night: Night) -> None:
    night.landed(
        impressions="""
        user_id | item_id | placement | position | shown_at
        ann     | cup     | for_you   | 1        | 2026-02-27 23:00:00+00
        ann     | jar     | for_you   | 2        | 2026-03-01 00:00:00+00
        bob     | cup     | for_you   | 1        | 2026-02-27 10:00:00+00
        nil     | pot     | discover  | 3        | 2026-02-27 10:00:00+00
        """,
        consents="""
        user_id | purpose   | granted | recorded_at
        bob     | analytics | false   | 2026-02-01 00:00:00+00
        """,
    )

    night.open()

    night.shows(
        "staging.impressions",
        """
        user_id | item_id | placement | position | shown_on
        ann     | cup     | for_you   | 1        | 2026-02-27
        nil     | pot     | discover  | 3        | 2026-02-27
        """,
    )


def test_who_started_anew_was_shown_nothing_before(night: Night) -> None:
    night.landed(
        impressions="""
        user_id | item_id | placement | position | shown_at
        ann     | cup     | for_you   | 1        | 2026-02-10 00:00:00+00
        ann     | jar     | for_you   | 1        | 2026-02-20 00:00:00+00
        """,
        controls="""
        user_id | reset_from             | changed_at
        ann     | 2026-02-15 00:00:00+00 | 2026-02-16 00:00:00+00
        """,
    )

    night.open()

    night.shows("staging.impressions", "user_id | item_id\nann | jar")
