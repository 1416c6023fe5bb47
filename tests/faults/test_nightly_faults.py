"""Faults of a whole night: killed at any instant, started twice, and the leftovers of those that died before."""

import multiprocessing
import random
import shutil
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from flows.nightly import night
from tasks.errors import ConflictError
from tasks.settings import Run
from tests.nights import LAST, STEPS, a_run, run_when_told, shelf, tree, without_checks

# Clean children that already know the packages: a fork of this process would inherit DuckDB's locks, a fresh
# interpreter would spend seconds on imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.nights", "tests.published"])

PATIENCE_SECONDS = 120
YESTERDAY = "2026-03-30"


class Clean(NamedTuple):
    """What a night comes to that nothing disturbed."""

    content_hash: str
    steps: list[str]
    files: list[str]
    seconds: float
    yesterday: Path
    """A lake as it was the day before."""


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", None)  # put back when the test is over
    without_checks()


@pytest.fixture(scope="module")
def clean(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Clean:
    folder = tmp_path_factory.mktemp("clean")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", None)
        without_checks()
        night(a_run(market, folder / "yesterday", YESTERDAY))
        shutil.copytree(folder / "yesterday", folder / "lake", symlinks=True)
        began = time.monotonic()
        told = night(a_run(market, folder / "lake", LAST))
    steps = [name for name in told["seconds"] if name != "total"]
    return Clean(told["content_hash"], steps, tree(folder / "lake"), time.monotonic() - began, folder / "yesterday")


def start(run: Run, die: tuple[str, bool] | None = None, wait: float = 0) -> tuple[Any, Any]:
    """A process that does the night, about to begin; and the pipe that says what it came to."""
    ours, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=run_when_told, args=(theirs, run, die, wait))
    child.start()
    theirs.close()
    assert ours.poll(PATIENCE_SECONDS)
    assert ours.recv() == "ready"
    return child, ours


def finished(child: Any, pipe: Any) -> str | None:
    """The content hash that the process came to, or nothing where it was killed."""
    child.join(PATIENCE_SECONDS)
    assert child.exitcode is not None
    try:
        return str(pipe.recv())
    except EOFError:
        return None


def nothing_happened(run: Run, clean: Clean) -> None:
    """The next start comes to what the clean night came to, and leaves what it left."""
    readable = (run.lake / "current").resolve().name
    assert readable in shelf(run.lake)
    again = night(run)
    assert again["content_hash"] == clean.content_hash
    assert tree(run.lake) == clean.files


def killed(market: Path, clean: Clean, folder: Path, when: tuple[str, bool]) -> None:
    shutil.copytree(clean.yesterday, folder, symlinks=True)
    run = a_run(market, folder, LAST)
    assert finished(*start(run, die=when)) is None
    nothing_happened(run, clean)


# After each the disk is another; between the others only scratch is.
LASTING = [("ingest", True), ("publish", True)]


def test_every_step_is_known_here(clean: Clean) -> None:
    assert clean.steps == STEPS


@pytest.mark.parametrize("when", LASTING, ids=str)
def test_a_night_killed_between_two_steps_changes_nothing(
    market: Path, clean: Clean, tmp_path: Path, when: tuple[str, bool]
) -> None:
    killed(market, clean, tmp_path / "lake", when)


@pytest.mark.prove
@pytest.mark.parametrize("when", [(name, after) for name in STEPS for after in (False, True)], ids=str)
def test_a_night_killed_at_any_boundary_changes_nothing(
    market: Path, clean: Clean, tmp_path: Path, when: tuple[str, bool]
) -> None:
    killed(market, clean, tmp_path / "lake", when)


def killed_at_random(market: Path, clean: Clean, folder: Path, kills: int) -> None:
    draw = random.Random(4711)
    unfinished = 0
    for number in range(kills):
        shutil.copytree(clean.yesterday, folder / str(number), symlinks=True)
        run = a_run(market, folder / str(number), LAST)
        child, pipe = start(run)
        time.sleep(clean.seconds * (number + draw.random()) / kills)
        child.kill()
        unfinished += finished(child, pipe) is None
        nothing_happened(run, clean)
        shutil.rmtree(folder / str(number))
    # It proves something only if some were killed on the way.
    assert unfinished >= max(1, kills // 3)


def test_a_night_killed_at_any_instant_changes_nothing(market: Path, clean: Clean, tmp_path: Path) -> None:
    killed_at_random(market, clean, tmp_path, kills=2)


@pytest.mark.prove
def test_fifty_killed_nights_change_nothing(market: Path, clean: Clean, tmp_path: Path) -> None:
    killed_at_random(market, clean, tmp_path, kills=50)


def test_whatever_killed_runs_left_is_swept(market: Path, clean: Clean, tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    shutil.copytree(clean.yesterday, lake, symlinks=True)
    published = (lake / "current").resolve()
    left = [
        lake / ".scratch" / "0a1b2c3d" / "night.duckdb",
        lake / ".lake.json.0a1b2c3d",
        lake / ".current.0a1b2c3d",
        lake / ".serving.duckdb.0a1b2c3d",
        lake / "runs" / ".2026-03-31-x.json.0a1b2c3d",
        lake / "history" / "events" / ".manifest.json.0a1b2c3d",
        lake / "history" / "events" / "bucket=001" / ".2026-03-31.0a1b2c3d",
        lake / "history" / "events" / "bucket=001" / "2026-03-31-0a1b2c3d4e5f.parquet",
        lake / "quarantine" / "events" / "bucket=001" / "2026-03-31-0a1b2c3d4e5f.parquet",
        lake / "publications" / ".staging-0a1b2c3d" / "recommendations" / "part.parquet",
        lake / "publications" / ".trash-0a1b2c3d" / "manifest.json",
        lake / "publications" / "2026-03-31-0a1b2c3d4e5f" / "manifest.json",
        published / ".manifest.json.0a1b2c3d",
        published / ".serving.duckdb.0a1b2c3d",
    ]  # fmt: skip
    for file in left:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.name.startswith((".current", ".serving.duckdb")) and file.parent == lake:
            file.symlink_to("publications/gone")
        else:
            file.write_bytes(b"half")

    told = night(a_run(market, lake, LAST))

    assert told["content_hash"] == clean.content_hash
    assert [str(f.relative_to(lake)) for f in left if f.is_symlink() or f.exists()] == []
    assert tree(lake) == clean.files


def test_of_two_at_once_one_gives_way_and_one_waits(market: Path, clean: Clean, tmp_path: Path) -> None:
    run = a_run(market, Path(shutil.copytree(clean.yesterday, tmp_path / "lake", symlinks=True)), LAST)
    child, pipe = start(run)
    until = time.monotonic() + PATIENCE_SECONDS
    while not (run.lake / ".scratch").exists():
        assert time.monotonic() < until
        time.sleep(0.01)

    # One that does not wait gives way within seconds
    began = time.monotonic()
    with pytest.raises(ConflictError):
        night(run)
    assert time.monotonic() - began < 2

    # and one that waits finds that everything is done
    waited = night(run, wait=PATIENCE_SECONDS)
    assert waited["status"] == "unchanged"
    assert finished(child, pipe) == waited["content_hash"] == clean.content_hash
    assert len(shelf(run.lake)) == 2
