"""The command line: results on standard output, one clear line about what went wrong, and the documented exit codes."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from typer.main import get_command

from flows import cli, nightly
from flows.access import access_flow
from flows.erase import erase_flow
from flows.retain import retain_flow
from tasks import scan, tombstones
from tasks.errors import BlockedError
from tests.landings import Place, csv, event
from tests.nights import LAST, land, people, without_checks

COMMANDS = get_command(cli.app).commands  # type: ignore[attr-defined]  # typer's own group, which has them

SUMMARY = {"as_of", "publication", "content_hash", "status", "tables", "ingest", "withheld", "withheld_because",
           "checks", "evaluation", "seconds", "peak_rss_mb"}  # fmt: skip
INGEST = {"files", "rows_in", "accepted", "quarantined", "duplicates", "suppressed", "residual", "reasons", "filled",
          "fixed", "standardized", "rejected_files"}  # fmt: skip
CANARY = "canary-4711"
PERSON = "person-with-a-long-id-4711"


class Told(NamedTuple):
    code: int
    out: str
    err: str


Say = Callable[..., Told]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """The console script in this process, in an empty working folder."""

    def run(*words: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["tailorbird", *map(str, words)])
        capsys.readouterr()
        code = 0
        try:
            cli.main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        return Told(code, *capsys.readouterr())

    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("TAILORBIRD_LANDING", "TAILORBIRD_LAKE", "TAILORBIRD_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    return run


def in_one_line(told: Told, code: int, *words: str) -> None:
    assert (told.code, told.out) == (code, "")
    (line,) = told.err.splitlines()
    assert line.startswith("tailorbird: ")
    for word in words:
        assert word in line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(say: Say, command: str) -> None:
    told = say(command, "--help")

    assert told.code == 0
    assert f"Example: tailorbird {command}" in " ".join(told.out.split())


def test_what_cannot_be_meant_is_2(say: Say, tmp_path: Path) -> None:
    some = ("--landing", tmp_path, "--lake", tmp_path / "lake")
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("[gates]\nmin_overlup = 0.1\n")

    in_one_line(say("nightly", *some, "--config", wrong), 2, "wrong.toml", "gates.min_overlup")
    in_one_line(say("nightly", *some, "--config", tmp_path / "none.toml"), 2, "none.toml", "cannot be read")
    in_one_line(say("nightly", *some, "--as-of", "31.3.2026"), 2, "--as-of", "2011-11-10")
    in_one_line(say("backfill", *some, "--from", "2026-01-02", "--to", "2026-01-01"), 2, "--to is before --from")
    in_one_line(say("config", "--config", wrong), 2, "gates.min_overlup")
    for usage in (("nightly",), ("night",), ("backfill", *some, "--from", "soon", "--to", "later"), ("sample",)):
        told = say(*usage)
        assert (told.code, told.out) == (2, "")
        assert "Error: " in told.err
    assert not (tmp_path / "lake").exists()


def test_what_is_not_there_is_5(say: Say, tmp_path: Path) -> None:
    for command in ("doctor", "rollback"):
        in_one_line(say(command, "--lake", tmp_path / "none"), 5, "no lake here; check --lake")
    in_one_line(say("import", "online-retail", "--from", tmp_path / "none", "--to", tmp_path / "to"), 5, "none")
    assert not (tmp_path / "none").exists()


def test_settings_are_printed_as_one_object(say: Say) -> None:
    told = say("config")

    assert (told.code, told.err) == (0, "")
    assert json.loads(told.out)["privacy"]["min_people"] == 5


def test_a_real_process_says_one_object_and_nothing_else(market: Path, tmp_path: Path) -> None:
    told = tailorbird(tmp_path, "nightly", "--landing", market, "--lake", tmp_path / "lake", "--as-of", LAST, "--json")

    assert (told.code, told.err) == (0, "")
    summary = json.loads(told.out)
    assert summary.keys() >= SUMMARY
    assert summary["ingest"].keys() >= INGEST
    assert summary["checks"].keys() >= {"ran", "errors", "warnings"}
    assert summary["evaluation"].keys() >= {"split", "models"}
    assert (summary["status"], summary["as_of"], summary["ingest"]["residual"]) == ("published", LAST, 0)
    steps = sum(seconds for name, seconds in summary["seconds"].items() if name != "total")
    assert 0 < steps <= summary["seconds"]["total"] + 0.05
    assert 50 < summary["peak_rss_mb"] < 2000


def test_a_real_process_that_fails_says_one_line(tmp_path: Path) -> None:
    told = tailorbird(tmp_path, "nightly", "--landing", tmp_path / "none", "--lake", tmp_path / "lake")

    assert told.code == 5
    assert told.err == f"tailorbird: {tmp_path / 'none'}: no landing folder; check --landing\n"
    assert not (tmp_path / "lake").exists()


@pytest.mark.prove
def test_a_real_process_that_is_blocked_says_one_line_beside_its_object(dirty: Path, tmp_path: Path) -> None:
    land(dirty, "events", "2026-01-01", [{"event_id": "x", "who": "u0"}])

    told = tailorbird(
        tmp_path, "nightly", "--landing", dirty, "--lake", tmp_path / "lake", "--as-of", "2026-01-01", "--json"
    )

    assert told.code == 3
    assert json.loads(told.out)["status"] == "blocked"
    assert len(told.err.splitlines()) == 1
    assert told.err.startswith("tailorbird: check landing: landing.events: ")


def tailorbird(folder: Path, *words: object) -> Told:
    env = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "TAILORBIRD_"))}
    command = [str(Path(sys.executable).with_name("tailorbird")), *map(str, words)]
    run = subprocess.run(
        command, cwd=folder, env=env | {"PREFECT_HOME": str(folder / "prefect")}, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    return Told(run.returncode, run.stdout, run.stderr)


# Under Prefect, in this process


@pytest.fixture
def dirty(tmp_path: Path) -> Path:
    """A small landing in which every value that speaks of a person is a canary, good rows and bad ones."""
    landing = tmp_path / "landing"
    land(landing, "items", "2026-01-01", [{"item_id": f"i{n}", "title": f"red thing {n}"} for n in range(5)])
    rows = [
        {"event_id": f"e{n}", "user_id": f"{CANARY}-{n % 7}", "event_type": "search" if n % 2 else "purchase",
         "item_id": f"i{n % 5}", "query_text": f"{CANARY} in words", "session_id": CANARY,
         "occurred_at": "2026-01-01T10:00:00Z"}
        for n in range(100)
    ]  # fmt: skip
    bad = [rows[0] | {"event_id": "x", "occurred_at": f"{CANARY} o'clock"}, rows[0] | {"item_id": CANARY},
           rows[1] | {"event_id": "y", "event_type": CANARY}]  # fmt: skip
    land(landing, "events", "2026-01-01", [*rows, *bad])
    land(landing, "users", "2026-01-01", [{"user_id": f"{CANARY}-{n}", "birth_year": CANARY} for n in range(7)])
    land(landing, "consents", "2026-01-01", [{"user_id": CANARY, "purpose": CANARY, "granted": CANARY}])
    return landing


def test_no_value_of_a_person_is_told_anywhere(
    say: Say, dirty: Path, tmp_path: Path, prefect_database: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    lake = tmp_path / "lake"
    night = ("nightly", "--landing", dirty, "--lake", lake, "--as-of", "2026-01-01")
    told = [say(*night)]
    assert told[0].code == 0
    assert f"{CANARY}-3" in people(lake)

    # and on the next day everything is wrong
    land(dirty, "events", "2026-01-02", [{"event_id": CANARY, "user_id": CANARY, "event_type": CANARY,
                                          "occurred_at": CANARY}])  # fmt: skip
    told.append(say(*night[:-1], "2026-01-02", "--json"))
    assert told[1].code == 3
    assert json.loads(told[1].out)["status"] == "blocked"
    assert told[1].err.startswith("tailorbird: check landing: landing.events: few_rows_quarantined failed")

    # or a step breaks with a value in its words
    def broken(_: Any) -> None:
        raise ValueError(f"{CANARY} is no number")

    monkeypatch.setattr(nightly, "recommend", broken)
    with pytest.raises(RuntimeError, match="withheld") as bug:
        say(*night)

    told.append(Told(1, str(bug.value), caplog.text))
    assert [t for t in told if CANARY in t.out + t.err] == []
    kept = [f for f in [*prefect_database.rglob("*"), *(lake / "runs").iterdir()] if f.is_file()]
    assert any(b"few_rows_quarantined" in f.read_bytes() for f in kept if ".db" in f.name)
    assert [f.name for f in kept if CANARY.encode() in f.read_bytes()] == []


@pytest.mark.usefixtures("prefect_database")
def test_backfill_does_each_day_once(say: Say, dirty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", None)  # put back when the test is over
    without_checks()
    days = ("backfill", "--landing", dirty, "--lake", tmp_path / "lake", "--from", "2026-01-01", "--to", "2026-01-02")

    first, again = say(*days), say(*days, "--json")

    assert (first.code, again.code) == (0, 0)
    assert [line.split()[:2] for line in first.out.splitlines()] == [[f"2026-01-0{n}", "published"] for n in (1, 2)]
    assert [night["status"] for night in json.loads(again.out)] == ["unchanged"] * 2
    listed = say("publications", "--lake", tmp_path / "lake")
    assert [line[0] for line in listed.out.splitlines()] == [" ", "*"]


@pytest.mark.server
def test_prefect_never_learns_who(prefect_database: Path, tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.land("events/2011-10-01/a.csv", csv(event(1, PERSON), event(2, "somebody")))
    place.ingest()
    draft = place.land("events/draft/a.csv", csv(event(1, PERSON)))
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        request = tombstones.receive(ledger, "erase", PERSON, datetime(2011, 10, 5, tzinfo=UTC))
        asked = tombstones.receive(ledger, "access", PERSON, datetime(2011, 10, 5, tzinfo=UTC))

    answered = access_flow(str(place.lake), str(tmp_path / "answers"), str(place.landing), asked)
    assert answered["requests"][asked]["counts"]["lake/events"] == 1
    retain_flow(str(place.landing), str(place.lake), "2011-10-31")
    with pytest.raises(BlockedError):
        erase_flow(str(place.landing), str(place.lake))
    draft.unlink()
    told = erase_flow(str(place.landing), str(place.lake), request)

    assert told["requests"] == {request: "done"}
    database = [("prefect", prefect_database)]
    assert scan.scan(place.landing, place.lake, [PERSON], database)["prefect"] == 0
    # The database can be looked into: what Prefect may know is there.
    assert scan.scan(place.landing, place.lake, [request], database)["prefect"] > 0
