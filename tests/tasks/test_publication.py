"""The promises of publishing: the same rows make the same publication, and readers see one whole publication."""

import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from tasks import content, contracts, publication, serving, shelf
from tasks.errors import BlockedError, ConfigurationError
from tasks.lake import connect
from tasks.owners import bucket_of
from tests.published import (
    LISTS,
    ROWS,
    TABLES,
    column,
    contract,
    current,
    fill,
    fill_from_contracts,
    filled,
    night,
    put,
    served,
    settings,
)

CANARY = "canary-4711"


def digests(lake: Path) -> dict[str, str]:
    manifest = shelf.read_manifest((lake / "current").resolve())
    assert manifest
    return {file["path"]: file["sha256"] for file in shelf.files(manifest)}


def test_the_same_rows_are_the_same_publication_in_any_folder_order_zone_and_number_of_threads(tmp_path: Path) -> None:
    # Given one night's rows, and the same rows the other way round on another machine
    here, there = tmp_path / "here", tmp_path / "there"
    one = publication.publish(filled(people=60), night(here), TABLES, {})
    other = filled(people=60)
    other.execute("SET threads = 1; SET TimeZone = 'America/New_York'")
    other.execute("CREATE TABLE turned AS SELECT * FROM marts.recommendations ORDER BY item_id DESC, user_id DESC")
    other.execute("DROP TABLE marts.recommendations; CREATE TABLE marts.recommendations AS FROM turned")

    # When both are published
    two = publication.publish(other, night(there), TABLES, {})

    # Then they are one publication, to the byte
    assert (one.publication, one.content_hash) == (two.publication, two.content_hash)
    assert digests(here) == digests(there)
    assert len(digests(here)) > 5


def test_a_file_of_several_row_groups_has_the_same_bytes_at_one_and_two_threads(tmp_path: Path) -> None:
    big = contract("big", column("id", "BIGINT", key=1), column("text"), column("at_", "TIMESTAMPTZ"))
    found = []
    for threads in (1, 2):
        config = settings()
        config = config.model_copy(update={"run": config.run.model_copy(update={"threads": threads})})
        con = connect(":memory:", config)
        fill(con)
        con.execute(
            "CREATE TABLE marts.big AS SELECT i AS id, md5(i::VARCHAR) AS text, "
            "to_timestamp(i) AS at_ FROM range(300_000) AS t(i) ORDER BY hash(i)"
        )
        done = publication.publish(con, night(tmp_path / str(threads), config=config), (big, *TABLES), {})
        found.append((done.content_hash, digests(tmp_path / str(threads))))
    assert found[0] == found[1]


def arranged(con: duckdb.DuckDBPyConnection) -> list[content.Part]:
    con.execute("CREATE OR REPLACE SCHEMA publication")
    return content.arrange(con, LISTS, settings().lake.buckets)


def shelved(**given: int) -> duckdb.DuckDBPyConnection:
    """Lists in the order of their publication."""
    con = filled(**given)
    order = f"{bucket_of('user_id', settings().lake.buckets)}, user_id, position"
    con.execute(f"CREATE OR REPLACE TABLE marts.recommendations AS FROM marts.recommendations ORDER BY {order}")
    return con


def test_rows_that_lie_in_order_are_published_as_they_lie_and_say_the_same() -> None:
    # Given lists in the order of their people, and the same in the order of their publication
    con, laid = filled(people=60), shelved(people=60)

    # When both are arranged
    made, found = arranged(con), arranged(laid)

    # Then only the first had to be written once more, and both say the same
    assert {part.source for part in made} == {'publication."recommendations"'}
    assert {part.source for part in found} == {'marts."recommendations"'}
    assert [replace(part, source="") for part in made] == [replace(part, source="") for part in found]


@pytest.mark.parametrize(
    "spoil",
    [
        "DELETE FROM marts.recommendations WHERE position = 3",
        "UPDATE marts.recommendations SET position = 1 WHERE position = 2",
        "UPDATE marts.recommendations SET context = NULL WHERE position = 2",
        "ALTER TABLE marts.recommendations ALTER score TYPE FLOAT",
        "INSERT INTO marts.recommendations FROM marts.recommendations LIMIT 1",
        "ALTER TABLE marts.recommendations RENAME TO kept; CREATE VIEW marts.recommendations AS FROM marts.kept",
    ],
)
def test_rows_that_do_not_lie_in_order_are_put_in_order(spoil: str) -> None:
    con = shelved()
    con.execute(spoil)
    assert {part.source for part in arranged(con)} == {'publication."recommendations"'}


