"""The map of places is whole: everything that a lake holds is on it, and the page shows what is deployed."""

from pathlib import Path

from tasks import places
from tests.conftest import ROOT


def test_the_page_shows_the_map() -> None:
    assert (ROOT / "docs" / "privacy.md").read_text(encoding="utf-8").endswith(places.as_markdown())


def test_every_entry_is_complete() -> None:
    known = places.entries()
    assert len(known) > 20
    assert all(all(entry) for entry in known)
    assert len({entry.place for entry in known}) == len(known)


def test_what_no_entry_explains_is_told_apart() -> None:
    assert places.explained(places.of("lake", Path("history/events/bucket=001/2026-03-x.parquet")))
    assert places.explained(places.of("lake", Path("publications/2026-03-31-abc/recommendations/bucket=001/p.parquet")))
    assert places.explained(places.of("lake", Path("runs/2026-03-31.json")))
    assert not places.explained(places.of("lake", Path("notes/champion.npz")))
    assert not places.explained(places.of("lake", Path("publications/2026-03-31-abc/notes/x.txt")))
    assert not places.explained(places.of("landing", Path("events/draft/x.csv")))
