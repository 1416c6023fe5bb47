"""One person's erasure writes one person's files: everybody else's are not even touched, and the outcome is exact."""

import gzip
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from flows.erase import erase
from tasks import ingest, landing, receipt, shards, tombstones
from tests.landings import Place, csv, event, files_of

PERSON = "person-0000000007"
PEOPLE = tuple(f"person-{n:010}" for n in range(60))
HEADER = ("event_id", "user_id", "event_type", "item_id", "occurred_at", "session_id", "device")
DAYS = ("2011-08-30", "2011-09-29", "2011-10-01", "2011-10-02")


def lines(day: str, *, person: bool) -> list[list[str]]:
    """Everybody looks, some say it twice, some contradict themselves; visitors come before they sign in."""
    told = []
    for number, user in enumerate(PEOPLE):
        at, session = f"{day}T10:00:00", f"session-of-{user}"
        mine = [
            [f"{day}-{number}", user, "view", "i1", at, session, "Phone"],
            [f"{day}-{number}", user, "view", "i1", at, session, "Phone"],
            [f"{day}-{number}", user, "view", "i2", at, session, ""],
            [f"{day}-n{number}", user, "no such type", "i2", at, session, ""],
        ]
        if number < 9:
            mine.append([f"{day}-a", "", "view", "i1", at, session, "phone"])
        told += mine if person or user != PERSON else []
    told.append([f"{day}-b", "", "view", "i1", f"{day}T11:00:00", "session-of-nobody", "phone"])
    return told


def landed(root: Path, *, person: bool) -> Place:
    settings = root.parent / "buckets.toml"
    root.parent.mkdir(exist_ok=True)
    settings.write_text("[lake]\nbuckets = 12\n")
    place = Place(root, settings)
    for day in DAYS:
        place.land(f"events/{day}/a.csv", csv(*lines(day, person=person), header=HEADER))
        # What was delivered before is delivered again.
        place.land(f"events/{day}/b.csv", csv(*lines(DAYS[0], person=person), header=HEADER))
    users = PEOPLE if person else [user for user in PEOPLE if user != PERSON]
    place.land("users/2011-10-01/u.csv", csv(*([user, "DE"] for user in users), header=("user_id", "country")))
    return place


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = landed(tmp_path_factory.mktemp("subtraction") / "with", person=True)
    place.ingest()
    never = landed(place.root.with_name("never"), person=False)
    never.ingest()
    return place.root.parent


@pytest.fixture
def place(before: Path, tmp_path: Path) -> Place:
    shutil.copytree(before / "with", tmp_path / "lake", symlinks=True)
    return Place(tmp_path / "lake")


def ask(place: Place, at: datetime = datetime(2011, 10, 20, tzinfo=UTC)) -> None:
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        tombstones.receive(ledger, "erase", PERSON, at)


def stamps(place: Place) -> dict[str, tuple[int, int, int]]:
    history = place.lake / "history"
    files = sorted(f for f in history.rglob("*.parquet"))
    return {str(f.relative_to(history)): (f.stat().st_ino, f.stat().st_mtime_ns, f.stat().st_size) for f in files}


def bytes_of(folder: Path) -> dict[str, str]:
    """Every file of history and quarantine; of a manifest all but the epoch, which never was there."""
    found = files_of(folder)
    kept = {name: digest for name, digest in found.items() if name.startswith(("history", "quarantine"))}
    return {name: digest for name, digest in kept.items() if not name.endswith("manifest.json")}


def test_only_the_persons_bucket_and_the_visitors_are_written(place: Place, before: Path) -> None:
    ask(place)
    was = stamps(place)

    erase(place.run("2011-10-31"))

    now = stamps(place)
    fresh = {name for name in now if was.get(name) != now[name]}
    buckets = {Path(name).parent.name for name in fresh if name.startswith("events")}
    assert len(buckets) == 2
    assert "bucket=012" in buckets
    assert sum(was[name][2] for name in set(was) - set(now)) < 0.25 * sum(size for _, _, size in was.values())
    assert bytes_of(place.lake) == bytes_of(before / "never" / "lake")
    for table in ("events", "users"):
        mine, never = (shards.read_manifest(root, table) for root in (place.lake, before / "never" / "lake"))
        assert replace(mine, epoch=0) == never


