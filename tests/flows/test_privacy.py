"""The command line of people's rights: ids come from a file and never come back out."""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flows import cli
from tasks import proof, tombstones

PERSON = "person-with-a-long-id-4711"

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tailorbird", *map(str, words)])
        capsys.readouterr()
        try:
            cli.main()
        except SystemExit as exit:
            return (int(exit.code or 0), *capsys.readouterr())
        return (0, *capsys.readouterr())

    return run


@pytest.fixture
def lake(tmp_path: Path) -> Path:
    (tmp_path / "lake").mkdir()
    (tmp_path / "ids.txt").write_text(f"{PERSON}\n\nsomebody else\n{PERSON}\n")
    return tmp_path / "lake"


def test_requests_get_opaque_ids_and_are_listed_without_naming_anybody(say: Say, lake: Path) -> None:
    code, out, err = say("request", "--lake", lake, "--user-file", lake.parent / "ids.txt", "--json")
    listed, told, _ = say("request", "--lake", lake, "--list", "--json")

    assert (code, listed) == (0, 0)
    made = json.loads(out)["requests"]
    assert len(made) == 2
    assert [r["request"] for r in json.loads(told)["requests"]] == sorted(made) or len(made) == 2
    assert "secret" in err
    assert PERSON not in out + err + told


def test_the_ledger_is_for_its_owner_only(say: Say, lake: Path) -> None:
    say("request", "--lake", lake, "--user-file", lake.parent / "ids.txt")
    folder = tombstones.folder_of(lake)
    assert {f.stat().st_mode & 0o077 for f in (folder, *folder.iterdir())} == {0}

    (folder / "secret.key").chmod(0o644)
    code, out, err = say("request", "--lake", lake, "--list")

    assert (code, out) == (2, "")
    assert "chmod 600" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("request", "--lake", "nowhere", "--list"), 5),
        (("request", "--lake", "{lake}"), 2),
        (("request", "--lake", "{lake}", "--user-file", "nowhere.txt"), 5),
        (("request", "--lake", "{lake}", "--user-file", "{lake}/../ids.txt", "--requested-at", "yesterday"), 2),
        (("receipt", "show", "r-1", "--lake", "{lake}"), 2),
        (("receipt", "verify", "{lake}/../ids.txt", "--lake", "{lake}"), 3),
        (("access", "--lake", "nowhere", "--to", "{lake}/../to"), 5),
        (("access", "--lake", "{lake}", "--to", "{lake}/../to", "--request", "r-1"), 2),
        (("retain", "--landing", "x", "--lake", "nowhere"), 5),
        (("explain-system", "--lake", "nowhere"), 5),
        (("scan", "--landing", "x", "--lake", "nowhere", "--user-file", "{lake}/../ids.txt"), 5),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(say: Say, lake: Path, words: tuple[str, ...], code: int) -> None:
    got, _, err = say(*(word.replace("{lake}", str(lake)) for word in words))

    assert got == code
    assert len(err.splitlines()) == 1
    assert PERSON not in err


def test_a_receipt_verifies_and_a_changed_one_does_not(say: Say, lake: Path, tmp_path: Path) -> None:
    _, out, _ = say("request", "--lake", lake, "--user-file", lake.parent / "ids.txt", "--json")
    request = json.loads(out)["requests"][0]
    with tombstones.opened(lake) as ledger:
        assert ledger is not None
        tombstones.close(ledger, request, proof.sign(ledger.keys[0], {"request": request, "found": {"x": 1}}))

    _, receipt, _ = say("receipt", "show", request, "--lake", lake)
    (tmp_path / "one.json").write_text(receipt)
    (tmp_path / "other.json").write_text(receipt.replace('"x": 1', '"x": 2'))

    assert say("receipt", "verify", tmp_path / "one.json", "--lake", lake)[0] == 0
    assert say("receipt", "verify", tmp_path / "other.json", "--lake", lake)[0] == 3


@pytest.mark.parametrize("kind", ["object", "restrict", "lift"])
def test_what_holds_at_once_is_done_and_names_nobody(say: Say, lake: Path, kind: str) -> None:
    code, out, err = say("request", "--lake", lake, "--kind", kind, "--user-file", lake.parent / "ids.txt", "--json")
    _, told, _ = say("request", "--lake", lake, "--list", "--json")

    assert code == 0
    assert len(json.loads(out)["requests"]) == 2
    assert {(r["kind"], r["state"]) for r in json.loads(told)["requests"]} == {(kind, "done")}
    assert PERSON not in out + err + told
    assert PERSON.encode() not in (tombstones.folder_of(lake) / "ledger.sqlite").read_bytes()


def test_the_system_explains_itself_as_a_page_and_as_data(say: Say, lake: Path) -> None:
    code, page, _ = say("explain-system", "--lake", lake)
    _, data, _ = say("explain-system", "--lake", lake, "--json")

    assert code == 0
    assert page.startswith("# How this system recommends")
    assert json.loads(data)["purposes"]["personalization"]["basis"] == "legitimate_interest"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home of Prefect and a temporary folder of our own: the real ones are large, and nobody knows what they hold."""
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temp"))
    for folder in ("prefect", "temp/tailorbird-4711"):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def test_scan_finds_what_is_there_and_says_when_it_is_not(say: Say, lake: Path, machine: Path) -> None:
    file = lake.parent / "landing" / "events" / "2026-03-20" / "a.csv"
    file.parent.mkdir(parents=True)
    file.write_text(f"event_id,user_id,event_type,item_id,occurred_at\n1,{PERSON},view,i,2026-03-20T00:00:00Z\n")
    words = ("scan", "--landing", lake.parent / "landing", "--lake", lake, "--user-file", lake.parent / "ids.txt")

    code, out, err = say(*words, "--json")
    assert code == 3
    assert json.loads(out)["places"]["landing/events"] == 1
    assert PERSON not in out + err

    file.write_text("event_id,user_id,event_type,item_id,occurred_at\n")
    assert say(*words)[0] == 0

    for left in (machine / "prefect" / "a.log", machine / "temp" / "tailorbird-4711" / "a.tmp"):
        left.write_text(PERSON)
        assert say(*words)[0] == 3
        left.unlink()
