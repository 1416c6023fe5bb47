"""`make bench` keeps working: at a tiny size, every part of the job meets its floor."""

import json
from pathlib import Path

import pytest

from benchmarks import one_night
from benchmarks.results import PARTS, Figures, as_markdown
from tasks import quality
from tasks.findings import CheckReport
from tests.nights import a_run


def test_every_part_is_measured_beside_its_floor_and_reported(
    market: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a small market, and no wait for Great Expectations: its floor needs only the contracts
    monkeypatch.setattr(quality, "check", lambda *_: CheckReport(()))
    # When a night runs beside its floors, and their figures are written down
    found = json.loads(one_night.as_json(one_night.measure(a_run(market, tmp_path / "lake"), beside_floors=True)))
    text = as_markdown(Figures(quarter=found, full=found, beside=found), "a small market", "today")
    # Then no floor was free, every layer was checked, more was scored than the lists, and every step has a row
    assert found["floors"].keys() == found["ours"].keys() == PARTS.keys()
    assert min(spent["wall"] for spent in (*found["floors"].values(), *found["top_k"].values())) > 0
    assert found["often"]["als"] >= 1 and found["often"]["checks"] == 3 and found["often"]["top-k"] > 1
    assert all(f"| {name} |" in text for name in (*found["steps"], *PARTS))
