from tests.sql.spec import Night


def test_windows_people_and_trend(night: Night) -> None:
    night.given("staging.items", "item_id\ncup\npot")
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at            | session_id
        ada     | cup     | purchase   | 2026-02-28 08:00:00+00 | -
        ada     | cup     | purchase   | 2026-02-16 08:00:00+00 | -
        bob     | cup     | purchase   | 2026-02-10 08:00:00+00 | -
        cyn     | cup     | purchase   | 2026-01-01 08:00:00+00 | -
        -       | cup     | purchase   | 2025-06-01 08:00:00+00 | s1
        -       | pot     | view       | 2026-01-15 08:00:00+00 | s2
    """,
    )
    night.setting("signals", half_life_days=100000.0)

    night.feature("item_popularity")

    # cup, by age in days: 1 and 13 (ada), 19 (bob), 59 (cyn), 273 (nobody known);
    # trend: one in 7 days over three in 28 days = (1 / 7) / (3 / 28) = 4 / 3
    night.shows(
        "features.item_popularity",
        """
        people | people_28d | events | purchases_all | purchases_90d | purchases_28d | purchases_14d | purchases_7d
        3      | 2          | 5      | 5             | 4             | 3             | 2             | 1
        0      | 0          | 1      | 0             | 0             | 0             | 0             | 0
    """,
    )
    night.shows(
        "features.item_popularity",
        """
        item_id | score_90d | score_28d | score_14d | score_7d | trend
        cup     | 4         | 3         | 2         | 1        | 1.3333333333333333
        pot     | 0.1       | 0         | 0         | 0        | 0
    """,
    )


def test_one_visitor_weighs_at_most_the_cap_a_day(night: Night) -> None:
    night.given("staging.items", "item_id\ncup")
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at            | session_id
        ada     | cup     | purchase   | 2026-03-01 00:00:00+00 | s1
        ada     | cup     | purchase   | 2026-03-01 00:00:00+00 | s2
        ada     | cup     | purchase   | 2026-03-01 00:00:00+00 | s3
        -       | cup     | purchase   | 2026-03-01 00:00:00+00 | s4
        -       | cup     | purchase   | 2026-03-01 00:00:00+00 | s4
        -       | cup     | purchase   | 2026-03-01 00:00:00+00 | s4
        -       | cup     | purchase   | 2026-03-01 00:00:00+00 | -
        -       | cup     | purchase   | 2026-03-01 00:00:00+00 | -
    """,
    )

    night.feature("item_popularity")

    # ada 3 → 2; visit s4 3 → 2; two visits that are not told 1 + 1
    night.shows(
        "features.item_popularity",
        """
        item_id | people | events | score_all
        cup     | 1      | 8      | 6
    """,
    )
