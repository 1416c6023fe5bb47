"""Access: what is handed out is what an erasure would take, for its owner's eyes, and nothing in it can run."""

import csv
import json
import stat
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from flows import access as answers
from tasks import access, access_files, erasure, exports, hiding, ingest, lake, tombstones
from tasks.errors import BlockedError, ConfigurationError
from tests.landings import Place
from tests.landings import csv as lines

PERSON, ALIAS, OTHER = "person-who-wants-to-know", "alias-of-that-person", "person-who-stays-here"
ASKED = datetime(2011, 10, 5, tzinfo=UTC)
FORMULA = "=HYPERLINK(1)"


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Two people's rows of every kind, one of them faulty, one anonymous, one under another id, one that says <b>."""
    place = Place(tmp_path)
    header = ("event_id", "user_id", "event_type", "item_id", "occurred_at", "session_id", "query_text")
    rows = [
        ("e1", PERSON, "view", "i1", "2011-09-25T10:00:00Z", "s1", ""),
        ("e2", "", "view", "i2", "2011-09-25T09:00:00Z", "s1", ""),
        ("e3", ALIAS, "search", "", "2011-09-26T10:00:00Z", "s2", f"{FORMULA} <b>gift</b>"),
        ("e4", PERSON, "view", "i1", "not a time", "s3", ""),
        ("e5", OTHER, "view", "i1", "2011-09-25T10:00:00Z", "s4", ""),
        ("e6", "", "view", "i1", "2011-09-25T10:00:00Z", "s5", ""),
        ("e7", PERSON, "comment", "i1", "2011-10-30T10:00:00Z", "s6", ""),
        ("e7", PERSON, "comment", "i1", "2011-10-30T10:00:00Z", "s6", ""),
    ]
    place.land("events/2011-10-30/a.csv", lines(*rows, header=header))
    place.land("items/2011-09-01/a.csv", lines(("i1", "A <i>red</i> cup"), header=("item_id", "title")))
    place.land(
        "identities/2011-10-01/a.csv",
        lines((PERSON, ALIAS, "2011-09-01T00:00:00Z"), header=("user_id", "linked_user_id", "linked_at")),
    )
    place.land(
        "controls/2011-10-01/a.csv",
        lines((PERSON, "0.5", "2011-09-01T00:00:00Z"), header=("user_id", "level", "changed_at")),
    )
    place.land("users/2011-10-01/a.csv", lines((PERSON, "DE"), (OTHER, "FR"), header=("user_id", "country")))
    place.ingest()
    return place


def ask(place: Place, person: str = PERSON, kind: str = "access", verified: bool = True) -> str:
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        return tombstones.receive(ledger, kind, person, ASKED, verified=verified)


def answer(place: Place, request: str | None = None) -> dict[str, Any]:
    return answers.answer(place.run("2011-10-31"), place.root / "answers", request=request)


