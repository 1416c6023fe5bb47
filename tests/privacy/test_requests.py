"""Requests that land, files that cannot be read, and landing that is not ours: on a lake that publishes nothing."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from flows.erase import erase
from tasks import scan, shards, tombstones
from tasks.errors import BlockedError, ConfigurationError
from tests.landings import Place, claim, csv, event

PERSON, OTHER = "person-to-be-forgotten", "person-who-stays-here"
REQUESTS = ("request_id", "user_id", "kind", "requested_at", "verified_at")
ASKED = "2011-10-05T12:00:00Z"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two people's events, ingested."""
    place = Place(tmp_path)
    place.land("events/2011-10-01/a.csv", csv(event(1, PERSON), event(2, OTHER), event(3, PERSON)))
    place.land("events/2011-10-02/b.csv", csv(event(4, OTHER), event(5, PERSON, at="2011-09-30T00:00:00Z")))
    place.ingest()
    return place


def ask(place: Place, kind: str = "erase", verified: str = ASKED, name: str = "q1") -> None:
    row = (name, PERSON, kind, ASKED, verified)
    place.land(f"privacy_requests/2011-10-06/{name}.csv", csv(row, header=REQUESTS))


def found(place: Place, person: str = PERSON) -> dict[str, int]:
    return {p: n for p, n in scan.scan(place.landing, place.lake, [person]).items() if n}


def test_a_verified_request_that_landed_is_served_and_goes_with_the_person(place: Place) -> None:
    ask(place)
    place.ingest()
    assert set(found(place)) == {
        "landing/events", "landing/privacy_requests", "history/events", "history/privacy_requests",
    }  # fmt: skip

    told = erase(place.run("2011-10-31"))

    assert list(told["requests"].values()) == ["done"]
    assert found(place) == {}
    assert place.history(columns="event_id, user_id") == [("e2", OTHER), ("e4", OTHER)]
    entries = {e["file"]: e for e in place.ledger() if e["table"] == "events"}
    assert entries["events/2011-10-01/a.csv"]["rows_in"] == 1
    assert erase(place.run("2011-10-31"))["status"] == "nothing_to_do"


def test_history_is_that_of_a_landing_that_never_had_them(place: Place, tmp_path: Path) -> None:
    ask(place)
    never = Place(tmp_path / "never")
    never.land("events/2011-10-01/a.csv", csv(event(2, OTHER)))
    never.land("events/2011-10-02/b.csv", csv(event(4, OTHER)))
    never.ingest()

    erase(place.run("2011-10-31"))

    one, other = shards.read_manifest(place.lake, "events"), shards.read_manifest(never.lake, "events")
    assert (one.files, one.ledger) == (other.files, other.ledger)


def test_a_request_that_is_not_verified_waits(place: Place) -> None:
    ask(place, verified="")
    before = found(place)

    assert erase(place.run("2011-10-31"))["status"] == "nothing_to_do"
    assert {p: n for p, n in found(place).items() if p != "ledger"} == before

    ask(place)
    assert erase(place.run("2011-10-31"))["status"] == "done"
    assert found(place) == {}


def test_a_dry_run_counts_and_changes_nothing(place: Place) -> None:
    ask(place)
    before = found(place)

    told = erase(place.run("2011-10-31"), dry_run=True)

    assert told["status"] == "dry_run"
    assert told["found"] == {"lake/events": 3, "landing/events": 3, "landing/privacy_requests": 1}
    assert {p: n for p, n in found(place).items() if p != "ledger"} == before


def test_landing_that_is_not_ours_stays_and_is_not_read(place: Place, tmp_path: Path) -> None:
    place.config = tmp_path / "settings.toml"
    place.config.write_text('[landing]\nerase = "suppress"\n')
    ask(place)
    before = {f: f.read_bytes() for f in place.landing.rglob("*.csv")}

    told = erase(place.run("2011-10-31"))

    assert told["status"] == "done"
    assert {f: f.read_bytes() for f in place.landing.rglob("*.csv")} == before
    assert set(found(place)) == {"landing/events", "landing/privacy_requests"}
    assert sum(e["suppressed"] for e in place.ledger() if e["table"] == "events") == 3
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        (request,) = tombstones.requests(ledger)
    assert request.receipt is not None
    assert any("landed files" in limit for limit in request.receipt["limits"])


def test_a_file_that_nobody_can_read_loses_their_lines(place: Place) -> None:
    ask(place)
    broken = place.land("events/2011-10-03/broken.csv", f"no,header\n1,{PERSON}\n2,{OTHER}\n".encode())
    place.ingest()
    assert place.fates()["2011-10-03/broken.csv"] is not None

    erase(place.run("2011-10-31"))

    assert broken.read_bytes() == f"no,header\n2,{OTHER}\n".encode()


def test_what_a_manifest_claims_of_a_file_follows_it(place: Place) -> None:
    data = csv(event(6, PERSON), event(7, OTHER))
    place.land("events/2011-10-04/c.csv", data)
    manifest = place.land("events/2011-10-04/_manifest.json", claim({"c.csv": data}, **{"c.csv": {"rows": 2}}))
    ask(place)

    erase(place.run("2011-10-31"))

    left = csv(event(7, OTHER))
    assert json.loads(manifest.read_text()) == json.loads(claim({"c.csv": left}, **{"c.csv": {"rows": 1}}))
    assert place.ingest().quarantined == 0
    assert "2011-10-04/c.csv" not in {f for f, why in place.fates().items() if why}


def test_a_trace_that_nobody_explains_stops_the_receipt(place: Place) -> None:
    ask(place)
    draft = place.land("events/draft/a.csv", csv(event(1, PERSON)))

    with pytest.raises(BlockedError) as blocked:
        erase(place.run("2011-10-31"))

    assert "landing/other" in str(blocked.value)
    assert PERSON not in str(blocked.value)
    draft.unlink()
    assert erase(place.run("2011-10-31"))["status"] == "done"


def test_an_unknown_request_is_told(place: Place) -> None:
    ask(place)
    with pytest.raises(ConfigurationError):
        erase(place.run("2011-10-31"), request="r-unknown")


def test_short_ids_are_found_as_whole_values_only(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.land("events/2011-10-01/a.csv", csv(event(1, "17850", item="85123"), event(2, "178501", item="17850")))
    place.ingest()

    assert found(place, "17850") == {"landing/events": 1, "history/events": found(place, "17850")["history/events"]}
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        tombstones.receive(ledger, "erase", "17850", datetime(2011, 10, 5, tzinfo=UTC))
    assert erase(place.run("2011-10-31"))["status"] == "done"
    assert found(place, "17850") == {}
    assert place.history(columns="event_id") == [("e2",)]


def test_who_asks_twice_at_once_gets_two_receipts_that_say_the_same(place: Place) -> None:
    ask(place, name="q1")
    ask(place, name="q2")

    told = erase(place.run("2011-10-31"))

    assert list(told["requests"].values()) == ["done", "done"]
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        one, other = (r.receipt for r in tombstones.requests(ledger))
    assert one is not None
    assert other is not None
    assert one["found"] == other["found"]
    assert one["found"]["landing/events"] == 3


def test_other_requests_wait_for_who_serves_them_and_go_with_the_person(place: Place) -> None:
    ask(place, kind="access", name="q0")
    assert erase(place.run("2011-10-31"))["status"] == "nothing_to_do"
    assert not tombstones.folder_of(place.lake).exists()

    ask(place)
    erase(place.run("2011-10-31"))

    assert found(place) == {}
