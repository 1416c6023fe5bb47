"""A day that is run again after rows have gone is the same day, byte for byte, but for what it says of landed files."""

import shutil
from pathlib import Path

import pytest

from flows.nightly import night
from flows.retain import retain
from tests.nights import a_run, tables, without_checks

KEPT = {"retention_days": {"events": 12, "impressions": 12, "free_text": 8, "quarantine": 10}, "replay_days": 2}


@pytest.mark.prove
def test_the_night_is_the_same_whenever_rows_went(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.quality.check", None)  # put back when the test is over
    without_checks()
    landing, lake = tmp_path / "landing", tmp_path / "lake"
    shutil.copytree(market, landing)
    before = night(a_run(landing, lake, "2026-03-29", privacy=KEPT))

    removed = retain(a_run(landing, lake, "2026-03-31", privacy=KEPT))["removed"]
    after = night(a_run(landing, lake, "2026-03-29", privacy=KEPT))

    assert all(removed[place] > 20 for place in ("landing/events", "history/events"))
    assert removed["quarantine/events"] > 0
    one, other = (tables(lake, summary["publication"]) for summary in (before, after))
    assert one["ingest_ledger"] != other["ingest_ledger"]
    assert one["recommendations"]
    assert [name for name in one if one[name] != other[name]] == ["ingest_ledger"]
