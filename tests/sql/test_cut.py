"""Nothing from after the cut, by when it happened or by when it landed, changes any row of any table."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks import features, sql
from tests.sql.spec import CUT, Night, open_night

WINDOW = CUT - timedelta(days=20)
TYPES = ["view", "click", "purchase", "return", "rate", "like", "dislike", "cart_add"]
Rows = dict[str, list[tuple[Any, ...]]]


def past(night: Night) -> None:
    """Forty days of twelve people and ten items, some of it landed late, with decisions and changing items."""
    night.landed()
    night.con.execute(f"""INSERT INTO history.events BY NAME SELECT
            'e' || n AS event_id,
            CASE WHEN n % 13 > 0 THEN 'u' || n % 13 END AS user_id,
            {TYPES}[1 + n * 7 % {len(TYPES)}] AS event_type,
            'i' || (n * n + n % 5) % 10 AS item_id,
            TIMESTAMPTZ '{CUT}' - to_minutes(1 + n * 57600 // 600) AS occurred_at,
            n % 6 AS value, 1 + n % 3 AS quantity, n % 50 AS amount, ['EUR', 'JPY'][1 + n % 2] AS currency,
            n % 30 AS dwell_seconds, n % 9 * 1000 AS scroll_speed, 's' || n // 4 AS session_id,
            ['phone', 'tablet'][1 + n % 2] AS device, ['DE', 'FR'][1 + n % 2] AS country,
            TIMESTAMPTZ '{CUT}' - to_days((n // 60 - n % 3)::INTEGER) AS landed_on,
            'a.csv' AS landed_file, n AS landed_row
        FROM range(600) AS numbers(n)""")
    night.con.execute("UPDATE history.events SET landed_on = least(landed_on, $1)", [CUT])
    night.con.execute(f"""INSERT INTO history.items BY NAME SELECT
            'i' || n % 10 AS item_id, 'title ' || n AS title, 'Tea > Kind ' || n % 3 AS category,
            'brand ' || n % 4 AS brand,
            CASE WHEN n % 7 > 0 THEN n END AS price, 'EUR' AS currency, 'approved' AS review_status, n = 9 AS sensitive,
            TIMESTAMPTZ '{CUT}' - to_days(60 - 20 * (n // 10)::INTEGER) AS landed_on,
            'a.csv' AS landed_file, n AS landed_row
        FROM range(30) AS numbers(n)""")
    night.con.execute(f"""INSERT INTO history.users BY NAME SELECT
            'u' || n AS user_id, 'DE' AS country, TIMESTAMPTZ '{CUT}' - to_days(30) AS landed_on,
            'a.csv' AS landed_file, n AS landed_row
        FROM range(13) AS numbers(n)""")
    night.con.execute(f"""INSERT INTO history.consents BY NAME SELECT
            'u' || n AS user_id, ['personalization', 'mood_signals', 'analytics'][1 + n % 3] AS purpose,
            CASE WHEN n % 4 = 0 THEN 'no' ELSE 'yes' END AS granted, TIMESTAMPTZ '{CUT}' - to_days(9) AS recorded_at,
            TIMESTAMPTZ '{CUT}' - to_days(8) AS landed_on,
            'a.csv' AS landed_file, n AS landed_row
        FROM range(13) AS numbers(n)""")
    night.con.execute(f"""INSERT INTO history.controls BY NAME SELECT
            'u' || n AS user_id, 'Brand 1 | tea > kind 2' AS muted_topics, '0.5' AS level,
            TIMESTAMPTZ '{CUT}' - to_days(30) AS changed_at, TIMESTAMPTZ '{CUT}' - to_days(29) AS landed_on,
            'a.csv' AS landed_file, n AS landed_row
        FROM range(3) AS numbers(n)""")
    night.con.execute(f"""INSERT INTO history.impressions BY NAME SELECT
            'p' || n // 60 AS publication_id, 'u' || n % 13 AS user_id, 'for_you' AS placement, 'any' AS context,
            'i' || n % 10 AS item_id, 1 + n % 5 AS position, TIMESTAMPTZ '{CUT}' - to_minutes(2 + n * 190) AS shown_at,
            TIMESTAMPTZ '{CUT}' - to_days((n // 8)::INTEGER) AS landed_on, 'a.csv' AS landed_file, n AS landed_row
        FROM range(200) AS numbers(n)""")


def everything(night: Night) -> Rows:
    """Every row of every table, as of the run and in a window before it."""
    night.setting("privacy", min_people=2)
    night.open()
    features.build(night.con, night.run, night.run.as_of)
    features.build_marts(night.con, night.run)
    found = {f"{layer}.{name}": rows(night, f"{layer}.{name}") for layer in sql.LAYERS[1:] for name in sql.names(layer)}
    with features.window(night.con, night.run, WINDOW, "before"):
        features.build(night.con, night.run, WINDOW)
        found |= {f"before.{name}": rows(night, f"features.{name}") for name in sql.names("features")}
        found |= {f"before.{name}": rows(night, f"staging.{name}") for name in ("events", "activity", "items")}
    return found


def rows(night: Night, relation: str) -> list[tuple[Any, ...]]:
    """In their order; of a view, which has none, in one of their own."""
    found = night.con.execute(f"FROM {relation}").fetchall()
    return found if sql.ordered(*relation.split(".")) else sorted(found, key=repr)


@pytest.fixture(scope="module")
def known() -> Iterator[Rows]:
    night = open_night()
    past(night)
    yield everything(night)
    night.con.close()


after = st.integers(0, 10**9).map(lambda s: timedelta(seconds=s))
anytime = st.integers(-(10**7), 10**7).map(lambda s: timedelta(seconds=s))
later_event = st.one_of(
    st.tuples(after.map(lambda d: CUT + d), st.just(CUT)),
    st.tuples(anytime.map(lambda d: CUT + d), after.map(lambda d: CUT + d + timedelta(microseconds=1))),
)
future = st.lists(
    st.tuples(later_event, st.integers(0, 15), st.integers(0, 12), st.sampled_from(TYPES)), min_size=1, max_size=15
)


def unfold(night: Night, events: list[tuple[tuple[datetime, datetime], int, int, str]]) -> None:
    """The same as events, decisions, profiles and item versions that the run must not see."""
    for number, ((at, landed), person, item, kind) in enumerate(events):
        night.con.execute(
            "INSERT INTO history.events BY NAME SELECT $1 AS event_id, $2 AS user_id, $3 AS event_type, $4 AS item_id, "
            "$5::TIMESTAMPTZ AS occurred_at, 5 AS value, 9 AS quantity, 999 AS amount, 'EUR' AS currency, "
            "9999 AS scroll_speed, $6::TIMESTAMPTZ AS landed_on",
            [f"x{number}", f"u{person}" if person else None, kind, f"i{item}", at, landed],
        )
        night.con.execute(
            "INSERT INTO history.consents BY NAME SELECT $1 AS user_id, 'personalization' AS purpose, 'no' AS granted, "
            "$2::TIMESTAMPTZ AS recorded_at, $3::TIMESTAMPTZ AS landed_on, 'z' AS landed_file, $4 AS landed_row",
            [f"u{person}", at, landed, number],
        )
        night.con.execute(
            "INSERT INTO history.impressions BY NAME SELECT 'p9' AS publication_id, $1 AS user_id, 'any' AS context, "
            "'for_you' AS placement, $2 AS item_id, 1 AS position, $3::TIMESTAMPTZ AS shown_at, "
            "$4::TIMESTAMPTZ AS landed_on",
            [f"u{person}", f"i{item}", at, landed],
        )
        unseen = max(landed, CUT + timedelta(microseconds=1))
        night.con.execute(
            "INSERT INTO history.items BY NAME SELECT $1 AS item_id, 'later' AS title, 77 AS price, 'EUR' AS currency, "
            "'blocked' AS review_status, $2::TIMESTAMPTZ AS landed_on, 'z' AS landed_file, $3 AS landed_row",
            [f"i{item}", unseen, number],
        )
        night.con.execute(
            "INSERT INTO history.users BY NAME SELECT $1 AS user_id, 'ZZ' AS country, $2::TIMESTAMPTZ AS landed_on, "
            "'z' AS landed_file, $3 AS landed_row",
            [f"u{person}", unseen, number],
        )


def test_the_past_fills_every_table(known: Rows) -> None:
    assert [name for name, found in known.items() if not found] == []


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(future)
def test_what_comes_after_the_run_changes_nothing(
    known: Rows, events: list[tuple[tuple[datetime, datetime], int, int, str]]
) -> None:
    night = open_night()
    past(night)
    unfold(night, events)

    found = everything(night)

    assert [name for name in known if found[name] != known[name]] == []
    night.con.close()


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
# Of u0 and u12, who refuse, nothing would be seen in any window.
@given(st.lists(st.tuples(st.integers(0, 19 * 86400), st.integers(1, 11), st.integers(0, 9)), min_size=1, max_size=10))
def test_what_comes_after_a_window_changes_nothing_in_it(known: Rows, events: list[tuple[int, int, int]]) -> None:
    night = open_night()
    past(night)
    for number, (second, person, item) in enumerate(events):
        moment = WINDOW + timedelta(seconds=second)
        night.con.execute(
            "INSERT INTO history.events BY NAME SELECT $1 AS event_id, $2 AS user_id, 'purchase' AS event_type, "
            "$3 AS item_id, $4::TIMESTAMPTZ AS occurred_at, $4::TIMESTAMPTZ AS landed_on",
            [f"x{number}", f"u{person}", f"i{item}", moment],
        )
        night.con.execute(
            "INSERT INTO history.items BY NAME SELECT $1 AS item_id, 'later' AS title, 1 AS price, 'EUR' AS currency, "
            "'blocked' AS review_status, $2::TIMESTAMPTZ AS landed_on, 'z' AS landed_file, $3 AS landed_row",
            [f"i{item}", moment + timedelta(microseconds=1), number],
        )

    found = everything(night)

    within = [name for name in known if name.startswith("before.")]
    assert [name for name in within if found[name] != known[name]] == []
    assert found["features.user_item"] != known["features.user_item"]
    night.con.close()


def test_the_naive_reading_of_the_clock_would_have_been_noticed(known: Rows) -> None:
    night = open_night(cut=CUT + timedelta(seconds=1))
    past(night)
    unfold(night, [((CUT.astimezone(UTC), CUT), 1, 1, "purchase")])

    found = everything(night)

    assert found["staging.events"] != known["staging.events"]
    assert found["features.user_item"] != known["features.user_item"]
    night.con.close()
