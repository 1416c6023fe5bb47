from tests.sql.spec import Night


def test_interests_are_shares_of_what_is_liked(night: Night) -> None:
    night.given(
        "features.item_attributes",
        """
        item_id | category | brand | price_band | sensitive
        cup     | Cups     | Acme  | 1          | false
        mug     | Cups     | Bolt  | 5          | false
        pot     | Pots     | Acme  | 1          | false
        pill    | Health   | Cure  | 3          | true
        dot     | -        | -     | -          | false
    """,
    )
    night.given(
        "features.user_item",
        """
        user_id | item_id | weight
        ada     | cup     | 1
        ada     | mug     | 0.5
        ada     | pot     | 0.5
        ada     | pill    | 9
        ada     | dot     | 3
        bob     | cup     | -1
    """,
    )

    night.feature("user_interests")

    # of ada's 1 + .5 + .5 = 2: cups 1.5 / 2, Acme (cup, pot) 1.5 / 2, the cheapest fifth 1.5 / 2;
    # the pill is sensitive, the dot has no attributes, and bob likes nothing
    night.shows(
        "features.user_interests",
        """
        user_id | kind       | value | weight | share | rank
        ada     | brand      | Acme  | 1.5    | 0.75  | 1
        ada     | brand      | Bolt  | 0.5    | 0.25  | 2
        ada     | category   | Cups  | 1.5    | 0.75  | 1
        ada     | category   | Pots  | 0.5    | 0.25  | 2
        ada     | price_band | 1     | 1.5    | 0.75  | 1
        ada     | price_band | 5     | 0.5    | 0.25  | 2
    """,
    )


def test_equal_interests_come_in_the_order_of_their_names(night: Night) -> None:
    night.given(
        "features.item_attributes",
        """
        item_id | brand
        cup     | b
        pot     | B
    """,
    )
    night.con.execute("UPDATE features.item_attributes SET sensitive = false")
    night.given(
        "features.user_item",
        """
        user_id | item_id | weight
        ada     | cup     | 1
        ada     | pot     | 1
    """,
    )

    night.feature("user_interests")

    night.shows(
        "features.user_interests",
        """
        value | share | rank
        B     | 0.5   | 1
        b     | 0.5   | 2
    """,
    )
