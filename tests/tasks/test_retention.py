"""Nothing is kept longer than its contract says, nothing is used that is about to go, and no outcome tells when."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from flows.retain import retain
from tasks import contracts, exports, ingest, lake, retention, shards, tombstones
from tasks.errors import ConfigurationError
from tests.landings import Place, csv
from tests.sql.spec import defaults

HEADER = ("event_id", "user_id", "event_type", "item_id", "occurred_at", "query_text")
KEEP = """
[privacy]
replay_days = 7
[privacy.retention_days]
events = 40
users = 40
free_text = 20
quarantine = 15
"""
ROWS = [
    ("old", "ada", "view", "i1", "2011-09-10T00:00:00Z", ""),
    ("old", "ada", "view", "i1", "2011-09-10T00:00:00Z", ""),
    ("aging", "ada", "view", "i1", "2011-09-25T00:00:00Z", ""),
    ("new", "ada", "view", "i1", "2011-10-20T00:00:00Z", ""),
    ("said", "ada", "search", "", "2011-10-05T00:00:00Z", "a gift"),
    ("nobody", "", "view", "i1", "2011-09-01T00:00:00Z", ""),
    ("gone", "bob", "view", "i1", "2011-09-02T00:00:00Z", ""),
]
BROKEN = ("broken", "bob", "view", "i1", "never", "")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """Events of September and October, delivered at once; ada is still here, bob is not."""
    place = Place(tmp_path, config=tmp_path / "settings.toml")
    (tmp_path / "settings.toml").write_text(KEEP)
    place.land("events/2011-09-30/a.csv", csv(*(row for row in ROWS if row[4] < "2011-09-30"), BROKEN, header=HEADER))
    place.land("events/2011-10-21/b.csv", csv(*(row for row in ROWS if row[4] > "2011-09-30"), BROKEN, header=HEADER))
    place.land("users/2011-09-01/a.csv", csv(("ada", "DE"), ("bob", "FR"), header=("user_id", "country")))
    place.land("items/2011-09-01/a.csv", csv(("i1", "cup"), header=("item_id", "title")))
    place.ingest()
    return place


def used(place: Place, as_of: str = "2011-10-31") -> dict[str, set[str]]:
    """What a run may use: ids of events and of people with a profile."""
    run = place.run(as_of)
    with lake.connect(":memory:", run.config) as con:
        ingest.open_history(con, run)
        return {
            table: {one for (one,) in con.execute(f"SELECT {column} FROM history.{table}").fetchall()}
            for table, column in (("events", "event_id"), ("users", "user_id"))
        }


def held(place: Place) -> set[str]:
    return {event for (event,) in place.history(columns="event_id")}


def lines(place: Place) -> str:
    return "".join(f.read_text() for f in sorted(place.landing.rglob("events/*/*.csv")))


def clean(place: Place, as_of: str = "2011-10-31", **how: Any) -> dict[str, int]:
    removed: dict[str, int] = retain(place.run(as_of), **how)["removed"]
    return removed


def test_what_is_too_old_goes_from_landing_history_and_quarantine_and_is_counted(place: Place) -> None:
    assert held(place) == {"old", "aging", "new", "said", "nobody", "gone"}

    removed = clean(place)

    assert removed == {
        "landing/events": 6, "history/events": 4, "quarantine/events": 1, "landing/users": 1, "history/users": 1,
    }  # fmt: skip
    assert held(place) == {"aging", "new"}
    text = lines(place)
    assert [name for name in ("old", "nobody", "gone", "said") if f"\n{name}," in text] == []
    # One broken record is young enough to be repaired.
    assert text.count("broken") == len(place.quarantine()) == 1
    assert place.history("users", "user_id") == [("ada",)]
    assert clean(place) == {}


@pytest.mark.parametrize("long", [0, 10_000], ids=["read in place", "loaded"])
def test_what_is_about_to_go_is_used_no_more(place: Place, long: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "LONG", long)
    # Events are kept for 40 days and used for 33, texts for 20 and 15.
    assert used(place) == {"events": {"new"}, "users": {"ada"}}


def test_a_day_that_is_run_again_uses_the_same_whenever_rows_went(place: Place) -> None:
    days = [f"2011-10-{day}" for day in (25, 28, 31)]
    before = {day: used(place, day) for day in days}
    assert before["2011-10-25"]["events"] == {"aging", "new"}

    clean(place, "2011-10-31")

    assert {day: used(place, day) for day in days} == before


def test_a_dry_run_counts_and_changes_nothing(place: Place) -> None:
    before = lines(place), held(place)

    removed = clean(place, dry_run=True)

    assert removed["landing/events"] == 6
    assert (lines(place), held(place)) == before


def test_landing_that_is_not_ours_stays_and_history_loses_them(place: Place) -> None:
    assert place.config is not None
    place.config.write_text(KEEP + '[landing]\nerase = "suppress"\n')
    before, ledger = lines(place), place.ledger()

    removed = clean(place)

    assert "landing/events" not in removed
    assert (lines(place), held(place)) == (before, {"aging", "new"})
    assert place.ledger() == ledger
    assert place.ingest().rows_in == 0
    assert held(place) == {"aging", "new"}
    assert clean(place) == {}


def test_an_export_goes_when_its_time_is_over(place: Place) -> None:
    folder, other = place.root / "answers" / "r-1", place.root / "answers" / "r-2"
    with tombstones.opened(place.lake, create=True) as ledger:
        assert ledger is not None
        for one, until in ((folder, datetime(2011, 1, 1, tzinfo=UTC)), (other, datetime(9000, 1, 1, tzinfo=UTC))):
            request = tombstones.receive(ledger, "access", "ada", datetime(2011, 10, 1, tzinfo=UTC))
            one.mkdir(parents=True)
            (one / "everything.json").write_text("{}")
            exports.register(ledger, request, one, until)

    removed = clean(place)

    assert removed["exports"] == 1
    assert not folder.exists()
    assert other.is_dir()
    with tombstones.opened(place.lake) as ledger:
        assert ledger is not None
        assert [e.path for e in exports.registered(ledger)] == [other]


def test_every_table_of_people_says_how_long_in_a_way_that_can_be_kept() -> None:
    rules = {law.name: retention.rule_of(law, defaults()) for law in contracts.all_of("landing")}

    assert {name for name, rule in rules.items() if rule is None} == {"items"}
    events = rules["events"]
    assert events is not None
    assert events.free_text_days is not None
    assert events.free_text_days == min(r.free_text_days or r.days for r in rules.values() if r)


def test_a_table_that_is_not_there_cannot_have_a_rule(place: Place) -> None:
    assert place.config is not None
    place.config.write_text("[privacy.retention_days]\nmoods = 3\n")

    with pytest.raises(ConfigurationError, match="moods"):
        clean(place)
