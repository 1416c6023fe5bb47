"""A muted topic covers items by category, any broader category, brand or tag."""

from tests.sql.spec import Night

ITEMS = """
item_id | category      | brand | tags
cup     | home > mugs   | Ada   | Gift
jar     | home > jars   | Bo    | gift
pot     | garden        | Ada   | tools
"""


def muting(night: Night, topic: str) -> None:
    night.landed(
        items=ITEMS,
        controls=f"""
        user_id | muted_topics | changed_at
        ann     | {topic}      | 2026-02-16 00:00:00+00
        """,
    )
    night.open()


def test_a_category_covers_what_lies_below_it(night: Night) -> None:
    muting(night, "home")

    night.shows("staging.muted_items", "topic | item_id\nhome | cup\nhome | jar")


def test_a_path_covers_no_neighbour(night: Night) -> None:
    muting(night, "home > mugs")

    night.shows("staging.muted_items", "topic | item_id\nhome > mugs | cup")


def test_a_brand_is_a_topic(night: Night) -> None:
    muting(night, "ada")

    night.shows("staging.muted_items", "topic | item_id\nada | cup\nada | pot")


def test_a_tag_is_a_topic_whatever_its_case(night: Night) -> None:
    muting(night, "gift")

    night.shows("staging.muted_items", "topic | item_id\ngift | cup\ngift | jar")


def test_what_nobody_muted_is_no_topic(night: Night) -> None:
    muting(night, "unheard of")

    night.shows("staging.muted_items", "topic | item_id")
