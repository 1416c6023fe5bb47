from collections import Counter
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sql.spec import Night, open_night


def test_pairs_count_people_in_both_directions(night: Night) -> None:
    night.setting("privacy", min_people=2)
    night.given(
        "features.user_item",
        """
        user_id | item_id | weight
        ada     | cup     | 1
        ada     | pot     | 0.5
        ada     | jar     | 1
        bob     | cup     | 2
        bob     | pot     | 0.1
        cyn     | cup     | 1
        cyn     | pot     | -0.5
    """,
    )

    night.feature("item_pairs")

    # cup and pot: ada and bob; cyn does not like the pot. The jar goes with anything for ada alone, who is too few.
    night.shows(
        "features.item_pairs",
        """
        item_id | other_item_id | people
        cup     | pot           | 2
        pot     | cup           | 2
    """,
    )


def test_only_the_newest_items_of_a_person_count(night: Night) -> None:
    night.given(
        "features.user_item",
        """
        user_id | item_id | weight | last_at
        ada     | cup     | 1      | 2026-02-03 00:00:00+00
        ada     | pot     | 1      | 2026-02-02 00:00:00+00
        ada     | jar     | 1      | 2026-02-01 00:00:00+00
        bob     | cup     | 1      | 2026-02-01 00:00:00+00
        bob     | pot     | 1      | 2026-02-01 00:00:00+00
        bob     | jar     | 1      | 2026-02-01 00:00:00+00
    """,
    )
    night.setting("features", recent_items=2)
    night.setting("privacy", min_people=2)

    night.feature("item_pairs")

    # ada: cup and pot; bob's three are equally new, the first two by id are cup and jar
    night.shows("features.item_pairs", "item_id | other_item_id | people")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("uvwxyz")), unique=True, max_size=24))
def test_pairs_equal_counting_by_hand(likes: list[tuple[str, str]]) -> None:
    night = open_night()
    night.setting("privacy", min_people=2)
    night.given(
        "features.user_item", "user_id|item_id|weight\n" + "\n".join(f"{user}|{item}|1" for user, item in likes)
    )

    night.feature("item_pairs")

    by_hand: Counter[tuple[str, str]] = Counter()
    for person in "abcd":
        by_hand.update(permutations(sorted(item for user, item in likes if user == person), 2))
    expected = [(*pair, people) for pair, people in sorted(by_hand.items()) if people >= 2]
    assert night.con.execute("FROM features.item_pairs").fetchall() == expected
    night.con.close()
