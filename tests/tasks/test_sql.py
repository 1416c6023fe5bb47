"""The promises of the SQL runner: order comes from the SQL, parameters are bound, and no value leaves in an error."""

from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from importlib import resources
from pathlib import Path

import duckdb
import pytest

from tasks import sql
from tasks.errors import ConfigurationError, TailorbirdError

CANARY = "canary-4711"


@pytest.fixture
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    opened = duckdb.connect()
    yield opened
    opened.close()


@pytest.fixture
def rooms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An `sql` folder of the test's own."""
    for layer in sql.LAYERS:
        (tmp_path / layer).mkdir()
    real = resources.files
    monkeypatch.setattr(resources, "files", lambda package: tmp_path if package == "sql" else real(package))
    forget()
    yield tmp_path
    forget()


def forget() -> None:
    for remembered in (sql.order, sql.ordered, sql.names, sql.inputs, sql.text):
        remembered.cache_clear()


def write(rooms: Path, **selects: str) -> None:
    for name, select in selects.items():
        (rooms / "features" / f"{name}.sql").write_text(select, encoding="utf-8")


def test_tables_are_built_after_those_they_read_whatever_their_names(
    rooms: Path, con: duckdb.DuckDBPyConnection
) -> None:
    write(
        rooms,
        a="-- last\nWITH b AS (FROM features.z) SELECT x + 1 AS x FROM b SEMI JOIN features.m ON true",
        m="SELECT x + 1 AS x FROM features.z",
        z="SELECT 1 AS x",
    )

    built = sql.build(con, "features", {})

    assert list(built.items()) == [("z", 1), ("m", 1), ("a", 1)]
    assert con.execute("FROM features.a").fetchall() == [(2,)]


def test_only_the_named_tables_and_what_they_read(rooms: Path, con: duckdb.DuckDBPyConnection) -> None:
    write(rooms, a="SELECT 1 AS x", b="FROM features.a", c="FROM features.b", d="FROM features.a")

    assert list(sql.build(con, "features", {}, only=["b"])) == ["a", "b"]
    assert sql.build(con, "features", {}, only=[]) == {}
    with pytest.raises(ConfigurationError, match="features has no e"):
        sql.build(con, "features", {}, only=["e"])


def test_a_circle_is_refused(rooms: Path) -> None:
    write(rooms, a="FROM features.b", b="FROM features.a")

    with pytest.raises(ConfigurationError, match="read each other"):
        sql.order("features")


@pytest.mark.parametrize("table", ["features.nobody", "staging.nobody", "history.nobody", "marts.later"])
def test_a_table_that_nobody_has_made_by_then_is_refused(rooms: Path, table: str) -> None:
    (rooms / "marts" / "later.sql").write_text("SELECT 1 AS x", encoding="utf-8")
    write(rooms, a=f"FROM {table}")

    with pytest.raises(ConfigurationError, match=f"reads {table}"):
        sql.order("features")


@pytest.mark.parametrize("text", ["SELECT 1; SELECT 2", "SELEC 1 FRM", ""])
def test_what_is_not_one_select_is_refused(rooms: Path, con: duckdb.DuckDBPyConnection, text: str) -> None:
    write(rooms, a=text)

    with pytest.raises(TailorbirdError, match="a"):
        sql.build_one(con, "features", "a", {})


def test_a_file_gets_the_parameters_that_it_names_and_no_others(rooms: Path, con: duckdb.DuckDBPyConnection) -> None:
    write(rooms, a="SELECT 7 / $divisor AS x")

    sql.build(con, "features", {"divisor": 2, "unheard_of": 3})

    assert con.execute("FROM features.a").fetchall() == [(3.5,)]
    with pytest.raises(ConfigurationError, match=r"needs a value for \$divisor"):
        sql.build(con, "features", {"unheard_of": 3})


def test_a_table_is_replaced_and_keeps_the_order_that_its_file_asks_for(
    rooms: Path, con: duckdb.DuckDBPyConnection
) -> None:
    write(rooms, a="SELECT unnest([1, 3, 2]) AS x ORDER BY x DESC")

    sql.build(con, "features", {})
    sql.build(con, "features", {})

    assert con.execute("FROM features.a").fetchall() == [(3,), (2,), (1,)]


def test_what_is_not_ordered_is_a_view_and_says_its_parameters_itself(
    rooms: Path, con: duckdb.DuckDBPyConnection
) -> None:
    # Given a file that only sums, and parameters of every kind that a view can hold
    moment = datetime(2026, 3, 1, 12, 30, 0, 250_000, tzinfo=timezone(timedelta(hours=2)))
    con.execute("CREATE TABLE told AS SELECT 1 AS x")
    write(rooms, a="SELECT x + $more AS x, $name AS name, $sure AS sure, $moment AS moment FROM told")
    # When it is built, and what it reads grows afterwards
    sql.build(con, "features", {"more": 1, "name": "it's $more", "sure": True, "moment": moment})
    con.execute("INSERT INTO told VALUES (5)")
    # Then it shows what is there when it is read
    rows = con.execute("SELECT x, name, sure, epoch_us(moment) FROM features.a ORDER BY x").fetchall()
    instant = round(moment.timestamp() * 1_000_000)
    assert rows == [(2, "it's $more", True, instant), (6, "it's $more", True, instant)]
    # And a list, which has no literal of ours, asks for an order
    write(rooms, b="SELECT len($list) AS x")
    forget()
    with pytest.raises(ConfigurationError, match="order its rows"):
        sql.build(con, "features", {"more": 1, "name": "", "sure": True, "moment": moment, "list": [1]})


@pytest.mark.parametrize(
    "select",
    [f"SELECT CAST('{CANARY}' AS INTEGER) AS x FROM range(3)", "SELECT CAST(v AS DATE) AS x FROM told",
     "SELECT error(v) AS x FROM told"],
)  # fmt: skip
def test_what_duckdb_says_about_a_value_stays_inside(rooms: Path, con: duckdb.DuckDBPyConnection, select: str) -> None:
    con.execute(f"CREATE TABLE told AS SELECT '{CANARY}' AS v")
    write(rooms, a=f"{select} ORDER BY x")

    with pytest.raises(TailorbirdError, match=r"features\.a: DuckDB stopped with") as caught:
        sql.build(con, "features", {})

    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_every_file_of_ours_is_one_select_with_a_reason_at_its_head() -> None:
    forget()
    files = [(layer, name) for layer in sql.LAYERS[1:] for name in sql.order(layer)]

    assert len(files) == 20
    for layer, name in files:
        assert sql.text(layer, name).startswith("-- One row per "), f"{layer}/{name}"
        assert len(duckdb.extract_statements(sql.text(layer, name))) == 1


def test_every_file_of_ours_has_a_spec() -> None:
    root = Path(__file__).parents[1] / "sql"
    shared = {("staging", "activity"): "test_events.py"}

    unspecified = [
        f"{layer}/{name}" for layer in sql.LAYERS[1:] for name in sql.names(layer)
        if not (root / layer / shared.get((layer, name), f"test_{name}.py")).is_file()
    ]  # fmt: skip

    assert unspecified == []
