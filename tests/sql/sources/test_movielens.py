"""What each SELECT of the MovieLens import makes of a handful of ratings, tags and films."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any

import duckdb
import pytest

from tasks.sources import IMPORTERS, MOVIELENS_FILES

FILM = ("1", "Toy Story (1995)", "Adventure|Animation|Comedy")


def seconds(when: str) -> str:
    return str(int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()))


def rating(when: str, *, person: str = "7", film: str = "1", stars: str = "4.0") -> tuple[str, ...]:
    return person, film, stars, seconds(when)


def tag(when: str, text: str, *, person: str = "7", film: str = "1") -> tuple[str, ...]:
    return person, film, text, seconds(when)


def table(name: str, **given: Sequence[tuple[str, ...]]) -> list[dict[str, Any]]:
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        for file, columns in MOVIELENS_FILES.items():
            con.execute(f"CREATE TABLE {file} ({', '.join(f'{column} VARCHAR' for column in columns)})")
            for row in given.get(file, []):
                con.execute(f"INSERT INTO {file} VALUES ({', '.join('?' * len(columns))})", row)
        for made in IMPORTERS["movielens"].statements:
            sql = (resources.files("sql") / "sources" / "movielens" / f"{made}.sql").read_text(encoding="utf-8")
            con.execute(f"CREATE TABLE {made} AS {sql}")
        result = con.execute(f"FROM {name} ORDER BY rowid")
        names = [c[0] for c in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


@pytest.mark.parametrize(
    ("when", "lands"),
    [("2000-02-01 00:00:00", date(2000, 2, 29)), ("2000-02-29 23:59:59", date(2000, 2, 29)),
     ("2000-03-01 00:00:00", date(2000, 3, 31)), ("1999-12-31 23:59:59", date(1999, 12, 31))],
)  # fmt: skip
def test_a_month_lands_on_its_last_day(when: str, lands: date) -> None:
    (event,) = table("events", ratings=[rating(when)])

    assert event["landed_on"] == lands
    assert event["occurred_at"] == datetime.fromisoformat(when).replace(tzinfo=UTC)


def test_half_stars_are_the_value_as_they_are() -> None:
    (event,) = table("events", ratings=[rating("2000-02-01", stars="0.5")])

    assert (event["event_id"], event["event_type"], event["value"]) == ("rate-7-1", "rate", Decimal("0.5"))
    assert (event["user_id"], event["item_id"], event["query_text"]) == ("7", "1", None)


def test_tags_are_comments_of_a_person_and_never_words_of_the_film() -> None:
    given = [tag("2000-03-02", "mine"), tag("2000-02-02", "yours"), tag("2000-03-02", "also mine")]
    events = table("events", tags=given)
    (item,) = table("items", movies=[FILM], ratings=[rating("2000-02-01")], tags=given)

    assert [(e["event_id"], e["event_type"], e["query_text"]) for e in events] == [
        ("tag-7-1-1", "comment", "yours"), ("tag-7-1-2", "comment", "also mine"), ("tag-7-1-3", "comment", "mine"),
    ]  # fmt: skip
    assert "mine" not in str(item) and "yours" not in str(item)


def test_the_first_genre_is_the_category_and_all_are_tags() -> None:
    films = [FILM, ("2", "Cosmos", "(no genres listed)")]
    first, second = table("items", movies=films, ratings=[rating("2000-02-01"), rating("2000-02-01", film="2")])

    assert (first["title"], first["category"], first["tags"]) == (FILM[1], "Adventure", FILM[2])
    assert (second["title"], second["category"], second["tags"]) == ("Cosmos", None, None)


@pytest.mark.parametrize(
    ("title", "touched", "lands"),
    [
        ("Old (1950)", None, date(1999, 5, 31)),
        ("Old (1950)", "2003-01-05", date(1999, 5, 31)),
        ("New (2001)", None, date(2001, 12, 31)),
        ("New (2001) ", "2002-07-05", date(2001, 12, 31)),
        ("New (2001)", "2001-03-05", date(2001, 3, 31)),
        ("Series (2001–2004)", None, date(2001, 12, 31)),
        ("Undated", "2001-03-05", date(2001, 3, 31)),
        ("2001: Undated", None, None),
    ],
)
def test_a_film_lands_when_its_year_is_over_or_a_person_knows_it_earlier(
    title: str, touched: str | None, lands: date | None
) -> None:
    # given a data set that begins in May 1999
    ratings = [rating("1999-05-05"), *([rating(touched, film="2")] if touched else [])]
    items = table("items", movies=[FILM, ("2", title, "Drama")], ratings=ratings)

    assert [i["landed_on"] for i in items if i["item_id"] == "2"] == ([lands] if lands else [])
    assert all(i["created_at"].date() <= i["landed_on"] for i in items)


def test_hiding_a_films_ratings_does_not_hide_the_film() -> None:
    films, others = [FILM, ("2", "Other (1998)", "Drama")], [rating("1999-05-05")]
    whole = table("items", movies=films, ratings=[*others, rating("2003-01-05", film="2")])

    assert table("items", movies=films, ratings=others) == whole
