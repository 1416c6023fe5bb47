import hashlib
import json
import os
from pathlib import Path

import duckdb
import pytest

from tasks import sources
from tasks.errors import ConfigurationError, MissingInputError

HEADER = ",".join(sources.ONLINE_RETAIL_COLUMNS)
REAL = Path(os.environ.get("TAILORBIRD_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
DATA = REAL / "online-retail"
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


def movielens(folder: Path, until: int) -> Path:
    """Three months of ratings and tags, as far as month `until`."""
    folder.mkdir(parents=True)
    seconds = (946_728_000, 949_406_400, 951_912_000)[:until]  # January, February, March 2000
    ratings = [f"{person},{film},4.5,{when + person}" for when in seconds for person in (1, 2) for film in (3, 4)]
    tags = [f'{person},3,"of, {when}",{when}' for when in seconds for person in (1, 2)]
    movies = ['3,"Cup, The (1999)",Comedy|Drama', "4,New (2001),Drama", "5,Untouched (1950),War", "6,Undated,War"]
    for name, lines in {"movies": movies, "ratings": ratings, "tags": tags}.items():
        text = "\r\n".join([",".join(sources.MOVIELENS_FILES[name]), *lines, ""])
        (folder / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    return folder


def complete_journey(folder: Path, until: int) -> Path:
    """Three days of receipts, as far as day `until`; another product is sold first on each."""
    folder.mkdir(parents=True)
    rows = {
        "transactions": [("1", f"b{day}", f"p{product}", 2.0, 3.0 * day, 0.5, 0.0, f"2017-01-0{day} 10:00:00+00")
                         for day in (1, 2, 3)[:until] for product in range(1, day + 1)],
        "products": [(f"p{product}", "9", "GROCERY", "National", "ICE", "CRUSHED", None) for product in range(1, 6)],
        "demographics": [("1", "65+", "15-24K"), ("2", "19-24", None)],
    }  # fmt: skip
    with duckdb.connect(":memory:") as con:
        for name, columns in sources.COMPLETE_JOURNEY_FILES.items():
            con.execute(f"CREATE TABLE {name} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
            con.executemany(f"INSERT INTO {name} VALUES ({', '.join('?' * len(columns))})", rows[name])
            con.execute(f"COPY {name} TO '{folder / name}.parquet' (FORMAT parquet)")
    return folder


MADE = {"movielens": movielens, "complete-journey": complete_journey}


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


@pytest.mark.parametrize("name", MADE)
def test_the_other_sets_keep_the_laws_of_the_first(name: str, tmp_path: Path) -> None:
    # given the same source, whole and as it was before its last month or day
    whole, early = MADE[name](tmp_path / "source", 3), MADE[name](tmp_path / "early source", 2)

    counts = sources.run(name, whole, tmp_path / "whole")
    sources.run(name, whole, tmp_path / "again")
    sources.run(name, early, tmp_path / "early")

    made, before = tree(tmp_path / "whole"), tree(tmp_path / "early")
    folders = sorted({Path(path).parts[1] for path in made})
    assert made == tree(tmp_path / "again")
    assert counts["days"] == len(folders) == 3 and counts["files"] * 2 == len(made)
    assert before and before == {path: made[path] for path in made if Path(path).parts[1] < folders[-1]}


def test_counts_of_the_other_sets_say_what_landed(tmp_path: Path) -> None:
    films = sources.run("movielens", movielens(tmp_path / "a", 3), tmp_path / "landing")
    shop = sources.run("complete-journey", complete_journey(tmp_path / "b", 3), tmp_path / "landing")

    assert films == {"days": 3, "events": 18, "anonymous": 0, "returns": 0, "items": 3, "users": 2, "files": 4}
    assert shop == {"days": 3, "events": 6, "anonymous": 0, "returns": 0, "items": 5, "users": 2, "files": 7}


@pytest.mark.parametrize("name", MADE)
def test_a_missing_or_foreign_file_of_the_other_sets_is_named_without_its_values(name: str, tmp_path: Path) -> None:
    source = MADE[name](tmp_path / "source", 1)
    file = next(iter(sorted(source.iterdir())))
    file.write_text("SECRET,1\n", encoding="utf-8")

    with pytest.raises(ConfigurationError, match=file.name) as refused:
        sources.run(name, source, tmp_path / "landing")
    file.unlink()
    with pytest.raises(MissingInputError, match=file.name):
        sources.run(name, source, tmp_path / "landing")

    error = refused.value
    assert "SECRET" not in str(error) and (error.__context__ is None or error.__suppress_context__)
    assert not (tmp_path / "landing").exists()


def test_a_rating_that_is_no_number_is_refused_without_its_value(tmp_path: Path) -> None:
    source = movielens(tmp_path / "source", 1)
    with (source / "ratings.csv").open("a", encoding="utf-8", newline="") as ratings:
        ratings.write("1,3,SECRET,946728000\r\n")

    with pytest.raises(ConfigurationError, match="is none") as refused:
        sources.run("movielens", source, tmp_path / "landing")

    assert "SECRET" not in str(refused.value) and refused.value.__suppress_context__


@pytest.mark.skipif(
    not (REAL / "movielens-latest-small").is_dir(), reason="movielens-latest-small is not under ../shared/data"
)
def test_movielens_lands_whole(tmp_path: Path) -> None:
    counts = sources.run("movielens", REAL / "movielens-latest-small", tmp_path)

    # 100,836 ratings and 3,683 tags
    assert counts == {"days": 267, "events": 104_519, "anonymous": 0, "returns": 0, "items": 9_742, "users": 610,
                      "files": 501}  # fmt: skip


@pytest.mark.skipif(not (REAL / "complete-journey").is_dir(), reason="complete-journey is not under ../shared/data")
def test_complete_journey_lands_whole(tmp_path: Path) -> None:
    counts = sources.run("complete-journey", REAL / "complete-journey", tmp_path)

    # 75,000 lines less 415 without goods and money, 92,331 products less 709 that are none, no shop on Christmas
    assert counts == {"days": 365, "events": 74_585, "anonymous": 0, "returns": 0, "items": 91_622, "users": 2_373,
                      "files": 731}  # fmt: skip
    with duckdb.connect(":memory:") as con:
        ids = con.execute(f"SELECT count(DISTINCT event_id) FROM '{tmp_path}/events/*/*.parquet'").fetchone()
    assert ids == (74_585,)


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
