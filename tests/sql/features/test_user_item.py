from decimal import ROUND_HALF_UP, Decimal

from tests.sql.spec import Night

NANO = Decimal("0.000000001")


def test_weights_are_summed_per_day_capped_and_halved(night: Night) -> None:
    night.given(
        "staging.items",
        """
        item_id
        cup
        pot
    """,
    )
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at            | quantity | value
        ada     | cup     | view       | 2026-02-28 08:00:00+00 | -        | -
        ada     | cup     | purchase   | 2026-02-28 09:00:00+00 | 3        | -
        ada     | cup     | purchase   | 2026-02-28 09:01:00+00 | -        | -
        ada     | cup     | purchase   | 2025-12-01 09:00:00+00 | 2        | -
        ada     | pot     | rate       | 2026-02-28 10:00:00+00 | -        | 1
        bob     | pot     | ui_use     | 2026-02-28 10:00:00+00 | -        | -
    """,
    )
    night.setting("signals", half_life_days=1.0)

    night.feature("user_item")

    # cup: the day before the cut .1 + 1 + 1 = 2.1, capped at 2, one half-life old: 2 / 2 = 1;
    #      the other day is 90 half-lives old: 0. Pieces 3 + 1 (not told) + 2.
    # pot: (1 - 2.5) / 2.5 = -.6, halved: -.3, so no day with a liking; using the interface says nothing.
    night.shows(
        "features.user_item",
        """
        user_id | item_id | weight | events | purchases | quantity | days | first_at            | last_at
        ada     | cup     | 1      | 4      | 3         | 6        | 2    | 2025-12-01 09:00+00 | 2026-02-28 09:01+00
        ada     | pot     | -0.3   | 1      | 0         | 0        | 0    | 2026-02-28 10:00+00 | 2026-02-28 10:00+00
        bob     | pot     | 0      | 1      | 0         | 0        | 0    | 2026-02-28 10:00+00 | 2026-02-28 10:00+00
    """,
    )


def test_dislike_is_capped_too(night: Night) -> None:
    night.given("staging.items", "item_id\ncup")
    night.given(
        "staging.events",
        """
        user_id | item_id | event_type | occurred_at
        ada     | cup     | dislike    | 2026-03-01 00:00:00+00
        ada     | cup     | dislike    | 2026-03-01 00:00:00+00
    """,
    )
    night.setting("signals", daily_cap=1.0)

    night.feature("user_item")

    # -.6 - .6 = -1.2, at least -1, no day old
    night.shows(
        "features.user_item",
        """
        user_id | item_id | weight
        ada     | cup     | -1
    """,
    )


def test_anonymous_events_and_things_that_are_no_items_are_nobodys_taste(night: Night) -> None:
    night.given("staging.items", "item_id\ncup")
    night.given(
        "staging.events",
        """
        user_id | item_id | occurred_at
        -       | cup     | 2026-02-28 08:00:00+00
        ada     | postage | 2026-02-28 08:00:00+00
        ada     | -       | 2026-02-28 08:00:00+00
        bob     | cup     | 2026-02-28 08:00:00+00
    """,
    )

    night.feature("user_item")

    night.shows(
        "features.user_item",
        """
        user_id | item_id
        bob     | cup
    """,
    )


def test_ids_are_compared_byte_for_byte(night: Night) -> None:
    night.given("staging.items", "item_id\ncup")
    night.given(
        "staging.events",
        """
        user_id | item_id | occurred_at
        1       | cup     | 2026-02-28 08:00:00+00
        01      | cup     | 2026-02-28 08:00:00+00
        1.0     | cup     | 2026-02-28 08:00:00+00
        Ä       | cup     | 2026-02-28 08:00:00+00
        a       | cup     | 2026-02-28 08:00:00+00
        B       | cup     | 2026-02-28 08:00:00+00
    """,
    )

    night.feature("user_item")

    night.shows(
        "features.user_item",
        """
        user_id
        01
        1
        1.0
        B
        a
        Ä
    """,
    )


def test_a_weight_of_any_size_and_age_decays_as_exactly_as_in_128_bits(night: Night) -> None:
    # given ratings of many values and ages, some worth more than one whole
    night.given("staging.items", "item_id\n" + "\n".join(f"i{age}" for age in range(60)))
    events = "user_id | item_id | event_type | occurred_at | value\n"
    for age in range(60):
        events += f"ada | i{age} | rate | 2026-02-28 10:00:00+00 | {age % 6}.{age:04}\n"
        events += f"bob | i{age} | rate | 2026-02-{1 + age % 28:02} 10:00:00+00 | {age % 6}.{age:04}\n"
    night.given("staging.events", events)
    night.setting("signals", half_life_days=7.0, daily_cap=1.002)

    night.feature("user_item")

    # then each is what Python's decimals say, rounded half away from zero
    told = night.con.execute("SELECT user_id, item_id, weight FROM features.user_item").fetchall()
    assert len(told) == 120
    for user, item, weight in told:
        age = int(item[1:])
        days = 1 if user == "ada" else 29 - (1 + age % 28)
        value = Decimal(f"{age % 6}.{age:04}")
        liked = (value - Decimal("2.5")) / Decimal("2.5")
        capped = max(min(liked.quantize(NANO, ROUND_HALF_UP), Decimal("1.002")), Decimal("-1.002"))
        decay = Decimal(0.5 ** (days / 7.0)).quantize(NANO, ROUND_HALF_UP)
        assert weight == float((capped * decay).quantize(NANO, ROUND_HALF_UP)), item
