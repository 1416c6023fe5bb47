"""Hidden first: what is served loses a person before anything large is read, and nothing is forgotten to be counted."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.erase import erase
from flows.nightly import night
from flows.steps import plainly
from tasks import ingest, tombstones
from tasks.findings import CheckReport
from tasks.settings import Run
from tests import nights
from tests.landings import csv
from tests.privacy import worlds

PERSON, ALIAS = worlds.PERSON, "person-0000000002"
OTHERS = tuple(f"person-00000001{n:02}" for n in range(30))


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", lambda *_: CheckReport(()))


def link(run: Run, one: str, other: str, day: str = "2026-03-20") -> None:
    file = Path(run.landing) / "identities" / day / "links.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    row = (one, other, "2026-03-20T00:00:00Z")
    file.write_bytes(csv(row, header=("user_id", "linked_user_id", "linked_at")))


def served(run: Run) -> set[str]:
    """The people who have a list."""
    return {user for (user,) in nights.read(run.lake / "current" / "recommendations", "DISTINCT user_id")}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop after one night, in which a file of links spoke of two of the others."""
    root = tmp_path_factory.mktemp("published")
    run = worlds.a_shop(root, [PERSON, ALIAS, *OTHERS])
    link(run, *OTHERS[:2])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", lambda *_: CheckReport(()))
        night(run)
    assert {PERSON, ALIAS} <= served(run)
    return root


def asked(published: Path, root: Path) -> Run:
    """A copy of it, in which the person has asked."""
    shutil.copytree(published, root, symlinks=True)
    run = worlds.a_night(root)
    worlds.ask(run, [PERSON])
    return run


@pytest.fixture
def run(published: Path, tmp_path: Path) -> Run:
    return asked(published, tmp_path / "shop")


def found(run: Run) -> dict[str, int]:
    """What the only receipt says was found."""
    with tombstones.opened(run.lake) as ledger:
        assert ledger is not None
        ((receipt,),) = ([r.receipt] for r in tombstones.requests(ledger))
    assert receipt is not None
    counts: dict[str, int] = receipt["found"]
    return counts


def test_a_person_is_out_of_the_publication_before_landing_is_read(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[str, set[str]]] = []
    real = ingest.read

    def reading(con: Any, now: Run, room: Path, contract: Any, files: Any) -> Any:
        read.append((contract.name, served(run)))
        return real(con, now, room, contract, files)

    monkeypatch.setattr("tasks.ingest.read", reading)

    assert erase(run)["status"] == "done"

    assert "events" in {table for table, _ in read}
    assert not [table for table, people in read if PERSON in people]


@pytest.mark.parametrize("taken", [False, True], ids=["landed after the night", "replaced after the night"])
def test_an_id_that_only_landing_links_is_hidden_before_anything_goes_and_counted(run: Run, taken: bool) -> None:
    """A file that history has not taken in is read at once, one that was replaced with the rest of landing."""
    told: dict[str, set[str]] = {}
    link(run, PERSON, ALIAS, "2026-03-20" if taken else "2026-03-21")

    def watching(name: str, do: Callable[..., None], *given: Any) -> None:
        told[name] = served(run)
        plainly(name, do, *given)

    assert erase(run, watching)["status"] == "done"

    assert {PERSON, ALIAS} <= told["hide"]
    assert PERSON not in told["inventory landing"]
    assert (ALIAS in told["inventory landing"]) == taken
    assert not {PERSON, ALIAS} & told["rewrite"]
    counts = found(run)
    assert (counts["lake/events"], counts["landing/events"], counts["landing/identities"]) == (24, 24, 1)
    lists = {place: rows for place, rows in counts.items() if place.endswith("/recommendations")}
    # With a link that was told later the second list is found in what had replaced the first publication.
    assert len(lists) == (2 if taken else 1)
    assert all(lists.values())


@pytest.fixture(scope="module")
def undisturbed(published: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What is found of the person and of whom landing links, where nothing is killed."""
    run = asked(published, tmp_path_factory.mktemp("undisturbed") / "shop")
    link(run, PERSON, ALIAS)
    erase(run)
    return found(run)


@pytest.mark.parametrize(
    "last",
    [
        pytest.param("hide", marks=pytest.mark.prove),
        "inventory landing",
        pytest.param("rewrite", marks=pytest.mark.prove),
    ],
)
def test_killed_between_the_two_inventories_the_receipt_still_counts_both(
    run: Run, undisturbed: dict[str, int], last: str
) -> None:
    link(run, PERSON, ALIAS)

    def mortal(name: str, do: Callable[..., None], *given: Any) -> None:
        plainly(name, do, *given)
        if name == last:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        erase(run, mortal)
    assert erase(run)["status"] == "done"

    assert found(run) == undisturbed
    assert {place.split("/")[0] for place in undisturbed} == {"lake", "publications", "landing"}


def test_who_is_known_only_by_a_tombstone_is_matched_as_who_is_still_known_by_name(tmp_path: Path) -> None:
    """Ids of open requests are looked for as they are; as soon as one is gone from the ledger, by digest."""
    with tombstones.opened(tmp_path / "lake", create=True) as ledger:
        assert ledger is not None
        for user in (PERSON, ALIAS):
            request = tombstones.receive(ledger, "erase", user, worlds.ASKED)
            tombstones.bury(ledger, request, worlds.ASKED, "user", [user])
            if user == PERSON:
                tombstones.close(ledger, request, {})
        erased = tombstones.tombstones(ledger)

    assert erased.known("user") is None
    assert erased.known("user", since=1) == {ALIAS}
    assert erased.known("session") == set()
    assert set(erased.match("user", [PERSON, ALIAS, *OTHERS])) == {PERSON, ALIAS}
    assert set(erased.match("user", [PERSON, ALIAS, *OTHERS], since=1)) == {ALIAS}
