"""The cases of which every one must pass: who was there alone, who comes late, what runs out, who does it at once."""

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from flows.erase import erase
from flows.nightly import night
from flows.steps import plainly
from tasks import exports, scan, shards, tombstones
from tasks.errors import ConflictError
from tasks.findings import CheckReport
from tasks.settings import Run
from tests import nights
from tests.landings import Place, csv
from tests.privacy import worlds

PERSON, OTHER = worlds.PERSON, "person-0000000002"
SESSION = "session-of-the-person"
ASKED = datetime(2011, 10, 20, tzinfo=UTC)
HEADER = ("event_id", "user_id", "event_type", "item_id", "occurred_at", "session_id")


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", lambda *_: CheckReport(()))


@pytest.fixture
def place(tmp_path: Path) -> Place:
    settings = tmp_path / "settings.toml"
    settings.write_text("[lake]\nbuckets = 2\ngrace_seconds = 0\n")
    return Place(tmp_path / "place", settings)


def look(number: int, user: str = "", session: str = "", at: str = "2011-09-30T10:00:00Z") -> list[str]:
    return [f"e{number}", user, "view", "i1", at, session]


def ask(place: Place, *people: str, at: datetime = ASKED) -> list[str]:
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        return [tombstones.receive(ledger, "erase", one, at) for one in people]


def found(place: Place, *names: str) -> dict[str, int]:
    hits = scan.scan(place.landing, place.lake, names, with_ledger=False)
    return {where: count for where, count in hits.items() if count}


def test_a_session_that_is_told_late_to_be_theirs_goes_from_the_past(place: Place) -> None:
    """A visitor looks, a person is forgotten, and then a late line says that the visitor was that person."""
    place.land(
        "events/2011-10-01/a.csv", csv(look(1, "", SESSION), look(2, "", "another"), look(3, OTHER), header=HEADER)
    )
    place.land("events/2011-10-01/b.csv", csv(look(4, PERSON), header=HEADER))
    place.ingest()
    ask(place, PERSON)
    assert erase(place.run("2011-10-31"))["status"] == "done"
    assert ("e1",) in place.history(columns="event_id")

    place.land("events/2011-10-25/late.csv", csv(look(5, PERSON, SESSION), header=HEADER))
    place.ingest()

    assert sorted(place.history(columns="event_id")) == [("e2",), ("e3",)]
    assert set(found(place, PERSON, SESSION)) == {"landing/events"}
    assert erase(place.run("2011-10-31"))["status"] == "tidied"
    assert found(place, PERSON, SESSION) == {}
    assert place.ingest().re_ingested == {}
    assert erase(place.run("2011-10-31"))["status"] == "nothing_to_do"


def test_who_has_very_many_events_is_forgotten(place: Place) -> None:
    many(place, 50_000)


@pytest.mark.prove
def test_who_has_a_million_events_is_forgotten(place: Place) -> None:
    many(place, 1_000_000)


def many(place: Place, events: int) -> None:
    """All of a person's events in a few minutes, which nobody's day holds, and one of somebody else."""
    rows = [look(n, PERSON, f"s{n % 7}", f"2011-09-30T10:{n % 60:02}:00Z") for n in range(events)]
    place.land("events/2011-10-01/a.csv", csv(*rows, look(events, OTHER), header=HEADER))
    place.ingest()
    ask(place, PERSON)

    told = erase(place.run("2011-10-31"))

    assert told["status"] == "done"
    assert place.history(columns="user_id") == [(OTHER,)]
    assert found(place, PERSON) == {}


PLACES_TO_WRITE = (
    "tasks.tombstones.bury", "tasks.withdrawal._copy_lines", "tasks.withdrawal._claim", "tasks.shards.store_rows",
    "tasks.shards.commit_manifest", "tasks.tombstones.close",
)  # fmt: skip


