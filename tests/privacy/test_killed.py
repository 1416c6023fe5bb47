"""Killed at any step, the next erasure ends where an undisturbed one would have."""

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.erase import erase
from flows.nightly import night
from flows.steps import plainly
from tasks import lake, scan
from tests.nights import without_checks
from tests.privacy import worlds
from tests.privacy.worlds import IDS

STEPS = ("inventory", "hide", "rewrite", "rebuild", "purge", "scan", "receipts")


def erase_when_told(root: Path, die: tuple[str, bool]) -> None:
    """A process of its own: one erasure, killed before or after the named step."""
    without_checks()

    def mortal(name: str, do: Callable[..., None], *given: Any) -> None:
        if die == (name, False):
            os.kill(os.getpid(), signal.SIGKILL)
        plainly(name, do, *given)
        if die == (name, True):
            os.kill(os.getpid(), signal.SIGKILL)

    erase(worlds.a_night(root), mortal)


@pytest.fixture(scope="module")
def asked(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake in which the canaries have asked, and where one that never knew them stands beside."""
    root = tmp_path_factory.mktemp("killed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", None)
        without_checks()
        for name, canaries in (("lake", True), ("never", False)):
            worlds.land(root / name / "landing", market, canaries=canaries)
            night(worlds.a_night(root / name))
        worlds.ask(worlds.a_night(root / "lake"))
    return root


@pytest.mark.prove
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("after", [False, True])
def test_killed_and_repeated_it_converges(
    asked: Path, tmp_path: Path, step: str, after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.quality.check", None)
    without_checks()
    shutil.copytree(asked / "lake", tmp_path / "lake", symlinks=True)
    process = multiprocessing.get_context("spawn").Process(
        target=erase_when_told, args=(tmp_path / "lake", (step, after))
    )
    process.start()
    process.join(300)
    assert process.exitcode == -signal.SIGKILL

    run = worlds.a_night(tmp_path / "lake")
    told = erase(run)

    assert told["status"] == ("nothing_to_do" if (step, after) == ("receipts", True) else "done")
    for table in ("events", "users", "identities"):
        one, other = (lake.read_manifest(r, table) for r in (run.lake, asked / "never" / "lake"))
        assert (one.files, one.ledger) == (other.files, other.ledger)
    never = (asked / "never" / "lake" / "current").readlink().name
    assert (run.lake / "current").readlink().name == never
    assert not any(scan.scan(Path(run.landing), run.lake, IDS).values())
