"""The counterfactual with a champion and three nights: nothing tells that six people with seven ids were there."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from flows.erase import erase
from flows.nightly import night
from tasks import hiding, registry, scan, tombstones
from tasks.findings import CheckReport
from tests.privacy import worlds
from tests.privacy.worlds import IDS


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", lambda *_: CheckReport(()))
        yield


@pytest.mark.prove
def test_the_lake_with_its_champion_is_that_of_a_landing_that_never_had_them(season: Path, tmp_path: Path) -> None:
    run = worlds.lived(tmp_path / "erased", season, canaries=True)
    never = worlds.lived(tmp_path / "never", season, canaries=False)
    learned = registry.champion(run.lake)
    before = scan.scan(Path(run.landing), run.lake, IDS)
    worlds.ask(run)

    told = erase(run)

    assert scan.present(before)
    assert told["status"] == "done"
    assert worlds.differences(run.lake, never.lake) == []
    assert registry.champion(run.lake) not in (None, learned)
    assert learned not in {entry.version for entry in registry.models(run.lake)}
    assert not any(scan.scan(Path(run.landing), run.lake, IDS).values())


@pytest.mark.prove
def test_a_team_may_leave_the_rebuild_to_the_next_night(season: Path, tmp_path: Path) -> None:
    run = worlds.lived(tmp_path / "erased", season, canaries=True, nights=worlds.NIGHTS[:2])
    never = worlds.lived(tmp_path / "never", season, canaries=False)
    config = run.config.model_copy(update={"erase": run.config.erase.model_copy(update={"rebuild": "nightly"})})
    run = replace(run, config=config)
    learned = registry.champion(run.lake)
    worlds.ask(run)

    first = erase(run)
    with tombstones.opened(run.lake) as ledger:
        assert ledger is not None
        states = {r.state for r in tombstones.requests(ledger)}

    assert first["status"] == "waiting"
    assert states == {"rewritten"}
    assert registry.champion(run.lake) == learned
    assert not any(scan.scan(Path(run.landing), run.lake, IDS, with_ledger=False).values())
    assert erase(run)["status"] == "waiting"

    night(replace(worlds.quick(tmp_path / "erased"), config=config))
    last = erase(run)

    assert last["status"] == "done"
    assert last["rebuilt"] is None
    assert worlds.differences(run.lake, never.lake) == []


@pytest.mark.prove
def test_a_lake_from_before_forgets_its_champion_too(season: Path, tmp_path: Path) -> None:
    run = worlds.lived(tmp_path, season, canaries=True, nights=worlds.NIGHTS[2:])
    learned = registry.champion(run.lake)
    backup = {f: f.read_bytes() for f in (run.lake / "models").rglob("*") if f.is_file() and not f.is_symlink()}
    worlds.ask(run)
    erase(run)
    relearned = registry.champion(run.lake)
    (run.lake / "models" / "epoch").unlink()
    for file, data in backup.items():
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(data)
    assert registry.champion(run.lake) == learned

    night(run)

    assert registry.champion(run.lake) == relearned != learned
    assert hiding.rebuilt(run.lake, tombstones.epoch(run.lake))
