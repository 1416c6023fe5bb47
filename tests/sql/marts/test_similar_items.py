from tests.sql.spec import Night


def test_similar_is_the_cosine_of_who_likes_both(night: Night) -> None:
    night.given(
        "features.item_attributes",
        """
        item_id | sensitive | recommendable
        cup     | false     | true
        pot     | false     | true
        jar     | false     | false
        pill    | true      | true
        mug     | false     | true
    """,
    )
    night.given(
        "features.item_popularity",
        """
        item_id | people
        cup     | 16
        pot     | 9
        jar     | 25
        pill    | 16
        mug     | 4
    """,
    )
    night.given(
        "features.item_pairs",
        """
        item_id | other_item_id | people
        cup     | jar           | 16
        cup     | mug           | 4
        cup     | pill          | 16
        cup     | pot           | 6
        jar     | cup           | 16
        mug     | cup           | 4
        pill    | cup           | 16
        pot     | cup           | 6
    """,
    )

    night.mart("similar_items")

    # cup and pot: 6 / √(16 × 9) = .5; jar and cup: 16 / √(25 × 16) = .8, one way only, since the jar may not be shown;
    # the mug has four people where five are needed; the pill is sensitive, so it is neither shown nor evidence
    night.shows(
        "marts.similar_items",
        """
        item_id | position | other_item_id | score | people
        cup     | 1        | pot           | 0.5   | 6
        jar     | 1        | cup           | 0.8   | 16
        pot     | 1        | cup           | 0.5   | 6
    """,
    )


def test_equals_come_in_the_order_of_their_ids_and_only_so_many_are_kept(night: Night) -> None:
    items = ["a", "b", "c", "d"]
    night.given("features.item_attributes", "item_id | sensitive | recommendable\n"
                + "\n".join(f"{i} | false | true" for i in items))  # fmt: skip
    night.given("features.item_popularity", "item_id | people\n" + "\n".join(f"{i} | 9" for i in items))
    night.given("features.item_pairs", "item_id | other_item_id | people\na | d | 9\na | c | 9\na | b | 9")
    night.setting("features", similar_items=2)

    night.mart("similar_items")

    night.shows(
        "marts.similar_items",
        """
        item_id | position | other_item_id
        a       | 1        | b
        a       | 2        | c
    """,
    )
