from tests.sql.spec import Night


def test_fifths_and_the_names_that_they_make(night: Night) -> None:
    night.given(
        "features.user_activity",
        """
        user_id | recency_days | days | spend | currency | first_at
        ada     | 1            | 50   | 100   | EUR      | 2025-01-01 00:00:00+00
        bob     | 9            | 40   | 90    | EUR      | 2025-01-01 00:00:00+00
        cyn     | 99           | 30   | 80    | EUR      | 2025-01-01 00:00:00+00
        dan     | 199          | 2    | 70    | EUR      | 2025-01-01 00:00:00+00
        eve     | 2            | 1    | 60    | EUR      | 2026-02-02 00:00:00+00
    """,
    )

    night.mart("user_segments")

    # five people are five fifths; recency from 199, 99, 9, 2, 1 days to 1 … 5
    night.shows(
        "marts.user_segments",
        """
        user_id | segment    | recency | frequency | money
        ada     | champions  | 5       | 5         | 5
        bob     | loyal      | 3       | 4         | 4
        cyn     | at_risk    | 2       | 3         | 3
        dan     | lapsed     | 1       | 2         | 2
        eve     | new        | 4       | 1         | 1
    """,
    )


def test_equal_figures_get_equal_fifths(night: Night) -> None:
    night.given(
        "features.user_activity",
        """
        user_id | recency_days | days | first_at
        ada     | 5            | 1    | 2025-01-01 00:00:00+00
        bob     | 5            | 1    | 2025-01-01 00:00:00+00
        cyn     | 5            | 1    | 2025-01-01 00:00:00+00
        dan     | 5            | 2    | 2025-01-01 00:00:00+00
    """,
    )

    night.mart("user_segments")

    # frequency: three share rank 1, dan is fourth of four: 1 + 5 × 3 // 4 = 4; nobody spent anything
    night.shows(
        "marts.user_segments",
        """
        user_id | recency | frequency | money
        ada     | 1       | 1         | -
        bob     | 1       | 1         | -
        cyn     | 1       | 1         | -
        dan     | 1       | 4         | -
    """,
    )


def test_money_is_compared_within_a_currency(night: Night) -> None:
    night.given(
        "features.user_activity",
        """
        user_id | recency_days | days | spend | currency | first_at
        ada     | 5            | 1    | 1     | EUR      | 2025-01-01 00:00:00+00
        bob     | 5            | 1    | 2     | EUR      | 2025-01-01 00:00:00+00
        cyn     | 5            | 1    | 9000  | JPY      | 2025-01-01 00:00:00+00
    """,
    )

    night.mart("user_segments")

    # bob is second of two in euros: 1 + 5 × 1 // 2 = 3; cyn is the first of one in yen
    night.shows(
        "marts.user_segments",
        """
        user_id | money | spend | currency
        ada     | 1     | 1     | EUR
        bob     | 3     | 2     | EUR
        cyn     | 1     | 9000  | JPY
    """,
    )