def test_nothing_is_ingested_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    ask(place)
    again = []
    real = ingest.ingest

    def watched(*given: Any) -> Any:
        again.append(real(*given))
        return again[-1]

    monkeypatch.setattr("tasks.ingest.ingest", watched)

    erase(place.run("2011-10-31"))

    assert [told.re_ingested for told in again] == [{}]


def test_landing_that_stays_gives_what_ingest_at_that_door_gives(place: Place, tmp_path: Path) -> None:
    place.config = tmp_path / "settings.toml"
    place.config.write_text('[landing]\nerase = "suppress"\n')
    ask(place)
    erase(place.run("2011-10-31"))
    done = {table: shards.read_manifest(place.lake, table) for table in ("events", "users")}
    kept = bytes_of(place.lake)

    shutil.rmtree(place.lake / "history")
    shutil.rmtree(place.lake / "quarantine")
    place.ingest()

    assert bytes_of(place.lake) == kept
    for table, manifest in done.items():
        assert shards.read_manifest(place.lake, table) == manifest
        assert sum(e["suppressed"] for e in manifest.ledger) > 0


@pytest.mark.parametrize("landing", ["rewrite", "suppress"])
def test_who_came_back_is_counted_anew(place: Place, tmp_path: Path, landing: str) -> None:
    place.config = tmp_path / "settings.toml"
    place.config.write_text(f'[landing]\nerase = "{landing}"\n')
    ask(place, datetime(2011, 9, 29, 23, tzinfo=UTC))

    erase(place.run("2011-10-31"))

    kept = bytes_of(place.lake)
    assert place.history(columns="user_id").count((PERSON,)) == 2
    shutil.rmtree(place.lake / "history")
    shutil.rmtree(place.lake / "quarantine")
    place.ingest()
    assert bytes_of(place.lake) == kept


def test_where_landed_files_are_gone_history_still_loses_the_person(place: Place) -> None:
    ask(place)
    shutil.rmtree(place.landing / "events" / DAYS[0])

    told = erase(place.run("2011-10-31"))

    assert told["status"] == "done"
    assert (PERSON,) not in place.history(columns="user_id")
    entries = [e for e in place.ledger() if e["table"] == "events"]
    assert len(entries) == 2 * len(DAYS)
    for e in entries:
        assert e["rows_in"] == e["accepted"] + e["quarantined"] + e["duplicates"] + e["suppressed"]
        assert (e["suppressed"] > 0) == (DAYS[0] in e["file"])


def test_a_restored_lake_forgets_them_even_where_landed_files_are_gone(place: Place) -> None:
    backup = place.root / "backup"
    shutil.copytree(place.lake, backup)
    ask(place)
    erase(place.run("2011-10-31"))
    for store in ("history", "quarantine"):
        shutil.rmtree(place.lake / store)
        shutil.copytree(backup / store, place.lake / store)
    shutil.rmtree(place.landing)

    place.ingest()

    assert place.history(columns="user_id")
    assert (PERSON,) not in [*place.history(columns="user_id"), *place.history("users", columns="user_id")]
    assert place.ingest().re_ingested == {}


@pytest.mark.parametrize("others", [0, 99], ids=["one person", "many people"])
def test_of_the_landed_files_only_those_are_read_that_may_name_them(tmp_path: Path, others: int) -> None:
    place = Place(tmp_path)
    names = {PERSON, *(f"somebody-{n:03}" for n in range(others))}
    for name, data in {
        "names.csv": csv(event(1, PERSON)),
        "names.csv.gz": gzip.compress(csv(event(2, PERSON))),
        "escapes.jsonl": b'{"user_id": "\\u0070erson"}\n',
        "broken.csv.gz": b"no gzip",
        "binary.parquet": b"",
        "nobody.csv": csv(event(3, "nobody")),
        "nobody.jsonl.gz": gzip.compress(b'{"user_id": "nobody"}\n'),
    }.items():
        place.land(f"events/2011-10-01/{name}", data)
    run = place.run("2011-10-31")
    files = landing.find(run.landing, "events", ZoneInfo("UTC"), run.as_of).files

    read = {file.name for file in files if receipt.mentions(file, names, run.config.landing)}

    assert {file.name for file in files} - read == {"nobody.csv", "nobody.jsonl.gz"}
    assert not any(receipt.mentions(file, (), run.config.landing) for file in files)
