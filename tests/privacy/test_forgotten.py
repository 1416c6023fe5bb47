"""Forgotten exactly: after an erasure the lake is what it would be had the person never been there."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from flows.erase import erase
from flows.nightly import night
from tasks import hiding, lake, places, proof, publication, scan, shards, shelf, tombstones
from tasks.errors import ConfigurationError
from tasks.findings import CheckReport
from tasks.settings import Run
from tests.nights import tables
from tests.privacy import worlds
from tests.privacy.worlds import CANARIES, HEAVY, IDS, ORDINARY, World


def scanned(run: Run, people: tuple[str, ...] = IDS) -> dict[str, int]:
    return scan.scan(Path(run.landing), run.lake, people)


@pytest.fixture(scope="module", autouse=True)
def unchecked() -> Iterator[None]:
    """Great Expectations is most of a small night and not what is proved here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", lambda *_: CheckReport(()))
        yield


@pytest.fixture(scope="module")
def world(market: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return worlds.make(tmp_path_factory.mktemp("privacy"), market, scanned)


def test_history_ledger_and_publication_are_those_of_a_lake_that_never_knew_them(world: World) -> None:
    erased, never = world.erased.lake, world.never.lake

    assert world.summary["status"] == "done"
    for table in ("events", "users", "consents", "items", "identities"):
        one, other = shards.read_manifest(erased, table), shards.read_manifest(never, table)
        # Names hold the sha256 of the bytes, so the same entries are the same bytes.
        assert one.files == other.files
        assert one.ledger == other.ledger
        assert one.contract == other.contract
    assert world.summary["rebuilt"] == world.never_summary["publication"]
    assert tables(erased) == tables(never)
    served, would_be = (erased / "current").resolve(), (never / "current").resolve()
    data = sorted(f.relative_to(served) for f in served.rglob("*.parquet"))
    assert data == sorted(f.relative_to(would_be) for f in would_be.rglob("*.parquet"))
    assert all((served / f).read_bytes() == (would_be / f).read_bytes() for f in data)


def test_landing_is_what_it_would_be(world: World) -> None:
    one, other = Path(world.erased.landing), Path(world.never.landing)
    files = sorted(f.relative_to(other) for f in other.rglob("*") if f.is_file())

    assert sorted(f.relative_to(one) for f in one.rglob("*") if f.is_file()) == files
    assert not [f for f in files if f.name != "_manifest.json" and (one / f).read_bytes() != (other / f).read_bytes()]
    for manifest in (f for f in files if f.name == "_manifest.json"):
        assert json.loads((one / manifest).read_text()) == json.loads((other / manifest).read_text())


def test_they_were_found_wherever_they_were_and_are_found_nowhere(world: World) -> None:
    assert scan.present(world.before)
    for table in ("landing/events", "landing/users", "history/events", "history/users"):
        assert world.before[table] >= len(IDS), table
    assert world.before["landing/identities"] > 0
    assert world.before["history/identities"] > 0
    assert world.before["quarantine/events"] > 0
    assert any(hits for place, hits in world.before.items() if place.endswith("/recommendations"))

    after = scanned(world.erased)

    assert set(after) >= {"landing/events", "history/events", "ledger", "quarantine/events"}
    assert not any(after.values())
    assert not any(scanned(world.erased, ("s-" + HEAVY,)).values())


@pytest.mark.parametrize("canary", CANARIES)
def test_each_of_them_was_found_before(world: World, market: Path, tmp_path: Path, canary: str) -> None:
    worlds.land(tmp_path / "landing", market, canaries=True)

    found = scan.scan(tmp_path / "landing", tmp_path / "no lake", [canary])

    assert found["landing/events"] > 0


def test_nobody_else_has_changed(world: World) -> None:
    before, after = world.bystanders
    assert before == after


def test_the_receipt_counts_what_was_found_and_verifies_and_a_changed_one_does_not(world: World) -> None:
    with tombstones.opened(world.erased.lake) as ledger:
        assert ledger is not None
        known = tombstones.requests(ledger)
        receipts = {r.request: r.receipt for r in known}
        keys = ledger.keys

    assert [r.state for r in known] == ["done"] * len(CANARIES)
    assert not [r for r in known if r.ids]
    receipt = receipts[world.requests[CANARIES.index(HEAVY)]]
    assert receipt is not None
    assert receipt["found"]["landing/events"] == 2 * (90 + 1)
    assert proof.verifies(receipt, keys)
    assert not proof.verifies({**receipt, "erased_at": "2026-01-01T00:00:00+00:00"}, keys)
    assert not any(name in json.dumps(list(receipts.values())) for name in IDS)


def copy_of(world: World, tmp_path: Path) -> Run:
    """The erased lake, landing and ledger, to do something to."""
    root = Path(world.erased.landing).parent
    shutil.copytree(root, tmp_path / "copy", symlinks=True)
    return worlds.a_night(tmp_path / "copy")


def test_a_late_file_and_landing_as_it_was_bring_nobody_back(world: World, market: Path, tmp_path: Path) -> None:
    run = copy_of(world, tmp_path)
    shutil.rmtree(run.landing)
    worlds.land(Path(run.landing), market, canaries=True)
    late = Path(run.landing) / "events" / "2026-03-29" / "late.csv"
    late.write_text(
        "event_id,user_id,event_type,item_id,occurred_at,session_id\n"
        f"late-1,{ORDINARY},view,x,2026-03-02T10:00:00Z,s-new\nlate-2,,view,x,2026-03-02T10:00:00Z,s-new\n"
    )
    manifest = late.with_name("_manifest.json")
    if manifest.is_file():
        manifest.unlink()

    told = night(run)

    assert told["ingest"]["suppressed"] > len(CANARIES)
    assert told["ingest"]["residual"] == 0
    found = scanned(run)
    assert not any(hits for place, hits in found.items() if not place.startswith("landing"))
    assert found["landing/events"] > 0


@pytest.mark.prove
def test_a_lake_from_before_is_cleansed_by_the_first_run_that_meets_the_ledger(market: Path, tmp_path: Path) -> None:
    run = worlds.a_night(tmp_path)
    worlds.land(tmp_path / "landing", market, canaries=True)
    night(replace(worlds.a_night(tmp_path, "2026-03-30")))
    night(run)
    shutil.copytree(run.lake, tmp_path / "backup", symlinks=True)
    worlds.ask(run)
    erase(run)
    shutil.rmtree(run.lake)
    shutil.copytree(tmp_path / "backup", run.lake, symlinks=True)

    with lake.lock(run.lake):
        hiding.cleanse(run.lake, run.config)
        publication.rollback(run.lake)
        hiding.purge(run.lake, run.config)
    rolled = scan.scan(tmp_path / "none", run.lake / "publications", IDS)
    assert shelf.current(run.lake)
    assert not any(rolled.values())

    night(run)

    assert not any(hits for place, hits in scanned(run).items())


def test_who_comes_back_later_has_no_past(world: World, tmp_path: Path) -> None:
    copied = copy_of(world, tmp_path)
    run = replace(copied, as_of=datetime(2026, 4, 3, tzinfo=UTC), label="2026-04-03")
    day = Path(run.landing) / "events" / "2026-04-02"
    day.mkdir(parents=True)
    (day / "back.csv").write_text(
        "event_id,user_id,event_type,item_id,occurred_at\n"
        f"back-1,{ORDINARY},view,x,2026-04-02T10:00:00Z\nback-2,{ORDINARY},view,x,2026-03-02T10:00:00Z\n"
    )

    night(run)

    found = scanned(run, (ORDINARY,))
    assert found["history/events"] > 0
    (entry,) = [e for e in shards.read_manifest(run.lake, "events").ledger if e["file"].endswith("back.csv")]
    assert (entry["accepted"], entry["suppressed"]) == (1, 1)


def test_without_the_key_or_the_ledger_nothing_runs(world: World, tmp_path: Path) -> None:
    run = copy_of(world, tmp_path)
    key = tombstones.folder_of(run.lake) / "secret.key"

    key.rename(tmp_path / "key")
    with pytest.raises(ConfigurationError):
        night(run)
    key.write_text("another secret that nobody ever used before\n")
    key.chmod(0o600)
    with pytest.raises(ConfigurationError):
        night(run)
    shutil.rmtree(key.parent)
    with pytest.raises(ConfigurationError):
        night(run)
    assert ConfigurationError.exit_code == 2


def test_a_key_may_be_replaced_and_the_old_tombstones_hold(world: World, tmp_path: Path) -> None:
    run = copy_of(world, tmp_path)
    key = tombstones.folder_of(run.lake) / "secret.key"

    key.write_text("f" * 64 + "\n" + key.read_text())

    erased = tombstones.read(run.lake)
    assert erased is not None
    assert set(erased.match("user", [*IDS, "bystander-1"])) == set(IDS)


def test_who_asks_twice_or_was_never_there_gets_a_receipt_after_the_same_proof(world: World, tmp_path: Path) -> None:
    run = copy_of(world, tmp_path)
    again, unknown = worlds.ask(run, [HEAVY, "nobody-knows-this-one"])

    told = erase(run)

    assert told["requests"] == {again: "done", unknown: "done"}
    with tombstones.opened(run.lake) as ledger:
        assert ledger is not None
        by_id = {r.request: r.receipt for r in tombstones.requests(ledger)}
        assert ledger.db.execute("SELECT count(*) FROM tombstones WHERE request = ?", [unknown]).fetchone()[0] == 1
    assert by_id[again] == by_id[world.requests[CANARIES.index(HEAVY)]]
    (nothing,) = [r for name, r in by_id.items() if name == unknown]
    assert nothing is not None
    assert nothing["found"] == {}


def test_every_file_of_the_lake_is_on_the_map(world: World) -> None:
    lake_folder = world.erased.lake
    found = {places.of("lake", f.relative_to(lake_folder)) for f in lake_folder.rglob("*") if f.is_file()}

    assert len(found) > 10
    assert not [place for place in found if not places.explained(place)]


@pytest.mark.prove
def test_everybody_may_be_forgotten_at_once(world: World, tmp_path: Path) -> None:
    run = copy_of(world, tmp_path)
    files = [
        str(f) for table in ("events", "users", "consents") for f in (run.lake / "history" / table).rglob("*.parquet")
    ]
    query = "SELECT DISTINCT user_id FROM read_parquet($files, union_by_name = true) WHERE user_id IS NOT NULL"
    everybody = [user for (user,) in duckdb.execute(query, {"files": files}).fetchall()]
    worlds.ask(run, everybody)

    told = erase(run)

    assert len(everybody) > 50
    assert told["status"] == "done"
    assert tables(run.lake)["recommendations"] == []
    assert not any(scanned(run, tuple(everybody)).values())
