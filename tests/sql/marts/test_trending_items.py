from tests.sql.spec import Night

ITEMS = """
    item_id | sensitive | recommendable
    cup     | false     | true
    pot     | false     | true
    jar     | false     | false
    pill    | true      | true
"""


def test_four_weeks_count_and_a_week_ago_counts_half(night: Night) -> None:
    night.setting("privacy", min_people=2)
    night.given("features.item_attributes", ITEMS)
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at            | country
        ada     | cup     | purchase   | 2026-02-22 08:00:00+00 | DE
        bob     | cup     | purchase   | 2026-02-22 08:00:00+00 | FR
        cyn     | pot     | purchase   | 2026-02-15 08:00:00+00 | DE
        dan     | pot     | purchase   | 2026-02-15 08:00:00+00 | DE
        -       | pot     | purchase   | 2026-02-15 08:00:00+00 | DE
        ada     | pot     | purchase   | 2026-01-31 08:00:00+00 | DE
        ada     | jar     | purchase   | 2026-02-22 08:00:00+00 | DE
        bob     | jar     | purchase   | 2026-02-22 08:00:00+00 | DE
        ada     | pill    | purchase   | 2026-02-22 08:00:00+00 | DE
        bob     | pill    | purchase   | 2026-02-22 08:00:00+00 | DE
    """,
    )

    night.mart("trending_items")

    # cup: two people a week ago, 2 / 2 = 1; in each country it is one person's secret.
    # pot: three visitors two weeks ago, 3 / 4; 29 days ago is too long.
    # The jar may not be shown, the pill is sensitive.
    night.shows(
        "marts.trending_items",
        """
        segment | position | item_id | score | people
        DE      | 1        | pot     | 0.75  | 2
        all     | 1        | cup     | 1     | 2
        all     | 2        | pot     | 0.75  | 2
    """,
    )


def test_a_country_that_is_not_known_is_no_segment(night: Night) -> None:
    night.setting("privacy", min_people=1)
    night.given("features.item_attributes", ITEMS)
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at            | country
        ada     | cup     | purchase   | 2026-02-22 08:00:00+00 | -
        bob     | cup     | purchase   | 2026-02-22 08:00:00+00 | ZZ
    """,
    )

    night.mart("trending_items")

    night.shows("marts.trending_items", "segment | item_id | people\nall | cup | 2")


def test_what_is_disliked_does_not_trend(night: Night) -> None:
    night.setting("privacy", min_people=1)
    night.given("features.item_attributes", ITEMS)
    night.given(
        "staging.events", "user_id | item_id | event_type | occurred_at\nada | cup | dislike | 2026-02-22 08:00:00+00"
    )

    night.mart("trending_items")

    night.shows("marts.trending_items", "segment | item_id")
