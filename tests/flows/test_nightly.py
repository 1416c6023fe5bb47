"""What a night does with what people deliver: bad rows, lost files, silence, and a catalogue that changes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from flows import nightly
from flows.nightly import Night, night
from flows.steps import plainly
from tasks import lake as lakes
from tasks.errors import BlockedError, ConflictError, MissingInputError
from tasks.report import Summary
from tests.nights import a_run, land, read, shelf, tables, without_checks

Row = Mapping[str, Any]

ALONE = {"privacy": {"min_people": 1}}
"""One person behind an item is enough, so that a handful of people shows what a rule does."""


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", None)  # put back when the test is over
    without_checks()


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    """Ten items and what eight people did with them until 2026-01-10."""
    land(tmp_path / "landing", "items", "2026-01-01", [item(n) for n in range(10)])
    for day in range(1, 11):
        land(tmp_path / "landing", "events", f"2026-01-{day:02}", events(day))
    return tmp_path / "landing"


def item(n: int, **changed: Any) -> Row:
    return {"item_id": f"i{n}", "title": f"red thing {n}", "category": "things", "price": 10 + n, "currency": "EUR",
            "review_status": "approved"} | changed  # fmt: skip


def events(day: int, broken: bool = False) -> list[Row]:
    """Each of eight people buys two items a day, another pair every day."""
    when = "never" if broken else f"2026-01-{day:02}T12:00:00Z"
    return [
        {"event_id": f"e{day}-{person}-{n}", "user_id": f"u{person}", "event_type": "purchase",
         "item_id": f"i{(day + person + 3 * n) % 10}", "occurred_at": when}
        for person in range(8) for n in range(2)
    ]  # fmt: skip


def watching(seen: dict[str, list[Any]], after: str, sql: str) -> Callable[..., None]:
    """Runs steps plainly and keeps the rows of `sql` once the step `after` has run."""

    def step(name: str, do: Callable[..., None], *given: Any) -> None:
        plainly(name, do, *given)
        if name == after:
            tonight: Night = given[0]
            with tonight.open() as con:
                seen["rows"] = con.execute(sql).fetchall()

    return step


def served(lake: Path) -> str:
    return (lake / "current").resolve().name


def shown(lake: Path, item_id: str) -> list[str]:
    """The published tables in which the item occurs."""
    return [name for name, rows in tables(lake).items() if any(item_id in map(str, row) for row in rows)]


# Blocked


def test_a_required_table_of_bad_rows_is_blocked_until_it_is_corrected(landing: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    good = night(a_run(landing, lake, "2026-01-10"))

    # Given a day on which no row can be read
    land(landing, "events", "2026-01-11", events(11, broken=True))
    tonight = a_run(landing, lake, "2026-01-11")
    with pytest.raises(BlockedError, match="few_rows_quarantined") as stopped:
        night(tonight)
    assert stopped.value.exit_code == 3
    assert stopped.value.summary is not None
    assert stopped.value.summary["status"] == "blocked"
    assert stopped.value.summary["publication"] is None
    assert stopped.value.summary["ingest"]["quarantined"] == 16
    assert served(lake) == good["publication"]

    # Then it is not passed because the rows are no longer new
    with pytest.raises(BlockedError, match="few_rows_quarantined"):
        night(tonight)
    # nor because another day has come
    with pytest.raises(BlockedError, match="few_rows_quarantined"):
        night(a_run(landing, lake, "2026-01-12"))
    assert shelf(lake) == [good["publication"]]

    # And the same rows, corrected and landed the next day, are published
    land(landing, "events", "2026-01-12", [*events(11), *events(12)])
    mended = night(a_run(landing, lake, "2026-01-12"))
    assert mended["status"] == "published"
    assert served(lake) == mended["publication"]


def test_a_bad_file_corrected_in_its_place_is_published(landing: Path, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    night(a_run(landing, lake, "2026-01-10"))
    land(landing, "events", "2026-01-11", events(11, broken=True))
    with pytest.raises(BlockedError):
        night(a_run(landing, lake, "2026-01-11"))

    land(landing, "events", "2026-01-11", events(11))
    mended = night(a_run(landing, lake, "2026-01-11"))

    assert mended["status"] == "published"
    assert mended["content_hash"] == night(a_run(landing, tmp_path / "fresh", "2026-01-11"))["content_hash"]


def test_a_few_bad_rows_are_reported_and_published(landing: Path, tmp_path: Path) -> None:
    land(landing, "events", "2026-01-10", [*events(10), {**events(10, broken=True)[0], "event_id": "x"}])

    told = night(a_run(landing, tmp_path / "lake", "2026-01-10"))

    assert (told["status"], told["ingest"]["reasons"]) == ("published", {"occurred_at_not_a_time": 1})


def test_a_lost_landing_of_a_required_table_is_blocked_until_the_file_is_replaced(
    landing: Path, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    good = night(a_run(landing, lake, "2026-01-10"))
    land(landing, "events", "2026-01-11", [{"event_id": "e", "who": "u0"}])  # its required columns are missing

    for _ in range(2):
        with pytest.raises(BlockedError, match="no_landing_lost"):
            night(a_run(landing, lake, "2026-01-11"))
        assert served(lake) == good["publication"]

    land(landing, "events", "2026-01-11", events(11))
    assert night(a_run(landing, lake, "2026-01-11"))["status"] == "published"


def test_a_rejected_file_beside_an_accepted_one_is_a_warning(landing: Path, tmp_path: Path) -> None:
    land(landing, "events", "2026-01-10", [{"event_id": "e", "who": "u0"}], "other.csv")

    told = night(a_run(landing, tmp_path / "lake", "2026-01-10"))

    assert told["status"] == "published"
    assert [f["file"] for f in told["ingest"]["rejected_files"]] == ["events/2026-01-10/other.csv"]
    assert told["checks"]["failed"]["warnings"] == ["landing.events: no_file_rejected"]


def test_a_missing_landing_is_said(tmp_path: Path) -> None:
    with pytest.raises(MissingInputError, match="check --landing"):
        night(a_run(tmp_path / "none", tmp_path / "lake"))


# Silence


def test_a_day_without_files_is_published_because_the_cut_moves(landing: Path, tmp_path: Path) -> None:
    before = night(a_run(landing, tmp_path / "lake", "2026-01-10"))

    after = night(a_run(landing, tmp_path / "lake", "2026-01-12"))

    assert (after["status"], after["ingest"]["files"]) == ("published", 0)
    assert after["content_hash"] != before["content_hash"]
    assert served(tmp_path / "lake") == after["publication"]


def test_no_items_at_all_is_no_data_and_serves_what_was_served(tmp_path: Path) -> None:
    land(tmp_path / "landing", "events", "2026-01-01", events(1))

    told = night(a_run(tmp_path / "landing", tmp_path / "lake", "2026-01-01"))

    assert (told["status"], told["publication"], told["content_hash"]) == ("no_data", None, None)
    assert not (tmp_path / "lake" / "current").exists()


def test_a_catalogue_without_events_publishes_default_lists_and_says_too_little_data(tmp_path: Path) -> None:
    land(tmp_path / "landing", "items", "2026-01-01", [item(n) for n in range(10)])

    told = night(a_run(tmp_path / "landing", tmp_path / "lake", "2026-01-01", **ALONE))

    assert told["status"] == "published"
    assert told["tables"]["default_recommendations"] > 0
    assert told["tables"]["recommendations"] == 0
    assert told["evaluation"]["split"]["too_little_data"]
    used = [run for run in tables(tmp_path / "lake")["model_runs"] if "too_little_data" in str(run)]
    assert used


# A catalogue that changes


def test_an_item_that_is_delivered_no_more_stays(landing: Path, tmp_path: Path) -> None:
    # Items are an upsert: absence means nothing.
    land(landing, "items", "2026-01-10", [item(n) for n in range(1, 10)])

    night(a_run(landing, tmp_path / "lake", "2026-01-10", **ALONE))

    assert "recommendations" in shown(tmp_path / "lake", "i0")


def test_a_new_price_counts_from_the_night_after_it_landed(landing: Path, tmp_path: Path) -> None:
    land(landing, "items", "2026-01-10", [item(3, price=99)])
    prices: dict[str, list[Any]] = {}
    step = watching(prices, "open history", "SELECT price FROM staging.items WHERE item_id = 'i3'")

    night(a_run(landing, tmp_path / "lake", "2026-01-09"), step)
    assert prices["rows"] == [(13,)]

    night(a_run(landing, tmp_path / "lake", "2026-01-10"), step)
    assert prices["rows"] == [(99,)]


HIDDEN: dict[str, Row] = {
    "i0": {"review_status": "blocked"},
    "i1": {"review_status": "pending"},
    "i2": {"stock": 0},
    "i3": {"available_until": "2026-01-05T00:00:00Z"},
    "i4": {"available_from": "2026-02-01T00:00:00Z"},
}


def test_items_that_may_not_be_shown_are_gone_from_every_list(landing: Path, tmp_path: Path) -> None:
    # Given lists that show them
    night(a_run(landing, tmp_path / "lake", "2026-01-09", **ALONE))
    assert offered(tmp_path / "lake") >= {(name, item) for item in HIDDEN for name in LISTS}

    # When the next day's catalogue says that they may not be shown
    land(landing, "items", "2026-01-10", [item(int(i[1:]), **change) for i, change in HIDDEN.items()])
    night(a_run(landing, tmp_path / "lake", "2026-01-10", **ALONE))

    # Then the others fill the lists
    assert offered(tmp_path / "lake") >= {(name, f"i{n}") for n in range(5, 10) for name in LISTS}
    assert not [one for one in offered(tmp_path / "lake") if one[1] in HIDDEN]


LISTS = ("recommendations", "default_recommendations", "trending_items")


def offered(lake: Path) -> set[tuple[str, str]]:
    """Which list offers which item. As a reason ("because you bought …"), and as the page on which others are shown, an
    item is not offered."""
    columns = dict.fromkeys(LISTS, "item_id") | {"similar_items": "other_item_id"}
    return {(n, str(i)) for n, column in columns.items() for (i,) in read(lake / "current" / n, f"DISTINCT {column}")}


# One writer


def test_a_second_night_gives_way_at_once(landing: Path, tmp_path: Path) -> None:
    with lakes.lock(tmp_path / "lake"), pytest.raises(ConflictError, match="another run holds the lock") as told:
        night(a_run(landing, tmp_path / "lake"))

    assert told.value.exit_code == 4
    assert not (tmp_path / "lake" / "runs").exists()


def test_a_step_that_breaks_says_no_value(landing: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(tonight: Night) -> None:
        with tonight.open() as con:
            con.execute("SELECT CAST('canary-4711' AS INTEGER)")

    def worse(_tonight: Night) -> None:
        raise ValueError("canary-4711 is no number")

    for fault in (broken, worse):
        monkeypatch.setattr(nightly, "recommend", fault)
        with pytest.raises(RuntimeError, match=r"recommend: .* withheld") as told:
            night(a_run(landing, tmp_path / "lake", "2026-01-10"))
        assert "canary" not in str(told.value)
        assert told.value.__suppress_context__
    assert not list((tmp_path / "lake").glob(".scratch*"))


def test_every_night_leaves_one_record_of_its_run(landing: Path, tmp_path: Path) -> None:
    told: Summary = night(a_run(landing, tmp_path / "lake", "2026-01-10"))

    (record,) = (tmp_path / "lake" / "runs").iterdir()
    assert told["content_hash"] in record.read_text()
    steps = [s for name, s in told["seconds"].items() if name != "total"]
    # Each is rounded to a thousandth, the total as well.
    assert sum(steps) <= told["seconds"]["total"] + 0.0005 * (len(steps) + 1)
