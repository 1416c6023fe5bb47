"""A request that waits is told of before the month is over, and told of louder each week."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks import deadlines, tombstones

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def test_requests_are_counted_by_the_last_limit_that_they_passed(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    with tombstones.opened(lake, create=True) as ledger:
        assert ledger is not None
        for days in (0, 6, 7, 13, 14, 27, 28, 400):
            tombstones.receive(ledger, "erase", f"person {days}", NOW - timedelta(days=days))
        done = tombstones.receive(ledger, "erase", "somebody else", NOW - timedelta(days=400))
        tombstones.close(ledger, done, {"signed": True})

    assert deadlines.overdue_in(lake, NOW) == {"7 days": 2, "14 days": 1, "21 days": 1, "28 days": 2}


def test_a_lake_that_nobody_asked_anything_of_has_none(tmp_path: Path) -> None:
    assert deadlines.overdue_in(tmp_path / "lake", NOW) == {}
    assert not tombstones.folder_of(tmp_path / "lake").exists()


@pytest.mark.parametrize(("days", "alarm"), [(6, 0), (7, 7), (20, 14), (21, 21), (99, 28)])
def test_the_alarm_of_one_request(tmp_path: Path, days: int, alarm: int) -> None:
    with tombstones.opened(tmp_path / "lake", create=True) as ledger:
        assert ledger is not None
        tombstones.receive(ledger, "access", "somebody", NOW - timedelta(days=days, hours=1))
        (request,) = tombstones.requests(ledger)

    assert deadlines.alarm(request, NOW) == alarm
    assert deadlines.days_open(request, NOW) == days
