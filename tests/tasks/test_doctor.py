"""The promises of the doctor: it finds what is broken, names it, and mends a moved lake."""

import json
import shutil
from pathlib import Path

import duckdb

from tasks import doctor, lake, publication, shards
from tasks.shards import Manifest, StoredFile
from tests.published import TABLES, filled, night, settings


def a_lake(home: Path) -> Path:
    """A lake with two publications and one verified file of history."""
    for day, word in (("2011-11-09", "one"), ("2011-11-10", "two")):
        publication.publish(filled(word=word), night(home, day), TABLES, {})
    folder = home / "history" / "events" / "bucket=000"
    folder.mkdir(parents=True)
    file = folder / "2011-11-10-x.parquet"
    duckdb.execute(f"COPY (SELECT 1 AS i) TO '{file}'")
    stored = StoredFile("history", 0, "2011-11-10", file.name, lake.sha256(file), file.stat().st_size, 1)
    shards.commit_manifest(home, "events", Manifest("c", (stored,), ()))
    return home


def damage(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)


def contents(home: Path) -> dict[str, bytes | None]:
    return {str(f.relative_to(home)): f.read_bytes() if f.is_file() else None for f in home.rglob("*")}


def test_a_lake_in_order_is_healthy_and_is_not_touched(tmp_path: Path) -> None:
    home = a_lake(tmp_path / "lake")
    before = contents(home)
    report = doctor.examine(home, settings(), mend=True)
    assert report["healthy"], report["problems"]
    assert report["history"] == {"events": {"files": 1, "rows": 1, "intact": True}}
    assert [(p["as_of"], p["intact"], p["views"]) for p in report["publications"]] == [
        ("2011-11-09", True, "fit"),
        ("2011-11-10", True, "fit"),
    ]
    assert report["pointer"] == report["publications"][1]["id"]
    assert contents(home) == before


def test_the_report_is_plain_data_with_the_versions_of_what_matters(tmp_path: Path) -> None:
    report = json.loads(json.dumps(doctor.examine(tmp_path / "none", settings())))
    assert report["healthy"]
    assert set(report["versions"]) == {"python", *doctor.PACKAGES}
    assert "missing" not in report["versions"].values()
    assert report["space"]["free_bytes"] > 0
    assert not (tmp_path / "none").exists()


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    home = a_lake(tmp_path / "lake")
    damage(next((home / "history").rglob("*.parquet")))
    damage(next((home / "current").glob("recommendations/*/*.parquet")))
    report = doctor.examine(home, settings(), mend=True)
    assert not report["healthy"]
    assert report["history"]["events"]["intact"] is False
    assert [p["intact"] for p in report["publications"]] == [True, False]
    assert len(report["problems"]) == 2


def test_a_moved_lake_is_noticed_and_mended(tmp_path: Path) -> None:
    # Given a lake that was moved
    a_lake(tmp_path / "old")
    moved = tmp_path / "new"
    shutil.move(tmp_path / "old", moved)

    # When it is examined, then its views name another folder
    assert [p["views"] for p in doctor.examine(moved, settings())["publications"]] == ["wrong", "wrong"]
    assert not doctor.examine(moved, settings())["healthy"]

    # When it is mended, then it is healthy and can be read, comments and all
    mended = doctor.examine(moved, settings(), mend=True)
    assert [p["views"] for p in mended["publications"]] == ["mended", "mended"]
    assert mended["healthy"]
    assert doctor.examine(moved, settings())["healthy"]
    with duckdb.connect(str((moved / "serving.duckdb").resolve()), read_only=True) as con:
        assert con.execute("SELECT count(*), min(reason) FROM recommendations").fetchall() == [(200, "two")]
        said = con.execute("SELECT comment FROM duckdb_views() WHERE view_name = 'recommendations'").fetchall()
        assert "All of recommendations." in said[0][0]


def test_a_pointer_to_nowhere_is_found(tmp_path: Path) -> None:
    home = a_lake(tmp_path / "lake")
    shutil.rmtree((home / "current").resolve())
    report = doctor.examine(home, settings())
    assert (report["healthy"], report["pointer"]) == (False, None)
    (home / "current").unlink()
    assert "is gone" in doctor.examine(home, settings())["problems"][0]