def handed(place: Place, request: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((place.root / "answers" / request / "everything.json").read_text())
    return content


def test_the_counts_are_those_of_the_inventory(place: Place) -> None:
    request = ask(place)
    run = place.run("2011-10-31")
    with (
        lake.scratch(run.lake) as room,
        tombstones.opened(run.lake) as ledger,
        lake.connect(room / "t.duckdb", run.config) as con,
        ingest.workspace(con),
    ):
        assert ledger is not None
        theirs = tombstones.imagine(ledger, {"x": [PERSON, ALIAS]}, {"x": erasure.FOREVER})
        held, landed = erasure.stored(con, run, theirs), erasure.landed(con, run, room, theirs)
        inventory = {**held.counts["x"], **landed.counts["x"]}
        inventory |= hiding.held(run.lake, run.config, theirs).get("x", {})

    told = answer(place, request)["requests"][request]["counts"]

    assert told == inventory
    # Of nine lines of events six are theirs, one of which says again what was said; one is faulty.
    assert (told["landing/events"], told["lake/events"]) == (6, 5)
    tables = handed(place, request)["tables"]
    assert {row["event_id"] for row in tables["history_events"]} == {"e1", "e2", "e3", "e7"}
    assert len(tables["quarantine_events"]) == 1
    assert handed(place, request)["counts"] == told


def test_every_row_says_where_it_came_from_and_every_csv_has_them_all(place: Place) -> None:
    request = ask(place)

    answer(place, request)

    folder = place.root / "answers" / request
    for name, rows in handed(place, request)["tables"].items():
        if rows:
            with (folder / f"{name}.csv").open(newline="", encoding="utf-8") as file:
                assert len(list(csv.DictReader(file))) == len(rows), name
        if name.startswith(("history", "quarantine")):
            assert all(row["landed_file"] and row["landed_on"] for row in rows)


def test_nothing_of_anybody_else_is_handed_out(place: Place) -> None:
    request = ask(place)

    answer(place, request)

    for file in (place.root / "answers" / request).iterdir():
        assert OTHER not in file.read_text(), file.name


@pytest.mark.parametrize("start", access_files.FORMULA)
def test_no_cell_is_a_formula(start: str) -> None:
    text = access_files.as_csv([{"a": f"{start}1+1", "b": -3, "c": "1-1"}])

    (_, row) = list(csv.reader(text.splitlines(keepends=True))) if start not in "\r" else (None, None)
    if row:
        assert row == [f"'{start}1+1", "'-3", "1-1"]
    assert f"'{start}1+1" in text


def test_what_people_wrote_cannot_run_on_the_page_or_in_a_sheet(place: Place) -> None:
    request = ask(place)

    answer(place, request)

    folder = place.root / "answers" / request
    assert f"'{FORMULA}" in (folder / "history_events.csv").read_text()
    page = (folder / "index.html").read_text()
    assert "&lt;b&gt;gift" in page
    assert "<b>gift" not in page

    class Look(HTMLParser):
        tags: set[str] = set()  # noqa: RUF012  (one page, one look)
        wants: list[tuple[str, str | None]] = []  # noqa: RUF012

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.add(tag)
            self.wants += [(n, v) for n, v in attrs if n in ("src", "href", "style") or n.startswith("on")]

    look = Look()
    look.feed(page)
    assert not look.tags & {"script", "img", "link", "iframe", "object", "b", "i"}
    assert all(name == "href" and value and value.startswith("#") for name, value in look.wants)
    assert {"html", "title", "main", "h1", "h2", "caption", "th"} <= look.tags


def test_the_page_says_which_settings_apply(place: Place) -> None:
    request = ask(place)

    answer(place, request)

    page = (place.root / "answers" / request / "index.html").read_text()
    assert "0.5 of 1" in page
    assert "3650 days" in page


def test_it_is_for_its_owners_eyes_and_registered_with_an_end(place: Place) -> None:
    request = ask(place)

    told = answer(place, request)["requests"][request]

    folder = place.root / "answers" / request
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(f.stat().st_mode) for f in folder.iterdir()} == {0o600}
    assert told["files"] == len(list(folder.iterdir()))
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        (export,) = exports.registered(ledger)
    days = place.run("2011-10-31").config.privacy.export_days
    assert (export.path, export.request) == (folder, request)
    assert (export.expires_at - datetime.now(UTC)).days in (days - 1, days)


def test_a_request_is_answered_once_and_only_when_verified(place: Place) -> None:
    unverified, request = ask(place, verified=False), ask(place)

    with pytest.raises(BlockedError):
        answer(place, unverified)
    with pytest.raises(ConfigurationError):
        answer(place, "r-unknown")
    assert list(answer(place)["requests"]) == [request]
    with pytest.raises(ConfigurationError) as done:
        answer(place, request)
    assert PERSON not in str(done.value)
    assert answer(place)["status"] == "nothing_to_do"
    ledger_file = tombstones.folder_of(place.lake) / "ledger.sqlite"
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        assert {r.request: r.ids for r in tombstones.requests(ledger)} == {unverified: (PERSON,), request: ()}
    assert ledger_file.is_file()


def test_a_request_that_landed_is_answered(place: Place) -> None:
    row = ("q1", PERSON, "access", "2011-10-05T00:00:00Z", "2011-10-05T00:00:00Z")
    header = ("request_id", "user_id", "kind", "requested_at", "verified_at")
    place.land("privacy_requests/2011-10-06/a.csv", lines(row, header=header))

    (told,) = answer(place)["requests"].values()

    assert told["counts"]["landing/privacy_requests"] == 1


def test_without_landing_history_tells_it(place: Place) -> None:
    request = ask(place, ALIAS)
    run = replace(place.run("2011-10-31"), landing="")

    told = answers.answer(run, place.root / "answers", request=request, landing=False)["requests"][request]

    assert told["counts"]["lake/events"] == 5
    assert not any(name.startswith("landing/") for name in told["counts"])


def test_who_is_not_known_gets_an_answer_like_any_other(place: Place) -> None:
    request = ask(place, "never-seen")

    told = answer(place, request)["requests"][request]

    assert told["counts"] == {}
    assert "Nothing is known about you" in (place.root / "answers" / request / "index.html").read_text()


def test_every_reason_has_words() -> None:
    from tasks import contracts, history

    codes = contracts.load("marts", "recommendations").column("reason_code").one_of
    assert set(access.REASONS) == set(codes)
    assert set(access.WITHHELD) == set(history.REASONS)
