"""Objections that were entered here hold for every later run, and the ledger cannot tell whose they are."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks import limits, tombstones
from tasks.errors import ConfigurationError
from tests.landings import Place, csv, event

PERSON, OTHER = "person-who-objects-1", "person-who-does-not"
ASKED = datetime(2011, 10, 5, tzinfo=UTC)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path)
    place.land("events/2011-10-01/a.csv", csv(event(1, PERSON), event(2, OTHER)))
    place.ingest()
    return place


def ask(place: Place, kind: str, at: datetime = ASKED, person: str = PERSON) -> None:
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        limits.enter(ledger, kind, person, at)


def withheld(place: Place) -> dict[str, str]:
    """Person → why they are not personalized for, as a run of the end of October sees it."""
    from tasks import history, ingest, lake

    run = place.run("2011-10-31")
    with lake.connect(":memory:", run.config) as con:
        ingest.open_history(con, run)
        history.open_history(con, run)
        return dict(
            con.execute(
                "SELECT user_id, withheld_because FROM staging.people WHERE withheld_because IS NOT NULL"
            ).fetchall()
        )


def test_an_objection_outlives_its_request_and_is_taken_back_by_a_later_one(place: Place) -> None:
    assert withheld(place) == {}

    ask(place, "object")

    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        assert [(r.kind, r.state, r.ids) for r in tombstones.requests(ledger)] == [("object", "done", ())]
    assert withheld(place) == {PERSON: "objection"}
    ask(place, "restrict", ASKED + timedelta(days=1), OTHER)
    assert withheld(place) == {PERSON: "objection", OTHER: "restriction"}
    ask(place, "lift", ASKED + timedelta(days=2))
    assert withheld(place) == {OTHER: "restriction"}
    ask(place, "object", ASKED + timedelta(days=3))
    assert withheld(place) == {PERSON: "objection", OTHER: "restriction"}


def test_an_objection_after_the_cut_is_not_there_yet(place: Place) -> None:
    ask(place, "object", datetime(2011, 11, 1, tzinfo=UTC))

    assert withheld(place) == {}


def test_the_ledger_holds_no_id(place: Place) -> None:
    ask(place, "object")

    data = (tombstones.folder_of(place.lake) / "ledger.sqlite").read_bytes()
    assert PERSON.encode() not in data


def test_an_erased_person_who_returns_has_objected_to_nothing(place: Place) -> None:
    ask(place, "object")
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        tombstones.bury(ledger, "r-any", ASKED + timedelta(days=1), "user", [PERSON])

    assert withheld(place) == {}


def test_without_the_key_nobody_has_objected_to_nothing(place: Place) -> None:
    ask(place, "object")
    (tombstones.folder_of(place.lake) / "secret.key").unlink()

    with pytest.raises(ConfigurationError):
        withheld(place)
