"""Killed at any instant, the next erasure ends where an undisturbed one would have; so does a night that was killed."""

import importlib
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.erase import erase
from flows.nightly import night
from flows.steps import plainly
from tasks import scan
from tasks.findings import CheckReport
from tests.nights import read, without_checks
from tests.privacy import worlds
from tests.privacy.worlds import IDS

STEPS = ("inventory", "hide", "inventory landing", "rewrite", "relearn", "rebuild", "purge", "scan", "receipts")
INSTANTS = (
    "tasks.tombstones.bury 2", "tasks.hiding.serving.write 2", "tasks.shelf.point 1", "tasks.shelf.supersede 2",
    "tasks.withdrawal._replace 2", "tasks.withdrawal._claim 1", "tasks.shards.commit_manifest 1",
    "tasks.shards.commit_manifest 3", "tasks.registry.promote 1", "tasks.registry.serve 2", "tasks.registry.discard 1",
    "tasks.registry.stamp 1", "tasks.hiding.retire 1", "tasks.shelf.discard 2", "tasks.tombstones.close 3",
)  # fmt: skip
"""A function, and before which of its calls."""
OF_A_NIGHT = ("ingest", "open history", "train", "build marts", "publish", "prune")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at(root: Path, flow: str, step: str, after: bool) -> None:
    """A process of its own: one erasure or night, killed before or after the named step."""
    without_checks()

    def mortal(name: str, do: Callable[..., None], *given: Any) -> None:
        if (name, False) == (step, after):
            die()
        plainly(name, do, *given)
        if (name, True) == (step, after):
            die()

    run = worlds.quick(root)
    if flow == "erase":
        erase(run, mortal)
    else:
        night(run, mortal)


def killed_in(root: Path, instant: str) -> None:
    """A process of its own: one erasure, killed before a certain call of a function."""
    without_checks()
    named, number = instant.split()
    parts = named.split(".")
    module: Any = importlib.import_module(".".join(parts[:2]))
    for part in parts[2:-1]:
        module = getattr(module, part)
    real, calls = getattr(module, parts[-1]), [0]

    def mortal(*given: Any, **also: Any) -> Any:
        calls[0] += 1
        if calls[0] == int(number):
            die()
        return real(*given, **also)

    setattr(module, parts[-1], mortal)
    erase(worlds.quick(root))


@pytest.fixture(autouse=True)
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.quality.check", lambda *_: CheckReport(()))


@pytest.fixture(scope="module")
def asked(season: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A lake in which the canaries have asked, and where one that never knew them stands beside."""
    root = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", lambda *_: CheckReport(()))
        worlds.ask(worlds.lived(root / "lake", season, canaries=True, nights=worlds.NIGHTS[2:]))
        worlds.lived(root / "never", season, canaries=False, nights=worlds.NIGHTS[2:])
    yield root


def kill(target: Callable[..., None], *given: object) -> None:
    process = multiprocessing.get_context("spawn").Process(target=target, args=given)
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL


def converges(asked: Path, root: Path, status: str = "done") -> None:
    run = worlds.quick(root)

    told = erase(run)

    assert told["status"] == status
    assert worlds.differences(run.lake, asked / "never" / "lake") == []
    assert not (run.lake / ".scratch").exists()
    assert not any(scan.scan(Path(run.landing), run.lake, IDS).values())


@pytest.mark.prove
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_killed_at_a_step_and_repeated_it_converges(asked: Path, tmp_path: Path, step: str, after: bool) -> None:
    shutil.copytree(asked / "lake", tmp_path / "lake", symlinks=True)
    kill(killed_at, tmp_path / "lake", "erase", step, after)
    converges(asked, tmp_path / "lake", "nothing_to_do" if (step, after) == ("receipts", True) else "done")


@pytest.mark.prove
@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_within_a_step_and_repeated_it_converges(asked: Path, tmp_path: Path, instant: str) -> None:
    shutil.copytree(asked / "lake", tmp_path / "lake", symlinks=True)
    kill(killed_in, tmp_path / "lake", instant)
    converges(asked, tmp_path / "lake")


@pytest.mark.prove
@pytest.mark.parametrize("step", OF_A_NIGHT)
def test_a_night_that_was_killed_leaves_nobody_behind(asked: Path, tmp_path: Path, step: str) -> None:
    shutil.copytree(asked / "lake", tmp_path / "lake", symlinks=True)
    kill(killed_at, tmp_path / "lake", "night", step, True)
    converges(asked, tmp_path / "lake")


@pytest.mark.prove
@pytest.mark.parametrize("step", OF_A_NIGHT)
def test_a_night_after_a_killed_erasure_shows_nobody(asked: Path, tmp_path: Path, step: str) -> None:
    """Hidden, not rewritten: a night leaves them out before it publishes; killed itself, so does the next."""
    shutil.copytree(asked / "lake", tmp_path / "lake", symlinks=True)
    kill(killed_at, tmp_path / "lake", "erase", "hide", True)
    kill(killed_at, tmp_path / "lake", "night", step, True)

    run = worlds.quick(tmp_path / "lake")
    night(run)

    # Landed lines are still there, and counted as suppressed: what is made for people is the same, the ledger is not.
    for table in ("recommendations", "default_recommendations", "model_runs", "model_evaluation"):
        mine, theirs = (read(lake / "current" / table) for lake in (run.lake, asked / "never" / "lake"))
        assert mine, table
        assert sorted(mine, key=repr) == sorted(theirs, key=repr), table
    assert not any(scan.scan(tmp_path / "nothing", run.lake, IDS, with_ledger=False).values())
    told = erase(run)
    assert told["status"] == "done"
    assert (run.lake / "current").readlink().name == (asked / "never" / "lake" / "current").readlink().name
    assert not any(scan.scan(Path(run.landing), run.lake, IDS).values())
