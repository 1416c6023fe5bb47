"""The search can see: an id is found in every encoding, in every kind of file, in every place, and nobody else's is."""

import gzip
import sqlite3
from collections import Counter
from pathlib import Path

import duckdb
import numpy as np
import pytest

from tasks import needles, scan

PERSON = "person/ä-000000000000001"
NUMBER = "123456789012345"
FORMS = [(name, kind) for name in (PERSON, NUMBER) for kind in needles.forms(name)]
PLACES = ("landing", "lake", "prefect", "temp")


def look(root: Path, *names: str) -> dict[str, int]:
    """Hits by the place that was looked at, without the part of it."""
    others = [(place, root / place) for place in PLACES[2:]]
    found = scan.scan(root / "landing", root / "lake", names, others)
    return {place.split("/")[0]: 1 for place, hits in found.items() if hits}


@pytest.mark.parametrize(("name", "kind"), FORMS, ids=[f"{len(name)} {kind}" for name, kind in FORMS])
def test_every_encoding_is_found_among_other_bytes(tmp_path: Path, name: str, kind: str) -> None:
    file = tmp_path / "prefect" / "storage" / "result"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"\0\xff" * 1000 + needles.forms(name)[kind] + b"\xfe" * 99)

    assert look(tmp_path, name) == {"prefect": 1}
    assert look(tmp_path, "somebody-else-0001") == {}
    # So many that they are looked for together.
    assert look(tmp_path, name, *(f"somebody-else-{n:04}" for n in range(9))) == {"prefect": 1}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["text", "packed", "parquet", "arrays", "sqlite", "log of sqlite", "duckdb"])
def test_every_kind_of_file_is_looked_into_everywhere(tmp_path: Path, place: str, kind: str) -> None:
    folder = tmp_path / place / "somewhere"
    folder.mkdir(parents=True)
    open_database = None
    if kind == "text":
        (folder / "notes.log").write_text(f"who: {PERSON}.")
    elif kind == "packed":
        (folder / "a.csv.gz").write_bytes(gzip.compress(f"user_id\n{PERSON}\n".encode()))
    elif kind == "parquet":
        duckdb.execute(f"COPY (SELECT '{PERSON}' AS user_id FROM range(9)) TO '{folder}/a.parquet' (COMPRESSION zstd)")
    elif kind == "arrays":
        np.savez_compressed(folder / "a.npz", people=np.array([PERSON.encode()]))
    elif kind == "duckdb":
        with duckdb.connect(str(folder / "a.duckdb")) as con:
            con.execute(f"CREATE TABLE people AS SELECT '{PERSON}' AS user_id")
    else:
        open_database = sqlite3.connect(folder / "a.db")
        open_database.execute(f"PRAGMA journal_mode = {'WAL' if kind.startswith('log') else 'DELETE'}")
        open_database.execute("CREATE TABLE people (id TEXT)")
        open_database.execute("INSERT INTO people VALUES (?)", [PERSON])
        open_database.commit()

    assert look(tmp_path, PERSON) == {place: 1}
    if open_database:
        open_database.close()


def test_a_trace_across_the_border_of_two_blocks_is_found_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.needles.BLOCK", 64)
    for others in ((), tuple(f"somebody-else-{n:04}" for n in range(9))):
        for before in range(50, 70):
            file = tmp_path / "temp" / "spill"
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(b"x" * before + PERSON.encode() + b"y" * 200)
            found = scan.scan(tmp_path / "landing", tmp_path / "lake", [PERSON, *others], [("temp", tmp_path / "temp")])
            assert found["temp"] == 1


SHORT = "17850"
SOMEBODY = "somebody-else-0001"
PEOPLE = f"unnest(['{PERSON}', '{PERSON}', '{SHORT}', '{SOMEBODY}'])"
EVENTS = f"SELECT {PEOPLE} AS user_id, 'view' AS event_type, 7 AS position"
FILES: dict[str, str | bytes] = {
    "events/2026-01-01/a.parquet": EVENTS,
    "events/2026-01-02/b [1]*?.parquet": EVENTS,
    "events/2026-01-02/c.parquet": f"SELECT {PEOPLE} AS item_id, 'x' AS user_id",
    "events/2026-01-03/d.parquet": f"SELECT {PEOPLE} AS user_id, DATE '2026-01-03' AS position",
    "events/2026-01-03/nobody.parquet": f"{EVENTS} LIMIT 0",
    "events/2026-01-03/no parquet.parquet": f"user_id\n{PERSON}\n{SHORT}\n".encode(),
    "events/2026-01-03/nothing.parquet": b"",
    "events/2026-01-04/e.csv": f"user_id,item_id\n{PERSON},x\n{SHORT},y\ny,{SHORT}\n{SOMEBODY},z\n".encode(),
    "events/2026-01-04/f.csv.gz": gzip.compress(f"user_id\n{PERSON}\n{SHORT}\n".encode()),
    "users/2026-01-01/a.parquet": EVENTS,
    "users/2026-01-01/b.jsonl": f'{{"user_id": "{SHORT}", "note": "{NUMBER}"}}\n'.encode(),
}
"""Landed files, by what is in them or by the query for it."""


def written(root: Path, *paths: str) -> dict[str, int]:
    """Hits by place in a landing of these files, for people of long and of short ids."""
    for path in paths:
        file, told = root / "landing" / path, FILES[path]
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(told, bytes):
            file.write_bytes(told)
        else:
            duckdb.execute(f"COPY ({told}) TO '{root}/fresh' (FORMAT parquet)")
            (root / "fresh").rename(file)
    return scan.scan(root / "landing", root / "lake", [PERSON, SHORT, NUMBER])


@pytest.mark.parametrize("at_once", [1, 2, 1000])
def test_many_files_at_once_hold_what_each_of_them_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("tasks.scan.AT_ONCE", at_once)
    alone: Counter[str] = Counter()
    for number, path in enumerate(FILES):
        alone.update(written(tmp_path / str(number), path))

    together = written(tmp_path / "all", *FILES)

    assert together == alone
    # A Parquet file of events: three rows and one more in its bytes or statistics. Where people are items, only the
    # two rows with the long id; in a file that is no Parquet that id; in a text one of each kind.
    assert together["landing/events"] == 3 * 4 + 2 + 1 + 2 * 2
    assert together["landing/users"] == 4 + 2
