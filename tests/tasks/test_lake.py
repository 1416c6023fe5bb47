"""The lake on disk: one writer, no leftovers, and no damaged byte that goes unnoticed."""

from __future__ import annotations

import json
import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks import contracts, lake, owners, settings, shards
from tasks.errors import BlockedError, ConfigurationError, ConflictError
from tests.landings import Place, csv, event, files_of


def hold(folder: Path, seconds: float, held: Any) -> None:
    with lake.lock(folder):
        held.set()
        time.sleep(seconds)


def holder(folder: Path, seconds: float) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    process = context.Process(target=hold, args=(folder, seconds, held))
    process.start()
    assert held.wait(60)
    return process


@pytest.fixture
def full(place: Place) -> Place:
    place.land(
        "events/2011-09-30/a.csv", csv(*(event(n, user=f"u{n}") for n in range(20)), ["x", "u1", "none", "i", "2011"])
    )
    place.ingest()
    return place


def test_a_second_writer_is_refused_at_once_and_let_in_when_the_first_dies(tmp_path: Path) -> None:
    process = holder(tmp_path, 60)

    began = time.monotonic()
    with pytest.raises(ConflictError, match="another run holds the lock"), lake.lock(tmp_path):
        pass
    assert time.monotonic() - began < 2

    process.kill()
    process.join()
    with lake.lock(tmp_path):
        pass


def test_a_second_writer_may_wait(tmp_path: Path) -> None:
    process = holder(tmp_path, 0.5)

    with lake.lock(tmp_path, wait=60):
        pass

    process.join()


def test_what_no_manifest_names_is_swept_at_the_next_start(full: Place) -> None:
    before = files_of(full.lake)
    for leftover in ("history/events/bucket=001/.2011-10-01.abcd", "history/events/bucket=001/2011-10-01-0123.parquet",
                     "quarantine/events/bucket=001/x.parquet", "history/events/.manifest.json.12ab",
                     ".scratch/dead/night.duckdb"):  # fmt: skip
        (full.lake / leftover).parent.mkdir(parents=True, exist_ok=True)
        (full.lake / leftover).write_bytes(b"left behind")

    full.ingest()

    assert files_of(full.lake) == before
    assert not (full.lake / ".scratch").exists()


def test_one_flipped_bit_of_history_stops_the_run_and_names_the_file(full: Place) -> None:
    file = next((full.lake / "history" / "events").rglob("*.parquet"))
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 4
    file.write_bytes(bytes(content))

    with pytest.raises(BlockedError, match=file.name):
        full.history()
    full.land("events/2011-10-02/a.csv", csv(event(1, user="u1")))
    with pytest.raises(BlockedError, match=file.name):
        full.ingest()


def test_a_history_file_that_is_gone_stops_the_run_and_is_named(full: Place) -> None:
    file = next((full.lake / "history" / "events").rglob("*.parquet"))
    file.unlink()

    with pytest.raises(BlockedError, match=f"{file.name}: is gone or damaged"):
        full.history()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"contract": "x"}', '{"contract":"x","files":[{"a":1}],"ledger":[]}']
)
def test_a_damaged_manifest_says_what_to_do(full: Place, content: str) -> None:
    (full.lake / "history/events/manifest.json").write_text(content)

    with pytest.raises(BlockedError, match=r"manifest\.json: is damaged; restore it, or delete the folder"):
        full.ingest()


def test_a_deleted_history_is_ingested_anew(full: Place) -> None:
    before = files_of(full.lake)
    (full.lake / "history/events/manifest.json").unlink()

    full.ingest()

    assert files_of(full.lake) == before


def test_the_number_of_buckets_is_fixed_when_the_lake_is_made(full: Place) -> None:
    full.config = full.root / "other.toml"
    full.config.write_text("[lake]\nbuckets = 3\n")
    full.land("events/2011-10-02/a.csv", csv(event(99, user="u1")))
    full.ingest()

    assert json.loads((full.lake / "lake.json").read_text()) == {"buckets": 40}
    (full.lake / "lake.json").write_text("{}")
    with pytest.raises(ConfigurationError, match=r"lake\.json: is damaged"):
        lake.bucket_count(full.lake, full.run("2011-10-31").config)


def test_a_person_is_in_one_bucket_and_the_anonymous_have_their_own(full: Place) -> None:
    full.land("events/2011-10-01/a.csv", csv(event(1, user=""), event(30, user="u3")))
    full.ingest()

    folders = {f.parent.name for f in (full.lake / "history/events").rglob("*.parquet")}
    with lake.connect(":memory:", full.run("2011-10-31").config) as connection:
        ((bucket,), (anonymous,)) = connection.execute(
            f"SELECT {owners.bucket_of('id', 40)} FROM (VALUES ('u3'), (NULL)) AS people(id)"
        ).fetchall()
    assert f"bucket={bucket:03d}" in folders
    assert anonymous == 40
    assert "bucket=040" in folders


def test_tables_in_memory_are_those_of_all_connections_and_spill_where_they_have_no_room(tmp_path: Path) -> None:
    # given: memory for a third of the table
    config = settings.load_config(None)
    small = config.model_copy(update={"run": config.run.model_copy(update={"memory": "60MB"})})
    name, spill = f":memory:{tmp_path}", tmp_path / "spill"

    # when one connection makes it, and another one reads it after that one has gone
    first, second = lake.connect(name, small, spill), lake.connect(name, small, spill)
    first.execute("CREATE TABLE t AS SELECT i, hash(i) AS h, md5(i::VARCHAR) AS text FROM range(3000000) AS of(i)")
    first.close()

    # then
    assert second.execute("SELECT count(*), sum(i)::BIGINT FROM t WHERE h = hash(i)").fetchall() == [
        (3_000_000, 3_000_000 * 2_999_999 // 2)
    ]
    assert sum(file.stat().st_size for file in spill.iterdir()) > 0
    second.close()
    with lake.connect(name, small, spill) as nobody:
        assert nobody.execute("SELECT count(*) FROM information_schema.tables").fetchall() == [(0,)]


@pytest.mark.parametrize("long", [0, 10_000], ids=["read in place", "loaded"])
def test_a_column_that_came_with_a_later_contract_is_empty(
    full: Place, long: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given
    monkeypatch.setattr(shards, "LONG", long)
    run, before = full.run("2011-10-31"), contracts.load("landing", "events")
    later = replace(before, columns=(*before.columns, replace(before.column("device"), name="shape")))
    with lake.connect(":memory:", run.config) as con:
        # when: twice, as a relearning and its night do
        for _ in range(2):
            rows = shards.open_table(con, run.lake, later, run.as_of, in_place=True)
        # then
        assert con.execute("SELECT count(*), count(user_id), count(shape) FROM history.events").fetchall() == [
            (rows, rows, 0)
        ]
        assert rows == 20
