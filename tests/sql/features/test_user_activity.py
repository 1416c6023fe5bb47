from tests.sql.spec import Night


def test_recency_frequency_and_money(night: Night) -> None:
    night.given(
        "staging.events",
        """
        user_id | event_type | occurred_at            | amount | currency
        ada     | view       | 2026-02-01 08:00:00+00 | -      | -
        ada     | purchase   | 2026-02-27 08:00:00+00 | 10     | EUR
        ada     | purchase   | 2026-02-27 09:00:00+00 | 5.5    | EUR
        ada     | return     | 2026-02-28 08:00:00+00 | 5.5    | EUR
        bob     | search     | 2026-02-28 23:59:59+00 | -      | -
        -       | purchase   | 2026-02-28 08:00:00+00 | 99     | EUR
    """,
    )

    night.feature("user_activity")

    # ada: three days, one of them with purchases; 10 + 5.50 - 5.50 = 10
    night.shows(
        "features.user_activity",
        """
        user_id | events | purchases | days | purchase_days | recency_days | currency | spend
        ada     | 4      | 2         | 3    | 1             | 1            | EUR      | 10
        bob     | 1      | 0         | 1    | 0             | 1            | -        | -
    """,
    )


def test_currencies_are_never_summed(night: Night) -> None:
    night.given(
        "staging.events",
        """
        user_id | event_type | occurred_at            | amount | currency
        ada     | purchase   | 2026-02-27 08:00:00+00 | 1      | EUR
        ada     | purchase   | 2026-02-27 09:00:00+00 | 1      | EUR
        ada     | purchase   | 2026-02-27 10:00:00+00 | 5000   | JPY
        bob     | purchase   | 2026-02-27 08:00:00+00 | 3      | USD
        bob     | purchase   | 2026-02-27 09:00:00+00 | 4      | EUR
        cyn     | purchase   | 2026-02-27 09:00:00+00 | 4      | -
    """,
    )

    night.feature("user_activity")

    # ada bought in EUR most often; bob equally often, EUR comes first; cyn's money has no currency
    night.shows(
        "features.user_activity",
        """
        user_id | currency | spend
        ada     | EUR      | 2
        bob     | EUR      | 4
        cyn     | -        | -
    """,
    )
