import hashlib
import json
import os
from pathlib import Path

import duckdb
import pytest

from tasks import sources
from tasks.errors import ConfigurationError, MissingInputError

HEADER = ",".join(sources.ONLINE_RETAIL_COLUMNS)
DATA = Path(os.environ.get("TAILORBIRD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data")) / "online-retail"
DAYS = {
    "2011-01-10": [
        "1,10001,RED CUP,2,2011-01-10 09:00:00,1.5,17850.0,United Kingdom",
        '1,10002,"CUP, ""BLUE""",1,2011-01-10 09:00:00,2.5,17850.0,United Kingdom',
        "2,10003,check,-1,2011-01-10 10:00:00,0.0,,United Kingdom",
    ],
    "2011-01-12": [
        "3,10001,NEW CUP,1,2011-01-12 09:00:00,9.0,17850.0,EIRE",
        "3,10003,GREEN CUP,1,2011-01-12 09:00:00,4.0,17851.0,EIRE",
    ],
    "2011-01-13": ["C4,POST,POSTAGE,-1,2011-01-13 09:00:00,18.0,17851.0,EIRE"],
}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "shop [1]*" / "by-day"
    folder.mkdir(parents=True)
    for day, lines in DAYS.items():
        (folder / f"{day}.csv").write_text("\n".join([HEADER, *lines]) + "\n", encoding="utf-8")
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_a_day_becomes_a_landing_date_and_the_counts_say_so(source: Path, tmp_path: Path) -> None:
    counts = sources.run("online-retail", source, tmp_path / "landing")

    assert counts == {"days": 3, "events": 6, "anonymous": 1, "returns": 2, "items": 3, "users": 2, "files": 7}
    folders = {f"{f.parent.parent.name}/{f.parent.name}" for f in (tmp_path / "landing").rglob("*.parquet")}
    assert folders == {f"events/{day}" for day in DAYS} | {
        "items/2011-01-10", "items/2011-01-12", "users/2011-01-10", "users/2011-01-12"}  # fmt: skip


def test_the_folder_above_by_day_is_taken_too(source: Path, tmp_path: Path) -> None:
    sources.run("online-retail", source, tmp_path / "a")
    sources.run("online-retail", source.parent, tmp_path / "b")

    assert tree(tmp_path / "a") == tree(tmp_path / "b")


def test_nothing_in_a_folder_comes_from_a_later_day(source: Path, tmp_path: Path) -> None:
    sources.run("online-retail", source, tmp_path / "whole")
    (source / "2011-01-12.csv").unlink()
    (source / "2011-01-13.csv").unlink()
    sources.run("online-retail", source, tmp_path / "early")

    early, whole = tree(tmp_path / "early"), tree(tmp_path / "whole")
    assert len(early) == 6
    assert early == {name: content for name, content in whole.items() if "2011-01-10" in name}


def test_importing_again_writes_the_same_bytes(source: Path, tmp_path: Path) -> None:
    sources.run("online-retail", source, tmp_path / "landing")
    before = tree(tmp_path / "landing")
    sources.run("online-retail", source, tmp_path / "landing")

    assert tree(tmp_path / "landing") == before


def test_a_manifest_declares_what_is_there_and_keeps_what_others_declared(source: Path, tmp_path: Path) -> None:
    folder = tmp_path / "landing" / "events" / "2011-01-10"
    folder.mkdir(parents=True)
    (folder / "other.csv").write_text("event_id\n", encoding="utf-8")
    sources.write_manifest(folder, {"other.csv": 0})

    sources.run("online-retail", source, tmp_path / "landing")

    files = json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))["files"]
    content = (folder / "online-retail.parquet").read_bytes()
    assert [f["name"] for f in files] == ["online-retail.parquet", "other.csv"]
    assert files[0] == {"name": "online-retail.parquet", "sha256": hashlib.sha256(content).hexdigest(),
                        "bytes": len(content), "rows": 3}  # fmt: skip


def test_csv_holds_the_same_rows_with_explicit_offsets(source: Path, tmp_path: Path) -> None:
    sources.run("online-retail", source, tmp_path / "landing", "csv")

    text = (tmp_path / "landing" / "events" / "2011-01-10" / "online-retail.csv").read_text(encoding="utf-8")
    assert len(text.splitlines()) == 4
    assert "2011-01-10 09:00:00+00" in text


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="no such folder"):
        sources.run("online-retail", tmp_path / "nowhere", tmp_path)
    with pytest.raises(MissingInputError, match="holds no daily file"):
        sources.run("online-retail", tmp_path, tmp_path)
    with pytest.raises(ConfigurationError, match="known are complete-journey, movielens, online-retail"):
        sources.run("offline-retail", tmp_path, tmp_path)


@pytest.mark.parametrize("line", ["1,10001,SECRET,two,2011-01-10 09:00:00,1.5,17850.0,EIRE", "SECRET,1", 'x,"SECRET'])
def test_a_file_of_another_shape_is_refused_without_its_values(source: Path, tmp_path: Path, line: str) -> None:
    (source / "2011-01-10.csv").write_text(f"{HEADER}\n{line}\n", encoding="utf-8")

    with pytest.raises(ConfigurationError) as refused:
        sources.run("online-retail", source, tmp_path / "landing")

    assert "SECRET" not in str(refused.value) and refused.value.__suppress_context__
    assert not (tmp_path / "landing").exists()


def test_another_header_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "2011-01-10.csv").write_text("a,b\n1,2\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match="its first line must be InvoiceNo"):
        sources.run("online-retail", source, tmp_path / "landing")


@pytest.mark.skipif(
    not (DATA / "by-day").is_dir(), reason=f"the real data set is not at {DATA.name} under ../shared/data"
)
def test_the_real_data_set_lands_whole(tmp_path: Path) -> None:
    counts = sources.run("online-retail", DATA, tmp_path)

    assert counts == {"days": 305, "events": 541_909, "anonymous": 135_080, "returns": 10_624, "items": 3_942,
                      "users": 4_372, "files": 879}  # fmt: skip
    with duckdb.connect(":memory:") as con:
        ids = con.execute(f"SELECT count(DISTINCT event_id) FROM '{tmp_path}/events/*/*.parquet'").fetchone()
    assert ids == (541_909,)