@pytest.mark.parametrize("name", [c.name for c in LISTS.columns])
def test_any_changed_cell_is_another_publication(tmp_path: Path, name: str) -> None:
    before = put(tmp_path)
    con = filled()
    value = {"position": "77", "score": "nextafter(score, 9)"}.get(name, "'other'")
    con.execute(f"UPDATE marts.recommendations SET {name} = {value} WHERE user_id = 'u3' AND position = 2")
    assert publication.publish(con, night(tmp_path), TABLES, {}).content_hash != before.content_hash


def test_null_is_not_empty_and_text_does_not_slip_into_the_next_column(tmp_path: Path) -> None:
    hashes = set()
    variants = [("NULL", "'ab'"), ("''", "'ab'"), ("'-'", "'ab'"), ("'a'", "'b'"), ("'ab'", "''"), ("'ab'", "NULL")]
    for item, reason in variants:
        con = filled(people=1)
        con.execute(f"UPDATE marts.recommendations SET item_id = {item}, reason = {reason} WHERE position = 1")
        hashes.add(publication.publish(con, night(tmp_path), TABLES, {}).content_hash)
    assert len(hashes) == len(variants)


def test_the_same_night_again_is_unchanged_and_writes_nothing(tmp_path: Path) -> None:
    first = put(tmp_path)
    before = {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")}
    again = put(tmp_path)
    assert (first.status, again.status) == ("published", "unchanged")
    assert again.tables == {"recommendations": 200, "default_recommendations": 5}
    assert {f: f.stat().st_mtime_ns for f in tmp_path.rglob("*")} == before


def test_an_earlier_day_is_published_beside_the_current_one(tmp_path: Path) -> None:
    later = put(tmp_path, "2011-11-10")
    earlier = put(tmp_path, "2011-11-09", word="earlier")
    assert earlier.status == "published"
    assert current(tmp_path) == later.publication
    assert [(p.as_of, p.current, p.complete) for p in publication.publications(tmp_path)] == [
        ("2011-11-09", False, True),
        ("2011-11-10", True, True),
    ]
    assert put(tmp_path, "2011-11-09", word="earlier").status == "unchanged"


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        ("DROP TABLE marts.recommendations", "was not built"),
        ("ALTER TABLE marts.recommendations ADD COLUMN extra INTEGER", "extra"),
        ("ALTER TABLE marts.recommendations DROP COLUMN reason", "reason"),
        (f"ALTER TABLE marts.recommendations ALTER position TYPE VARCHAR USING '{CANARY}'", "contract's types"),
    ],
)
def test_a_table_that_is_not_its_contract_is_refused_without_quoting_a_value(
    tmp_path: Path, spoil: str, says: str
) -> None:
    con = filled()
    con.execute(spoil)
    with pytest.raises(ConfigurationError, match=says) as refused:
        publication.publish(con, night(tmp_path), TABLES, {})
    assert CANARY not in str(refused.value)
    assert not (tmp_path / "current").exists()


def test_columns_take_the_types_of_the_contract(tmp_path: Path) -> None:
    con = filled()
    con.execute("ALTER TABLE marts.recommendations ALTER position TYPE BIGINT")
    assert publication.publish(con, night(tmp_path), TABLES, {}).content_hash == put(tmp_path / "b").content_hash
    assert served(tmp_path, "SELECT DISTINCT typeof(position) FROM recommendations") == [("INTEGER",)]


def test_every_mart_that_has_a_contract_can_be_published_with_the_views_of_the_house(tmp_path: Path) -> None:
    tables = contracts.all_of("marts")
    assert tables
    con = duckdb.connect()
    fill_from_contracts(con, tables)
    missing = [t for t in TABLES if t.name not in contracts.names("marts")]
    fill_from_contracts(con, missing)
    done = publication.publish(con, night(tmp_path), (*tables, *missing), serving.ratio_views())
    assert set(done.tables.values()) == {ROWS}
    for table in done.tables:
        assert served(tmp_path, f'SELECT count(*) FROM "{table}"') == [(ROWS,)]
    assert served(tmp_path, "SELECT count(*) FROM recommendations_for('nobody', 'nowhere')") == [(0,)]
    for view in serving.ratio_views():
        assert served(tmp_path, f'SELECT count(*) > 0 FROM "{view}"') == [(True,)]


def test_a_failed_gate_publishes_nothing_and_yesterday_stays(tmp_path: Path) -> None:
    yesterday = put(tmp_path, "2011-11-09")
    with pytest.raises(BlockedError, match=r"people is 0\.25"):
        put(tmp_path, "2011-11-10", people=10)
    assert current(tmp_path) == yesterday.publication
    assert [f.name for f in (tmp_path / "publications").iterdir()] == [yesterday.publication]


