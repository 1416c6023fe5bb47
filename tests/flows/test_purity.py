"""What is published is a pure function of what had landed, the settings and the day: nothing else moves a byte."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest

from flows.nightly import night
from tasks import contracts, sources
from tasks.report import Summary
from tasks.settings import Run, load_config
from tests.nights import LAST, a_run, shelf, statuses, tables, tree, without_checks

DAY = "2026-03-28"
"""Three landing dates of the market lie after it."""

ELSEWHERE = """
import json, sys
from pathlib import Path
from flows.nightly import night
from tests.nights import a_run
landing, lake, day = sys.argv[1:]
print(json.dumps(night(a_run(Path(landing), Path(lake), day))["content_hash"]))
"""


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


def test_what_lands_after_the_day_and_where_it_all_lies_changes_nothing(
    market: Path, first: Summary, tmp_path: Path
) -> None:
    landing = tmp_path / "another place" / "landing [1]"
    shutil.copytree(market, landing)
    later = [f for f in landing.glob("*/*") if f.name[: len(DAY)] > DAY]
    for folder in later:
        shutil.rmtree(folder)

    again = night(a_run(landing, tmp_path / "lake [2]", DAY))

    assert len(later) > 3
    assert again["content_hash"] == first["content_hash"]


def test_neither_threads_nor_blocks_change_anything(market: Path, first: Summary, tmp_path: Path) -> None:
    assert a_run(market, tmp_path).config.run.threads == 2

    # 600 cells: ten people by sixty items, or fewer.
    again = night(a_run(market, tmp_path / "lake", DAY, run={"threads": 1, "max_block_cells": 600}))

    assert again["content_hash"] == first["content_hash"]


def test_neither_zone_nor_hash_seed_nor_folder_of_the_process_changes_anything(
    market: Path, first: Summary, tmp_path: Path
) -> None:
    root = Path(__file__).parents[2]
    around = {"TZ": "Pacific/Chatham", "PYTHONHASHSEED": "4711", "PYTHONPATH": str(root), "LC_ALL": "C"}

    told = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(market), str(tmp_path / "lake"), DAY],
        cwd=tmp_path, env=os.environ | around, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip

    assert json.loads(told.stdout.splitlines()[-1]) == first["content_hash"]


def test_the_same_day_again_is_unchanged_and_leaves_nothing_more(market: Path, first: Summary, lake: Path) -> None:
    before = tree(lake)

    again = night(a_run(market, lake, DAY))

    assert again["status"] == "unchanged"
    assert again["publication"] == first["publication"]
    assert tree(lake) == before


@pytest.mark.usefixtures("unchecked")
def test_nights_one_after_another_equal_one_night_table_by_table(market: Path, tmp_path: Path) -> None:
    days = ["2026-03-29", "2026-03-30", LAST]

    every = [night(a_run(market, tmp_path / "every", day)) for day in days]
    only = night(a_run(market, tmp_path / "only", LAST))

    assert statuses(*every) == ["published"] * 3
    assert len(shelf(tmp_path / "every")) == 3
    same_tables(tmp_path / "every", tmp_path / "only")
    assert every[-1]["content_hash"] == only["content_hash"]

    # And an earlier day, run after the later ones, is what it was, beside what is served
    earlier = night(a_run(market, tmp_path / "every", days[0]))
    assert earlier["status"] == "unchanged"
    assert earlier["content_hash"] == every[0]["content_hash"]
    assert (tmp_path / "every" / "current").resolve().name == only["publication"]


@pytest.mark.usefixtures("unchecked")
def test_a_backfilled_day_equals_the_day_in_a_fresh_lake_and_is_not_served(market: Path, tmp_path: Path) -> None:
    newest = night(a_run(market, tmp_path / "lake", LAST))

    filled = night(a_run(market, tmp_path / "lake", "2026-03-25"))
    fresh = night(a_run(market, tmp_path / "fresh", "2026-03-25"))

    assert filled["status"] == "published"
    assert filled["content_hash"] == fresh["content_hash"] != newest["content_hash"]
    assert (tmp_path / "lake" / "current").resolve().name == newest["publication"]


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
