"""What people ask for, as the door reads it: controls, objections, restrictions, age."""

import pytest

from tasks import history
from tests.sql.spec import Night

SEEN = "user_id | occurred_at\nada | 2026-02-20 00:00:00+00"


def reason(night: Night, user: str = "ada") -> str | None:
    query = "SELECT withheld_because, personalization FROM staging.people WHERE user_id = $1"
    ((why, allowed),) = night.con.execute(query, [user]).fetchall()
    assert allowed == (why is None)
    return str(why) if why else None


@pytest.mark.parametrize(
    ("said", "level"),
    [("-", 1), ("1", 1), ("0.25", 0.25), ("0", 0), ("1.5", 0), ("-0.1", 0), ("half", 0), ("nan", 0), ("inf", 0)],
)
def test_a_level_that_cannot_be_read_is_no_profile_at_all(night: Night, said: str, level: float) -> None:
    night.landed(events=SEEN, controls=f"user_id | level | changed_at\nada | {said} | 2026-02-10 00:00:00+00")

    night.open()

    night.shows("staging.people", f"user_id | level\nada | {level}")
    assert reason(night) == (None if level else "level")
    night.shows("staging.events", "user_id\nada" if level else "user_id\n")


@pytest.mark.parametrize(
    ("said", "paused"), [("-", False), ("no", False), ("False", False), ("true", True), ("1", True), ("perhaps", True)]
)
def test_only_a_readable_no_is_no_pause(night: Night, said: str, paused: bool) -> None:
    night.landed(events=SEEN, controls=f"user_id | paused | changed_at\nada | {said} | 2026-02-10 00:00:00+00")

    night.open()

    assert reason(night) == ("pause" if paused else None)
    night.shows("staging.events", "user_id\n" if paused else "user_id\nada")
    night.shows("staging.activity", "user_id\nada")


def test_the_newest_controls_count_and_none_from_after_the_cut(night: Night) -> None:
    night.landed(
        controls="""
        user_id | level | changed_at             | landed_on
        ada     | 0.2   | 2026-02-01 00:00:00+00 | 2026-02-20 00:00:00+00
        ada     | 0.7   | 2026-02-02 00:00:00+00 | 2026-02-03 00:00:00+00
        ada     | 0     | 2026-03-01 00:00:00+00 | 2026-03-01 00:00:00+00
        ada     | 0     | 2026-02-03 00:00:00+00 | 2026-03-01 00:00:01+00
        """
    )

    night.open()

    night.shows("staging.people", "user_id | level\nada | 0.7")


def test_who_starts_anew_has_no_earlier_events_anywhere(night: Night) -> None:
    night.landed(
        events="""
        event_id | user_id | occurred_at
        old      | ada     | 2026-02-09 23:59:59+00
        new      | ada     | 2026-02-10 00:00:00+00
        other    | bob     | 2026-01-01 00:00:00+00
        nobody   | -       | 2026-01-01 00:00:00+00
        """,
        controls="""
        user_id | reset_from                | paused | changed_at
        ada     | 2026-02-10T01:00:00+01:00 | -      | 2026-02-11 00:00:00+00
        ada     | -                         | no     | 2026-02-12 00:00:00+00
        """,
    )

    night.open()

    night.shows("staging.events", "event_id\nnew\nother\nnobody")
    assert set(night.con.execute("SELECT event_id FROM staging.activity").fetchall()) == {
        ("new",), ("other",), ("nobody",),
    }  # fmt: skip


def test_a_reset_that_cannot_be_read_is_from_when_it_was_asked(night: Night) -> None:
    night.landed(controls="user_id | reset_from | changed_at\nada | long ago | 2026-02-10 00:00:00+00")

    night.open()

    night.shows("staging.people", "user_id | reset_from\nada | 2026-02-10 00:00:00+00")


@pytest.mark.parametrize(
    ("topics", "muted"),
    [
        ("tea", "green oolong"),
        ("Tea > Green", "green"),
        ("acme", "mug oolong"),
        ("gift| blue ", "green mug"),
        ("tea > gre", ""),
        ("", ""),
    ],
)
def test_a_topic_is_a_category_or_a_broader_one_or_a_brand_or_a_tag(night: Night, topics: str, muted: str) -> None:
    night.landed(
        items="item_id | category | brand | tags\ngreen | Tea > Green | Other | Gift;blue\n"
        "mug | Cups | Acme | blue\noolong | Tea > Oolong | ACME | -",
        controls="user_id | changed_at\nada | 2026-02-10 00:00:00+00",
    )
    night.con.execute("UPDATE history.items SET tags = replace(tags, ';', '|')")
    night.con.execute("UPDATE history.controls SET muted_topics = $1", [topics])

    night.open()

    found = night.con.execute("SELECT DISTINCT item_id FROM staging.muted_items ORDER BY 1").fetchall()
    assert [item for (item,) in found] == muted.split()