def test_rollback_goes_to_the_previous_day_and_holds_until_the_next_night(tmp_path: Path) -> None:
    # Given two days, of which the second was published twice
    day9 = put(tmp_path, "2011-11-09")
    put(tmp_path, "2011-11-10", word="first")
    day10 = put(tmp_path, "2011-11-10", word="second")

    # When it is only tried, then nothing moves
    assert publication.rollback(tmp_path, dry_run=True).id == day9.publication
    assert current(tmp_path) == day10.publication

    # When it is done, then a backfill of an earlier day does not undo it, and the next night does
    assert publication.rollback(tmp_path).id == day9.publication
    put(tmp_path, "2011-11-08", word="backfill")
    assert current(tmp_path) == day9.publication
    assert put(tmp_path, "2011-11-10", word="second").status == "published"
    assert current(tmp_path) == day10.publication


def test_rollback_refuses_what_is_not_there_and_what_is_damaged(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="earlier"):
        publication.rollback(tmp_path)
    old = put(tmp_path, "2011-11-09")
    new = put(tmp_path, "2011-11-10", word="new")
    with pytest.raises(ConfigurationError, match="such"):
        publication.rollback(tmp_path, "2011-11-09-000000000000")
    flip(next((tmp_path / "publications" / old.publication).glob("recommendations/*/*.parquet")))
    with pytest.raises(BlockedError, match="damaged"):
        publication.rollback(tmp_path, old.publication)
    assert current(tmp_path) == new.publication


def test_pruning_keeps_the_newest_the_current_and_what_readers_may_hold_open(tmp_path: Path) -> None:
    ids = [put(tmp_path, f"2011-11-0{day}", word=f"w{day}").publication for day in range(1, 6)]
    publication.rollback(tmp_path, ids[0])
    config = settings(keep_publications=2, grace_seconds=3600)

    # Given all of them are young, nothing goes
    assert publication.prune(tmp_path, config) == []

    # When one left the pointer long ago, it alone goes; the current one never
    for name in (ids[0], ids[2], ids[4]):
        os.utime(tmp_path / "publications" / name, (time.time() - 7200,) * 2)
    assert publication.prune(tmp_path, config) == [ids[2]]
    assert served(tmp_path, "SELECT count(*) FROM recommendations") == [(200,)]
    assert [p.id for p in publication.publications(tmp_path)] == [ids[0], ids[1], ids[3], ids[4]]


def test_the_grace_begins_when_the_pointer_moves_on(tmp_path: Path) -> None:
    old = put(tmp_path, "2011-11-09")
    os.utime(tmp_path / "publications" / old.publication, (time.time() - 7200,) * 2)
    put(tmp_path, "2011-11-10", word="new")
    assert publication.prune(tmp_path, settings(keep_publications=1)) == []


def test_what_a_killed_run_left_is_swept_and_nothing_else(tmp_path: Path) -> None:
    done = put(tmp_path, "2011-11-10")
    half = put(tmp_path, "2011-11-09", word="half")
    home = tmp_path / "publications"
    (home / half.publication / "serving.duckdb").unlink()
    for leftover in (".staging-1", ".trash-2"):
        (home / leftover / "recommendations").mkdir(parents=True)
    (tmp_path / ".current.0123abcd").symlink_to("publications/x")
    assert publication.sweep(tmp_path) == [".current.0123abcd", ".staging-1", ".trash-2", half.publication]
    assert [f.name for f in home.iterdir()] == [done.publication]
    assert publication.sweep(tmp_path) == []


def test_a_damaged_publication_is_made_anew_by_its_night(tmp_path: Path) -> None:
    first = put(tmp_path)
    flip(next((tmp_path / "current").glob("recommendations/*/*.parquet")))
    assert not shelf.intact((tmp_path / "current").resolve())
    again = put(tmp_path)
    assert (again.status, again.content_hash) == ("published", first.content_hash)
    assert shelf.intact((tmp_path / "current").resolve())


def test_a_scratch_file_is_published_and_left_as_it_was(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch.duckdb"
    with duckdb.connect(str(scratch)) as con:
        fill(con)
    publication.publish(scratch, night(tmp_path / "lake"), TABLES, {})
    with duckdb.connect(str(scratch)) as con:
        assert con.execute("SELECT DISTINCT schema_name FROM duckdb_tables()").fetchall() == [("marts",)]


def test_publications_tell_what_is_on_disk_even_when_a_manifest_is_damaged(tmp_path: Path) -> None:
    done = put(tmp_path)
    (known,) = publication.publications(tmp_path)
    assert (known.rows, known.content_hash) == (205, done.content_hash)
    assert datetime.fromisoformat(known.cut) == night(tmp_path).as_of
    (tmp_path / "current" / "manifest.json").write_text("{")
    (known,) = publication.publications(tmp_path)
    assert (known.complete, known.current, known.rows) == (False, True, 0)


def flip(file: Path) -> None:
    """One bit of the middle of a file."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
