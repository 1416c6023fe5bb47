"""What is published is a pure function of what had landed, the settings and the day: nothing else moves a byte."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from flows.nightly import night
from tasks import contracts, shards, sources
from tasks.report import Summary
from tasks.settings import Run, load_config
from tests.nights import LAST, a_run, shelf, statuses, tables, tree, without_checks

DAY = "2026-03-28"
"""Three landing dates of the market lie after it."""
EARLIER = "2026-03-29"

ELSEWHERE = """
import json, sys
from pathlib import Path
from flows.nightly import night
from tests.nights import a_run
landing, lake, day, changed = sys.argv[1:]
print(json.dumps(night(a_run(Path(landing), Path(lake), day, run=json.loads(changed)))["content_hash"]))
"""

OTHERWISE = {"threads": 1, "max_block_cells": 600}
"""Six hundred cells: ten people by sixty items, or fewer."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pure") / "lake"


@pytest.fixture(scope="module")
def first(market: Path, lake: Path) -> Summary:
    """The night that all others are compared with; every check runs in it."""
    return night(a_run(market, lake, DAY))


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr("tasks.quality.check", None)  # put back when the test is over
    without_checks()
    yield


def test_a_night_shows_something_of_everything(first: Summary) -> None:
    # Otherwise equal hashes would prove little.
    assert first["status"] == "published"
    assert first["ingest"]["residual"] == 0
    empty = [name for name, rows in first["tables"].items() if not rows]
    # Nothing ranks on a first night, so there is no chance to come true.
    assert set(empty) <= {"similar_items", "model_reliability"}
    assert set(first["ingest"]["reasons"]) >= {"conflict", "quoted_newline", "column_count"}
    assert not first["evaluation"]["split"]["too_little_data"]


def test_nothing_but_landing_settings_and_day_changes_anything(market: Path, first: Summary, tmp_path: Path) -> None:
    # Given the same landing elsewhere, without what came later
    landing = elsewhere(market, tmp_path)
    assert a_run(market, tmp_path).config.run.threads == 2
    # When another process runs the night in another zone, with another hash seed, other threads and other blocks
    told = in_another_process(landing, tmp_path / "lake [2]", OTHERWISE)
    # Then all of it together moves no byte
    assert told == first["content_hash"]


@pytest.mark.prove
def test_what_lands_after_the_day_and_where_it_all_lies_changes_nothing(
    market: Path, first: Summary, tmp_path: Path
) -> None:
    again = night(a_run(elsewhere(market, tmp_path), tmp_path / "lake [2]", DAY))

    assert again["content_hash"] == first["content_hash"]


@pytest.mark.prove
def test_neither_threads_nor_blocks_change_anything(market: Path, first: Summary, tmp_path: Path) -> None:
    again = night(a_run(market, tmp_path / "lake", DAY, run=OTHERWISE))

    assert again["content_hash"] == first["content_hash"]


def test_it_does_not_matter_whether_history_is_loaded_or_read_where_it_lies(
    market: Path, first: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "LONG", 0)

    again = night(a_run(market, tmp_path / "lake", DAY))

    assert again["content_hash"] == first["content_hash"]


@pytest.mark.prove
def test_neither_zone_nor_hash_seed_nor_folder_of_the_process_changes_anything(
    market: Path, first: Summary, tmp_path: Path
) -> None:
    assert in_another_process(market, tmp_path / "lake", {}) == first["content_hash"]


def elsewhere(market: Path, folder: Path) -> Path:
    """The market's landing under a name that looks like a pattern, without what lands after the day."""
    landing = folder / "another place" / "landing [1]"
    shutil.copytree(market, landing)
    later = [f for f in landing.glob("*/*") if f.name[: len(DAY)] > DAY]
    assert len(later) > 3
    for late in later:
        shutil.rmtree(late)
    return landing


def in_another_process(landing: Path, lake: Path, changed: Mapping[str, int]) -> str:
    """The content hash of the day, as a process far away comes to it."""
    root = Path(__file__).parents[2]
    around = {"TZ": "Pacific/Chatham", "PYTHONHASHSEED": "4711", "PYTHONPATH": str(root), "LC_ALL": "C"}
    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(landing), str(lake), DAY, json.dumps(changed)],
        cwd=lake.parent, env=os.environ | around, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return str(json.loads(told.stdout.splitlines()[-1]))


def test_the_same_day_again_is_unchanged_and_leaves_nothing_more(market: Path, first: Summary, lake: Path) -> None:
    before = tree(lake)

    again = night(a_run(market, lake, DAY))

    assert again["status"] == "unchanged"
    assert again["publication"] == first["publication"]
    assert tree(lake) == before


@pytest.mark.usefixtures("unchecked")
def test_nights_one_after_another_equal_one_night_and_a_backfilled_day(market: Path, tmp_path: Path) -> None:
    every, only = tmp_path / "every", tmp_path / "only"

    before, after = (night(a_run(market, every, day)) for day in (EARLIER, LAST))
    alone = night(a_run(market, only, LAST))

    # Table by table
    assert statuses(before, after, alone) == ["published"] * 3
    assert len(shelf(every)) == 2
    same_tables(every, only)
    assert after["content_hash"] == alone["content_hash"] != before["content_hash"]

    # And an earlier day, run after the later one, is what it was, beside what is served
    for lake, status in ((every, "unchanged"), (only, "published")):
        filled = night(a_run(market, lake, EARLIER))
        assert filled["status"] == status
        assert filled["content_hash"] == before["content_hash"]
        assert (lake / "current").resolve().name == alone["publication"]


def same_tables(one: Path, other: Path) -> None:
    ours, theirs = tables(one), tables(other)
    assert ours.keys() == theirs.keys()
    differing = [name for name in ours if ours[name] != theirs[name] and contracts.load("marts", name).hashed]
    assert not differing


# On real data


@pytest.fixture(scope="module")
def retail(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    landing = tmp_path_factory.mktemp("retail") / "landing"
    sources.run("online-retail", real_data / "online-retail", landing)
    return landing


def real(landing: Path, lake: Path, as_of: str = "2011-11-10", **run: int) -> Run:
    """Online Retail under the packaged settings, all of them."""
    settings = load_config()
    changed = settings.model_copy(update={"run": settings.run.model_copy(update=run)})
    return replace(a_run(landing, lake, as_of), config=changed)


@pytest.mark.prove
def test_on_real_data_nothing_else_moves_a_byte(retail: Path, tmp_path: Path) -> None:
    first = night(real(retail, tmp_path / "lake"))
    shutil.copytree(retail, tmp_path / "elsewhere")
    for folder in (tmp_path / "elsewhere").glob("*/*"):
        if folder.name > "2011-11-10":
            shutil.rmtree(folder)

    cut_off = night(real(tmp_path / "elsewhere", tmp_path / "second"))
    one_thread = night(real(retail, tmp_path / "third", threads=1, max_block_cells=1_000_000))
    again = night(real(retail, tmp_path / "lake"))

    assert first["content_hash"] == cut_off["content_hash"] == one_thread["content_hash"] == again["content_hash"]
    assert again["status"] == "unchanged"


@pytest.mark.prove
def test_on_real_data_ten_nights_equal_one(retail: Path, tmp_path: Path) -> None:
    days = [(date(2011, 11, 1) + timedelta(days=n)).isoformat() for n in range(10)]

    every = [night(real(retail, tmp_path / "every", day)) for day in days]
    only = night(real(retail, tmp_path / "only", days[-1]))

    assert statuses(*every) == ["published"] * 10
    same_tables(tmp_path / "every", tmp_path / "only")
    assert every[-1]["content_hash"] == only["content_hash"]
