from tests.sql.spec import Night


def test_words_are_one_text(night: Night) -> None:
    night.given(
        "staging.items",
        """
        item_id | title   | category        | category_top | brand | tags     | description
        cup     | Tea cup | Kitchen > Cups  | Kitchen      | Acme  | red/tall | Holds tea
        dot     | -       | -               | -            | -     | -        | -
    """.replace("red/tall", "red"),
    )
    night.con.execute("UPDATE staging.items SET tags = 'red|tall' WHERE item_id = 'cup'")

    night.feature("item_attributes")

    night.shows(
        "features.item_attributes",
        """
        item_id | text                                      | category_top | recommendable | sensitive
        cup     | Tea cup Kitchen Cups Acme red tall Holds tea | Kitchen   | true          | false
        dot     |                                           | -            | true          | false
    """,
    )


def test_a_price_band_is_a_fifth_of_its_kind_and_currency(night: Night) -> None:
    night.given(
        "staging.items",
        """
        item_id | category_top | currency | price
        a       | Cups         | EUR      | 1
        b       | Cups         | EUR      | 2
        c       | Cups         | EUR      | 3
        d       | Cups         | EUR      | 4
        e       | Cups         | EUR      | 5
        f       | Cups         | EUR      | -
        g       | Cups         | GBP      | 900
        h       | Pots         | EUR      | 7
        i       | Pots         | EUR      | 7
        j       | -            | EUR      | 0
    """,
    )

    night.feature("item_attributes")

    # 1 + 5 × (rank - 1) // n: five cups are five bands; alone or with equal prices there is only the first
    night.shows(
        "features.item_attributes",
        """
        item_id | price_band
        a       | 1
        b       | 2
        c       | 3
        d       | 4
        e       | 5
        f       | -
        g       | 1
        h       | 1
        i       | 1
        j       | 1
    """,
    )
