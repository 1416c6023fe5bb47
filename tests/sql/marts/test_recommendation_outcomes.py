"""What became of what was shown. The cut is 2026-03-01; three days have to be over."""

from tests.sql.spec import Night

NOTHING_KEPT = """
    CREATE SCHEMA retained;
    CREATE TABLE retained.publications (publication_id VARCHAR, served_from TIMESTAMPTZ, served_until TIMESTAMPTZ);
    CREATE TABLE retained.lists (publication_id VARCHAR, user_id VARCHAR, placement VARCHAR, context VARCHAR,
                                 position INTEGER, item_id VARCHAR, recommender VARCHAR, model_version VARCHAR);
"""
NOBODY_CAME = "user_id | item_id | event_type | occurred_at"


def test_what_follows_within_the_window_counts_for_the_newest_entry_before_it(night: Night) -> None:
    night.setting("privacy", min_people=1)
    night.con.execute(NOTHING_KEPT)
    night.con.execute("INSERT INTO retained.lists VALUES ('p1', 'ada', 'for_you', 'any', 9, 'cup', 'als', 'm1')")
    night.given(
        "staging.impressions",
        """
        publication_id | user_id | item_id | position | shown_at
        p1             | ada     | cup     | 1        | 2026-02-20 08:00:00+00
        p1             | ada     | cup     | 1        | 2026-02-20 09:00:00+00
        p1             | ada     | pot     | 2        | 2026-02-20 09:00:00+00
        p0             | bob     | cup     | 1        | 2026-02-20 09:00:00+00
        p0             | bob     | jar     | 2        | 2026-02-27 09:00:00+00
    """,
    )
    night.given(
        "staging.activity",
        """
        user_id | item_id | event_type | occurred_at            | value
        ada     | cup     | click      | 2026-02-20 09:30:00+00 | -
        ada     | cup     | click      | 2026-02-20 09:31:00+00 | -
        ada     | cup     | purchase   | 2026-02-23 09:00:00+00 | -
        ada     | pot     | rate       | 2026-02-21 09:00:00+00 | 4.5
        bob     | cup     | purchase   | 2026-02-20 08:00:00+00 | -
        bob     | pot     | click      | 2026-02-20 10:00:00+00 | -
        bob     | jar     | click      | 2026-02-27 10:00:00+00 | -
    """,
    )

    night.mart("recommendation_outcomes")

    # Both clicks on the cup follow its second entry, which counts once; after exactly three days it is too late.
    # The pot stands in no list that is kept, and bob's publication is gone: who brought them is unknown.
    # Bob bought before he was shown the cup; the jar's three days are not over.
    night.shows(
        "marts.recommendation_outcomes",
        """
        shown_on   | recommender | model_version | impressions | clicks | purchases | helpful | people | click_share
        2026-02-20 | als         | m1            | 2           | 1      | 0         | 0       | 1      | 0.5
        2026-02-20 | unknown     | unknown       | 2           | 0      | 0         | 1       | 2      | 0
    """,
    )


def test_a_list_nobody_reported_is_assumed_to_have_been_shown_to_those_who_came(night: Night) -> None:
    night.setting("privacy", min_people=1)
    night.setting("outcomes", positions=2)
    night.con.execute(NOTHING_KEPT)
    night.con.execute("""
        INSERT INTO retained.publications VALUES
            ('p1', '2026-02-20 00:00:00+00', '2026-02-21 00:00:00+00'),
            ('p2', '2026-02-21 00:00:00+00', '2026-02-22 00:00:00+00');
        INSERT INTO retained.lists
        SELECT p, u, 'for_you', 'any', position, item, 'als', 'm1'
        FROM (VALUES ('p1'), ('p2')) AS a(p), (VALUES ('ada'), ('bob')) AS b(u),
             (VALUES (1, 'cup'), (2, 'pot'), (3, 'jar')) AS c(position, item)
    """)
    night.given("staging.impressions", "user_id | item_id | shown_at\neve | cup | 2026-02-21 12:00:00+00")
    night.given(
        "staging.activity",
        """
        user_id | item_id | event_type | occurred_at
        ada     | cup     | purchase   | 2026-02-20 08:00:00+00
        ada     | jar     | purchase   | 2026-02-20 08:30:00+00
        bob     | cup     | purchase   | 2026-02-21 08:00:00+00
    """,
    )

    night.mart("recommendation_outcomes")

    # p1 was served on the 20th, when only ada came, and nobody looks below position 2.
    # On the 21st an impression was reported: p2 needs no assumption.
    night.shows(
        "marts.recommendation_outcomes",
        """
        shown_on   | recommender | assumed_shown | impressions | purchases | people
        2026-02-20 | als         | true          | 2           | 1         | 1
        2026-02-21 | unknown     | false         | 1           | 0         | 1
    """,
    )


def test_few_people_have_a_row_and_no_figure(night: Night) -> None:
    night.setting("privacy", min_people=3)
    night.con.execute(NOTHING_KEPT)
    night.given(
        "staging.impressions",
        """
        user_id | item_id | shown_at
        ada     | cup     | 2026-02-20 08:00:00+00
        bob     | cup     | 2026-02-20 08:00:00+00
        bob     | pot     | 2026-02-20 08:00:00+00
    """,
    )
    night.given("staging.activity", NOBODY_CAME)

    night.mart("recommendation_outcomes")

    night.shows(
        "marts.recommendation_outcomes",
        """
        shown_on   | impressions | clicks | purchases | helpful | people | click_share | helpful_share
        2026-02-20 | -           | -      | -         | -       | -      | -           | -
    """,
    )


def test_who_refuses_analytics_is_not_looked_at_and_who_is_known_from_nothing_else_is(night: Night) -> None:
    night.landed(
        impressions="""
        user_id | item_id | shown_at
        ada     | cup     | 2026-02-20 08:00:00+00
        eve     | cup     | 2026-02-20 08:00:00+00
        """,
        consents="user_id | purpose | granted | recorded_at\nada | analytics | no | 2026-01-01 00:00:00+00",
    )

    night.open()

    night.shows("staging.impressions", "user_id | shown_on\neve | 2026-02-20")
