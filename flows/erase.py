"""Erasure: people who asked to be forgotten are, exactly: the lake becomes what it would be had they never been there.

Every step finds out for itself what there is to do and does nothing twice, so a killed run is repeated from the start;
what a request's person had is counted before anything of it goes. The last write of a request is its receipt.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from prefect import flow

from flows import nightly, relearn
from flows.steps import Step, as_task, plainly, timed
from tasks import erasure, exports, hiding, ingest, inventory, lake, proof, scan, shelf, tombstones
from tasks.errors import BlockedError, ConfigurationError
from tasks.inventory import Inventory
from tasks.report import Summary
from tasks.settings import Run, open_run
from tasks.subtraction import Landed
from tasks.tombstones import Ledger, Request


@dataclass
class Pass(Inventory):
    """What the steps of one pass over all open requests find out."""

    would_go: Counter[str] = field(default_factory=Counter)
    hidden: list[str] = field(default_factory=list)
    withdrawn: Landed = field(default_factory=dict)
    rebuilt: str | None = None
    waiting: int = 0
    looked_at: list[str] = field(default_factory=list)
    later_life: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


def erase(
    run: Run, step: Step = plainly, *, request: str | None = None, dry_run: bool = False, wait: float = 0
) -> Summary:
    """Serve every verified request to be erased, or only `request`, in one pass.

    Args:
        run: landing, lake and settings; publications keep their own as_of.
        step: how each step is run.
        request: an opaque id.
        dry_run: count and change nothing but the list of requests.
        wait: seconds to wait for another run's lock.

    Raises:
        BlockedError: the rebuild was stopped, or a trace was found; repeat when that is mended. Nobody who was hidden
            comes back meanwhile.
        ConfigurationError: the ledger's key is not here, or there is no such request.
        ConflictError: another run holds the lock.
    """
    began = time.perf_counter()
    shelf.reach(run.lake)
    with lake.lock(run.lake, wait=wait), lake.scratch(run.lake) as room:
        with lake.connect(room / "erase.duckdb", run.config) as con, ingest.workspace(con):
            landed = [asked for asked in erasure.asked(con, run, room) if asked.kind == "erase"]
        with tombstones.opened(run.lake, create=bool(landed)) as ledger:
            if ledger is None:
                return _summary("nothing_to_do", began)
            for asked in landed:
                tombstones.receive(
                    ledger, "erase", asked.person, asked.requested_at, called=asked.called, verified=asked.verified
                )
            chosen = _chosen(ledger, request)
            if not chosen and (dry_run or request or not erasure.late(run)):
                return _summary("nothing_to_do", began)
            this = Pass(hiding.as_served(run), room, ledger, chosen, tombstones.tombstones(ledger))
            status = look(this) if dry_run else serve(this, step)
            inventory.reload(this)
            return _summary(status, began, this)


def look(this: Pass) -> str:
    """Count what there is, as if they had been buried; returns the status."""
    with inventory.workspace(this) as con:
        people = erasure.linked(con, this.run, this.room)
        ids = {r.request: inventory.all_ids(r, people) for r in this.chosen}
        imagined = tombstones.imagine(this.ledger, ids, {r.request: r.requested_at for r in this.chosen})
        held = erasure.stored(con, this.run, imagined).counts
        landed = erasure.landed(con, this.run, this.room, imagined).counts
    for counts in (held, landed, hiding.held(this.run.lake, this.run.config, imagined)):
        this.would_go += sum(counts.values(), Counter[str]())
    return "dry_run"


def serve(this: Pass, step: Step) -> str:
    """All steps, in order; returns the status."""
    do = timed(step, this.seconds)
    do("inventory", take_inventory, this)
    do("hide", hide, this)
    do("inventory landing", take_inventory_of_landing, this)
    do("rewrite", rewrite, this)
    if not this.chosen:
        # Late lines of people who are gone already were taken away, and that is all.
        return "tidied"
    if this.run.config.erase.rebuild == "nightly" and not relearn.caught_up(this.run.lake):
        hiding.purge(this.run.lake, this.run.config)
        return "waiting"
    do("relearn", retrain_champion, this, step)
    do("rebuild", rebuild, this, step)
    do("purge", purge, this)
    if this.waiting:
        return "waiting"
    do("scan", look_again, this)
    do("receipts", write_receipts, this)
    return "done"


def take_inventory(this: Pass) -> None:
    """Of the lake: enough to hide them."""
    tombstones.begin(this.ledger, this.chosen, "inventory")
    inventory.look_into_lake(this)


def hide(this: Pass) -> None:
    tombstones.begin(this.ledger, this.chosen, "hidden")
    this.hidden += hiding.hide(this.run.lake, this.run.config, this.erased)


def take_inventory_of_landing(this: Pass) -> None:
    """Nobody has to wait for this to be hidden; whom only landing tells of is hidden now."""
    inventory.look_into_landing(this)
    hide(this)


def rewrite(this: Pass) -> None:
    """Landing, where it is ours to change, then history and quarantine from it."""
    tombstones.begin(this.ledger, this.chosen, "rewritten")
    if this.run.config.landing.erase == "rewrite":
        if any(this.found.losses.values()):
            hiding.outdate(this.run.lake, this.erased.epoch)
        this.withdrawn = erasure.withdraw(this.run, this.found, this.erased)
    with inventory.workspace(this) as con:
        erasure.subtract(con, this.run, this.found, this.erased, this.withdrawn)
    with lake.connect(this.room / "erase.duckdb", this.run.config) as con:
        ingest.ingest(con, this.run, this.room)


def retrain_champion(this: Pass, step: Step) -> None:
    tombstones.begin(this.ledger, this.chosen, "retrained")
    _tidy(this.room)
    relearn.relearn(this.run, this.room, step)


def rebuild(this: Pass, step: Step) -> None:
    """The served publication again, from what there is now, unless a night has done that."""
    tombstones.begin(this.ledger, this.chosen, "published")
    if not hiding.rebuilt(this.run.lake, this.erased.epoch):
        _tidy(this.room)
        this.rebuilt = nightly.under_lock(this.run, this.room, step)["publication"]
    hiding.retire(this.run.lake)


def purge(this: Pass) -> None:
    tombstones.begin(this.ledger, this.chosen, "purged")
    exports.take_back(this.ledger, this.ids)
    this.waiting = hiding.purge(this.run.lake, this.run.config)


def look_again(this: Pass) -> None:
    """Nothing of them may be left, by the door's own rule and byte by byte.

    Raises:
        BlockedError: something is.
    """
    tombstones.begin(this.ledger, this.chosen, "scanned")
    with inventory.workspace(this) as con:
        left = erasure.traces(con, this.run, this.erased)
        this.later_life = erasure.lives(con, this.run, this.ids)
    _tidy(this.room)
    places: dict[str, int] = {}
    if not this.later_life:
        keep_landing = this.run.config.landing.erase == "suppress"
        landing = this.room / "nothing" if keep_landing else Path(this.run.landing)
        places = scan.scan(landing, this.run.lake, this.ids, with_ledger=False)
    this.looked_at = sorted(places)
    where = sorted(place for place, hits in places.items() if hits)
    if left or where:
        raise BlockedError(
            f"erase: a trace was left: {left} rows in history or quarantine, bytes in {', '.join(where) or 'no file'}; "
            "no receipt was written; look at `tailorbird scan`, then run erase again"
        )


def write_receipts(this: Pass) -> None:
    for request in this.chosen:
        (mine,) = [r for r in tombstones.requests(this.ledger) if r.request == request.request]
        earlier = [r.receipt for r in tombstones.requests(this.ledger) if r.person == mine.person and r.receipt]
        if earlier and not mine.inventory:
            # Asked again with nothing left to take: the same answer, after the same proof.
            tombstones.close(this.ledger, mine.request, earlier[-1])
            continue
        told = proof.receipt(this.run, this.ledger, mine, this.looked_at, later_life=this.later_life)
        tombstones.close(this.ledger, mine.request, told)


def _tidy(room: Path) -> None:
    """Empty the private room: what was read on the way names people."""
    for thing in room.iterdir():
        if thing.is_dir():
            shutil.rmtree(thing)
        else:
            thing.unlink()


def _chosen(ledger: Ledger, request: str | None) -> list[Request]:
    known = tombstones.requests(ledger)
    if request is not None and request not in {r.request for r in known}:
        raise ConfigurationError("--request: there is no such request; see `tailorbird request --list`")
    return [
        r for r in known if r.kind == "erase" and r.state not in ("received", "done") and request in (None, r.request)
    ]


def _summary(status: str, began: float, this: Pass | None = None) -> Summary:
    summary: Summary = {"status": status, "requests": {}, "found": {}, "seconds": {}}
    if this:
        summary |= {
            "requests": {r.request: r.state for r in this.chosen},
            "found": dict(sorted(this.would_go.items())),
            "hidden": this.hidden,
            "withdrawn_files": len(this.withdrawn),
            "rebuilt": this.rebuilt,
            "waiting_publications": this.waiting,
        }
    seconds = this.seconds if this else {}
    return {**summary, "seconds": {**seconds, "total": round(time.perf_counter() - began, 3)}}


@flow(name="erase", persist_result=False)
def erase_flow(
    landing: str,
    lake: str,
    request: str | None = None,
    config: str | None = None,
    dry_run: bool = False,
    wait: float = 0,
) -> Summary:
    """Erasure as a Prefect flow; `request` is opaque, and nothing else names anybody."""
    if not landing or not lake:
        raise ConfigurationError("erase: landing and lake must be named; see the deployment's parameters")
    run = open_run(landing=landing, lake=Path(lake), config=Path(config) if config else None)
    return erase(run, as_task, request=request, dry_run=dry_run, wait=wait)
