"""The promises of the feature tables as a whole: contracts hold, and a window is a world that ends earlier."""

from collections.abc import Iterator
from datetime import UTC, datetime

import duckdb
import pytest

from tasks import contracts, features, sql
from tests.sql.spec import CUT, Night, open_night

EARLIER = datetime(2026, 2, 10, tzinfo=UTC)


@pytest.fixture
def night() -> Iterator[Night]:
    opened = open_night()
    opened.landed(
        events="""
        user_id | item_id | event_type | occurred_at
        ada     | cup     | purchase   | 2026-02-09 23:59:59+00
        ada     | pot     | purchase   | 2026-02-10 00:00:00+00
        bob     | jar     | view       | 2026-01-05 00:00:00+00
        """,
        items="""
        item_id | title | landed_on              | created_at             | available_from
        cup     | old   | 2026-02-01 00:00:00+00 | -                      | -
        cup     | new   | 2026-02-20 00:00:00+00 | -                      | -
        pot     | pot   | 2026-02-20 00:00:00+00 | -                      | -
        jar     | first | 2026-02-20 00:00:00+00 | -                      | -
        jar     | next  | 2026-02-21 00:00:00+00 | -                      | -
        lid     | lid   | 2026-02-20 00:00:00+00 | 2026-02-01 00:00:00+00 | 2026-02-15 00:00:00+00
        """,
    )
    opened.open()
    yield opened
    opened.con.close()


@pytest.mark.parametrize("layer", ["features", "marts"])
def test_tables_are_what_their_contracts_say(night: Night, layer: contracts.Layer) -> None:
    features.build(night.con, night.run, CUT)
    features.build_marts(night.con, night.run)

    for name in sql.names(layer):
        contract = contracts.load(layer, name)
        found = [(str(c[0]), str(c[1])) for c in night.con.execute(f"DESCRIBE {layer}.{name}").fetchall()]
        promised = [
            (c.name, "TIMESTAMP WITH TIME ZONE" if c.type == "TIMESTAMPTZ" else c.type) for c in contract.columns
        ]
        assert found == promised, f"{layer}.{name}"


def test_an_empty_history_gives_empty_tables() -> None:
    nobody = open_night()
    nobody.landed()
    nobody.open()

    built = features.build(nobody.con, nobody.run, CUT) | features.build_marts(nobody.con, nobody.run)

    assert set(built) == {*sql.names("features"), *sql.names("marts")}
    assert set(built.values()) == {0}
    nobody.con.close()


def test_absurd_amounts_do_not_stop_the_night(night: Night) -> None:
    for events in ("history.events", "staging.events"):
        night.con.execute(
            f"UPDATE {events} SET quantity = 999999999999999, amount = 99999999999999, currency = 'EUR';"
            f"INSERT INTO {events} FROM {events}"
        )

    features.build(night.con, night.run, CUT)
    features.build_marts(night.con, night.run)

    night.shows("features.user_activity", "user_id | spend\nada | 399999999999996\nbob | -")
    night.shows("features.user_item", "quantity\n999999999999999\n999999999999999\n0")


def test_one_table_at_a_time_equals_all_at_once(night: Night) -> None:
    at_once = features.build(night.con, night.run, CUT)

    assert {name: features.build_one(night.con, night.run, name) for name in sql.order("features")} == at_once


def test_a_window_ends_at_its_cut(night: Night) -> None:
    features.build(night.con, night.run, CUT)
    with features.window(night.con, night.run, EARLIER, "validation"):
        built = features.build(night.con, night.run, EARLIER, ["user_item"])

        night.shows("features.user_item", "user_id | item_id\nada | cup\nbob | jar")
        night.shows("staging.events", "user_id | item_id\nada | cup\nbob | jar")
        assert built == {"user_item": 2}

    night.shows("features.user_item", "user_id | item_id\nada | cup\nada | pot\nbob | jar")


def test_a_windows_catalogue_is_what_was_known_then(night: Night) -> None:
    with features.window(night.con, night.run, EARLIER, "validation"):
        # the cup's later title is not known; the pot has neither landed nor been met; the jar had been met, so its
        # first version stands in; the lid had been created but was not offered yet
        night.shows(
            "staging.items",
            """
            item_id | title | recommendable
            cup     | old   | true
            jar     | first | true
            lid     | lid   | false
            """,
        )

    night.shows("staging.items", "item_id | title\ncup | new\njar | next\nlid | lid\npot | pot")


def test_a_window_never_falls_back_on_the_nights_own_tables(night: Night) -> None:
    features.build(night.con, night.run, CUT)
    with (
        features.window(night.con, night.run, EARLIER, "validation"),
        pytest.raises(duckdb.CatalogException),
    ):
        night.con.execute("FROM features.user_item")


def test_windows_follow_one_another_and_leave_nothing_behind(night: Night) -> None:
    before = night.con.execute("SELECT current_database(), current_schema()").fetchall()
    for _ in range(2):
        with features.window(night.con, night.run, EARLIER, "validation") as former:
            assert night.con.execute(f"SELECT count(*) FROM {former}.staging.events").fetchall() == [(3,)]

    with pytest.raises(ZeroDivisionError), features.window(night.con, night.run, EARLIER, "validation"):
        _ = 1 / 0

    assert night.con.execute("SELECT current_database(), current_schema()").fetchall() == before
    attached = [row[0] for row in night.con.execute("SELECT database_name FROM duckdb_databases()").fetchall()]
    assert "validation" not in attached
