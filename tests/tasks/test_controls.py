"""What people set for themselves shows in their lists, and in nobody else's."""

from collections.abc import Iterator

import polars as pl
import pytest

from tasks import features, placements, training
from tests.sql.spec import Night
from tests.tasks.worlds import market, settings, table

SMALL = {"min_people": 5, "bootstrap": 20}
CALM, MUTED, FRESH, NEW = "u003", "u004", "u005", "u006"
"""Half personal; without blue things; half new; new only."""
CONTROLS = f"""
    user_id | level | muted_topics | novelty_share | changed_at
    {CALM}  | 0.5   | -            | -             | 2026-01-01 00:00:00+00
    {MUTED} | -     | Blue Things  | -             | 2026-01-01 00:00:00+00
    {FRESH} | -     | -            | 0.5           | 2026-01-01 00:00:00+00
    {NEW}   | -     | -            | 1             | 2026-01-01 00:00:00+00
"""


def made(controls: str | None) -> Night:
    """A market in which everything may be shown to everybody, with these controls."""
    night = market(config=settings(3, evaluation=SMALL))
    if controls:
        night.given("history.controls", controls)
        night.open()
        features.build(night.con, night.run, night.run.as_of)
    placements.recommend(night.con, night.run, training.train(night.con, night.run))
    return night


@pytest.fixture(scope="module")
def plain() -> Iterator[Night]:
    night = made(None)
    yield night
    night.con.close()


@pytest.fixture(scope="module")
def night() -> Iterator[Night]:
    night = made(CONTROLS)
    yield night
    night.con.close()


def lists(night: Night, user: str, placement: str = "for_you") -> pl.DataFrame:
    return table(night, "recommendations").filter(user_id=user, placement=placement)


def met(night: Night, user: str) -> set[str]:
    rows = night.con.execute("SELECT DISTINCT item_id FROM staging.events WHERE user_id = $1", [user]).fetchall()
    return {item for (item,) in rows}


def test_nobody_else_is_shown_anything_else(plain: Night, night: Night) -> None:
    others = ~pl.col("user_id").is_in([CALM, MUTED, FRESH, NEW])

    ours, theirs = (table(n, "recommendations").filter(others) for n in (plain, night))

    assert ours.height > 0
    assert ours.equals(theirs)


def test_a_lower_level_lets_what_goes_for_everybody_speak(plain: Night, night: Night) -> None:
    default = table(night, "default_recommendations").filter(placement="for_you", segment="all")
    trend = {item: at for at, item in enumerate(default["item_id"].to_list())}

    def distance(shown: list[str]) -> int:
        return sum(abs(at - trend.get(item, default.height)) for at, item in enumerate(shown[:10]))

    before, after = (lists(n, CALM)["item_id"].to_list() for n in (plain, night))

    assert before != after
    assert distance(after) < distance(before)


def test_the_lower_the_level_the_nearer_to_the_list_of_everybody() -> None:
    night = made(CONTROLS.replace("| 0.5   |", "| 0.000001 |", 1))
    try:
        everybody = table(night, "default_recommendations").filter(placement="for_you", segment="all")
        trending = everybody.filter(reason_code="trending")["item_id"].to_list()
        shown = [item for item in lists(night, CALM)["item_id"].to_list() if item in trending]
        assert len(shown) > 5
        assert set(lists(night, CALM)["recommender"]) <= {"trending", "popular"}
    finally:
        night.con.close()


def test_a_muted_topic_is_never_shown_and_explains_nothing(plain: Night, night: Night) -> None:
    blue = {f"i{n:03}" for n in range(1, 40, 2)}
    before, after = (table(n, "recommendations").filter(user_id=MUTED) for n in (plain, night))

    assert blue & set(before["item_id"])
    assert after.height > 0
    assert not blue & set(after["item_id"])
    assert not blue & set(after["reason_item_id"].drop_nulls())


def test_what_was_muted_is_left_out_of_the_default_list(night: Night) -> None:
    default = set(table(night, "default_recommendations")["item_id"])
    muted = table(night, "muted_items")

    assert set(muted["user_id"]) == {MUTED}
    assert set(muted["item_id"]) == {item for item in default if int(item[1:]) % 2}


def test_the_share_of_novelty_holds_in_every_list(plain: Night, night: Night) -> None:
    def share(of: Night, user: str) -> float:
        shown = lists(of, user)["item_id"].to_list()
        assert shown
        return sum(item not in met(of, user) for item in shown) / len(shown)

    assert share(plain, FRESH) < 0.5 <= share(night, FRESH)
    assert share(plain, NEW) < 1 == share(night, NEW)
    assert lists(night, NEW, "buy_again").equals(lists(plain, NEW, "buy_again"))


def test_lists_with_controls_are_lists(night: Night) -> None:
    shown = table(night, "recommendations").filter(pl.col("user_id").is_in([CALM, MUTED, FRESH, NEW]))

    for _, one in shown.group_by("user_id", "placement", maintain_order=True):
        assert one["position"].to_list() == list(range(1, one.height + 1))
        assert one["score"].to_list() == sorted(one["score"], reverse=True)
        assert one["score"].min() > 0  # type: ignore[operator]  # polars' any number
        assert one["item_id"].n_unique() == one.height