@pytest.mark.parametrize("where", PLACES_TO_WRITE)
def test_a_disk_that_is_full_in_the_middle_loses_nothing(
    place: Place, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.land("events/2011-10-01/a.csv", csv(look(1, PERSON), look(2, OTHER), header=HEADER))
    place.ingest()
    ask(place, PERSON)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(where, full)
        with pytest.raises((OSError, RuntimeError)) as problem:
            erase(place.run("2011-10-31"))
    assert PERSON not in str(problem.value)

    assert erase(place.run("2011-10-31"))["status"] == "done"
    assert place.history(columns="event_id") == [("e2",)]
    assert found(place, PERSON) == {}
    assert place.ingest().residual == 0


def test_two_erasures_at_once_take_turns(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(look(1, PERSON), look(2, OTHER), header=HEADER))
    place.ingest()
    ask(place, PERSON)
    refused = []

    def crowded(name: str, do: Callable[..., None], *given: Any) -> None:
        with pytest.raises(ConflictError):
            erase(place.run("2011-10-31"))
        refused.append(name)
        plainly(name, do, *given)

    assert erase(place.run("2011-10-31"), crowded)["status"] == "done"
    assert refused == [
        "inventory", "hide", "inventory landing", "rewrite", "relearn", "rebuild", "purge", "scan", "receipts",
    ]  # fmt: skip
    assert ConflictError.exit_code == 4


@pytest.mark.parametrize(
    "people",
    [[PERSON], [PERSON, *(f"person-00000001{n:02}" for n in range(30))]],
    ids=["the only person there is", "the only person who knew an item"],
)
def test_who_was_alone_leaves_the_lake_of_a_shop_without_them(tmp_path: Path, people: list[str]) -> None:
    run = worlds.a_shop(tmp_path / "erased", people)
    never = worlds.a_shop(tmp_path / "never", [user for user in people if user != PERSON])
    for one in (run, never):
        night(one)
    worlds.ask(run, [PERSON])

    told = erase(run)

    assert told["status"] == "done"
    assert worlds.differences(run.lake, never.lake) == []
    assert not any(scan.scan(Path(run.landing), run.lake, [PERSON]).values())


def test_an_erasure_and_a_night_take_turns_and_neither_shows_whom_the_other_forgot(tmp_path: Path) -> None:
    people = [PERSON, *(f"person-00000001{n:02}" for n in range(30))]
    run = worlds.a_shop(tmp_path, people)
    refused: list[str] = []

    def crowded(other: Callable[[Run], Any]) -> Callable[..., None]:
        def step(name: str, do: Callable[..., None], *given: Any) -> None:
            with pytest.raises(ConflictError):
                other(run)
            refused.append(name)
            plainly(name, do, *given)

        return step

    night(run, crowded(erase))
    assert refused == nights.STEPS
    refused.clear()
    worlds.ask(run, [PERSON])
    waiting = Thread(target=night, args=(run,), kwargs={"wait": 120})

    def starting(name: str, do: Callable[..., None], *given: Any) -> None:
        if name == "hide":
            waiting.start()
        crowded(night)(name, do, *given)

    assert erase(run, starting)["status"] == "done"
    waiting.join()

    assert {"inventory", "rewrite", "publish", "receipts"} <= set(refused)
    assert not any(scan.scan(Path(run.landing), run.lake, [PERSON]).values())


def test_a_request_waits_for_readers_and_is_ended_by_the_next_erasure(tmp_path: Path) -> None:
    run = worlds.a_shop(tmp_path, [PERSON, *(f"person-00000001{n:02}" for n in range(30))])
    night(run)
    worlds.ask(run, [PERSON])
    patient = run.config.lake.model_copy(update={"grace_seconds": 3600.0})

    told = erase(replace(run, config=run.config.model_copy(update={"lake": patient})))

    assert told["status"] == "waiting"
    assert told["waiting_publications"] > 0
    assert set(told["requests"].values()) == {"purged"}
    with tombstones.opened(run.lake) as ledger:
        assert ledger is not None
        assert [r.receipt for r in tombstones.requests(ledger)] == [None]
    ended = erase(run)
    assert ended["status"] == "done"
    assert ended["rebuilt"] is None
    assert not any(scan.scan(Path(run.landing), run.lake, [PERSON]).values())


def test_who_is_unknown_gets_the_answer_that_everybody_gets(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(look(1, PERSON), look(2, OTHER), header=HEADER))
    place.ingest()
    known, unknown = ask(place, PERSON, "nobody-knows-this-one")

    told = erase(place.run("2011-10-31"))

    assert told["requests"] == {known: "done", unknown: "done"}
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        one, other = ({r.request: r.receipt for r in tombstones.requests(ledger)}[name] for name in (known, unknown))
        buried = tombstones.tombstones(ledger).match("user", ["nobody-knows-this-one"])
    assert one is not None
    assert other is not None
    # What a person is told differs in nothing but the counts, and those are the person's to see.
    assert {name for name in one if one[name] != other[name]} == {"request", "found", "finished_at", "signature"}
    assert other["found"] == {}
    assert len(buried) == 1


def test_what_was_handed_out_goes_as_well(place: Place, tmp_path: Path) -> None:
    place.land("events/2011-10-01/a.csv", csv(look(1, PERSON), look(2, OTHER), header=HEADER))
    place.ingest()
    mine, theirs = tmp_path / "mine", tmp_path / "theirs.json"
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        for user, path in ((PERSON, mine), (OTHER, theirs)):
            request = tombstones.receive(ledger, "access", user, ASKED)
            exports.register(ledger, request, path, ASKED)
    mine.mkdir()
    (mine / "everything.json").write_text(PERSON)
    theirs.write_text(OTHER)
    (asked,) = ask(place, PERSON)

    erase(place.run("2011-10-31"))

    assert not mine.exists()
    assert theirs.exists()
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        assert [export.path for export in exports.registered(ledger)] == [theirs]
        (inventory,) = (r.inventory for r in tombstones.requests(ledger) if r.request == asked)
    assert inventory is not None
    assert inventory["exports"] == 1


def test_nothing_but_lake_manifests_tell_the_epoch(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(look(1, PERSON), look(2, OTHER), header=HEADER))
    place.ingest()
    ask(place, PERSON)
    erase(place.run("2011-10-31"))
    assert shards.read_manifest(place.lake, "events").epoch == tombstones.epoch(place.lake) == 1