@pytest.mark.parametrize(
    ("kind", "why", "analytics"), [("object", "objection", True), ("restrict", "restriction", False)]
)
def test_who_objects_or_restricts_is_left_alone_until_they_take_it_back(
    night: Night, kind: str, why: str, analytics: bool
) -> None:
    asked = f"""
        request_id | user_id | kind   | requested_at           | verified_at
        q1         | ada     | {kind} | 2026-02-10 00:00:00+00 | -
        q2         | bob     | {kind} | 2026-02-10 00:00:00+00 | -
        q3         | bob     | lift   | 2026-02-11 00:00:00+00 | 2026-02-11 00:00:00+00
        q4         | cyn     | {kind} | 2026-02-10 00:00:00+00 | -
        q5         | cyn     | lift   | 2026-02-11 00:00:00+00 | -
        q6         | dan     | {kind} | 2026-03-01 00:00:00+00 | -
        q7         | eve     | erase  | 2026-02-10 00:00:00+00 | -
    """
    people = ("ada", "bob", "cyn", "dan", "eve")
    night.landed(
        events="user_id | occurred_at\n" + "\n".join(f"{user} | 2026-02-01 00:00:00+00" for user in people),
        privacy_requests=asked,
    )

    night.open()

    assert {user: reason(night, user) for user in people} == {
        "ada": why, "bob": None, "cyn": why, "dan": None, "eve": None,
    }  # fmt: skip
    assert history.reasons(night.con)[why] == 2
    counted = {user for (user,) in night.con.execute("SELECT DISTINCT user_id FROM staging.activity").fetchall()}
    assert ("ada" in counted) == analytics


def test_a_later_consent_takes_an_objection_back_and_a_restriction_not(night: Night) -> None:
    night.landed(
        privacy_requests="""
        request_id | user_id | kind     | requested_at           | verified_at
        q1         | ada     | object   | 2026-02-10 00:00:00+00 | -
        q2         | bob     | restrict | 2026-02-10 00:00:00+00 | -
        q3         | cyn     | object   | 2026-02-12 00:00:00+00 | -
        """,
        consents="""
        user_id | purpose         | granted | recorded_at
        ada     | personalization | yes     | 2026-02-11 00:00:00+00
        bob     | personalization | yes     | 2026-02-11 00:00:00+00
        cyn     | personalization | yes     | 2026-02-11 00:00:00+00
        """,
    )

    night.open()

    assert [reason(night, user) for user in ("ada", "bob", "cyn")] == [None, "restriction", "objection"]


def test_who_asks_under_one_id_asks_for_all(night: Night) -> None:
    night.landed(
        events="user_id | occurred_at\nada | 2026-02-01 00:00:00+00\nada-2 | 2026-02-01 00:00:00+00",
        identities="user_id | linked_user_id | linked_at\nada-1 | ada | 2026-02-01 00:00:00+00\n"
        "ada-1 | ada-2 | 2026-02-01 00:00:00+00",
        privacy_requests="request_id | user_id | kind | requested_at\nq | ada-2 | object | 2026-02-10 00:00:00+00",
    )

    night.open()

    assert reason(night, "ada") == "objection"
    assert reason(night, "ada-2") == "objection"


@pytest.mark.parametrize(("born", "why"), [("2010", "age"), ("2009", None), ("-", None)])
def test_nobody_is_profiled_below_the_age_and_an_unknown_age_is_allowed(night: Night, born: str, why: str) -> None:
    # On the cut, 2026-03-01, who was born in 2010 may still be 15.
    night.setting("privacy", minimum_profiled_age=16)
    night.landed(events=SEEN, users=f"user_id | birth_year\nada | {born}")

    night.open()

    assert reason(night) == why
    night.shows("staging.events", "user_id\n" if why else "user_id\nada")
    assert history.reasons(night.con) == {r: int(r == why) for r in history.REASONS}


def test_everybody_withheld_is_counted_once(night: Night) -> None:
    night.landed(
        events=SEEN,
        privacy_requests="request_id | user_id | kind | requested_at\nq | ada | restrict | 2026-02-10 00:00:00+00",
        consents="user_id | purpose | granted | recorded_at\nada | personalization | no | 2026-02-01 00:00:00+00",
        controls="user_id | level | paused | changed_at\nada | 0 | yes | 2026-02-10 00:00:00+00",
    )

    withheld = night.open()

    assert withheld["personalization"] == sum(history.reasons(night.con).values()) == 1
    assert history.reasons(night.con)["restriction"] == 1


def test_what_people_wrote_stays_outside(night: Night) -> None:
    night.landed(events="user_id | query_text | occurred_at\nada | a gift for my ex | 2026-02-20 00:00:00+00")

    night.open()

    for table in ("events", "activity"):
        assert "query_text" not in {c for c, *_ in night.con.execute(f"DESCRIBE staging.{table}").fetchall()}
        assert "my ex" not in str(night.con.execute(f"FROM staging.{table}").fetchall())
