"""Access: people who asked what is known of them get all of it, as JSON, as CSV and as a page to read.

What is handed out is registered before its first byte is written, and `retain` removes it when its time is over.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect import flow

from flows.steps import Step, as_task, plainly, timed
from tasks import access, access_files, erasure, exports, hiding, ingest, lake, limits, shelf, tombstones
from tasks.errors import BlockedError, ConfigurationError
from tasks.report import Summary
from tasks.settings import Run, open_run
from tasks.tombstones import Ledger, Request


@dataclass
class Answering:
    """What the steps of one answer find out."""

    run: Run
    room: Path
    ledger: Ledger
    request: Request
    folder: Path
    landing: bool
    """Whether landed files are at hand; without them their rows are told as history has them."""
    expires_at: datetime
    counts: dict[str, int] = field(default_factory=dict)
    files: int = 0


def answer(
    run: Run, to: Path, step: Step = plainly, *, request: str | None = None, landing: bool = True, wait: float = 0
) -> Summary:
    """Answer every verified request for access that is open, or only `request`, into `to/<request>/`.

    Raises:
        BlockedError: the request waits for the identity to be verified.
        ConfigurationError: there is no such request, or it was answered.
        ConflictError: another run holds the lock.
        MissingInputError: there is no lake.
    """
    began = time.perf_counter()
    shelf.reach(run.lake)
    seconds: dict[str, float] = {}
    answered: dict[str, Any] = {}
    with lake.lock(run.lake, wait=wait), lake.scratch(run.lake) as room:
        if not landing:
            (room / "no-landing").mkdir()
            run = replace(run, landing=str(room / "no-landing"))
        asked = _landed(run, room) if landing else []
        with tombstones.opened(run.lake, create=bool(asked)) as ledger:
            for one in asked:
                assert ledger is not None
                at = one.requested_at
                tombstones.receive(ledger, "access", one.person, at, called=one.called, verified=one.verified)
            for chosen in _chosen(ledger, request):
                assert ledger is not None
                until = datetime.now(UTC) + timedelta(days=run.config.privacy.export_days)
                this = Answering(hiding.as_served(run), room, ledger, chosen, to / chosen.request, landing, until)
                timed(step, seconds)("answer", serve, this)
                answered[chosen.request] = {
                    "folder": str(this.folder), "files": this.files, "counts": this.counts,
                    "expires_at": until.isoformat(timespec="seconds"),
                }  # fmt: skip
    return {
        "status": "done" if answered else "nothing_to_do",
        "requests": answered,
        "seconds": seconds | {"total": round(time.perf_counter() - began, 3)},
    }


def serve(this: Answering) -> None:
    """Gather, register, write; then the id in clear goes."""
    name = this.request.request
    with lake.connect(this.room / "access.duckdb", this.run.config) as con, ingest.workspace(con):
        people = erasure.linked(con, this.run, this.room)
        ids = set[str]().union(*(people.get(one, {one}) for one in this.request.ids))
        told = access.gather(con, this.run, this.ledger, name, ids)
        if this.landing:
            told.counts |= access.survey(con, this.run, this.ledger, name, ids, this.room)
    exports.register(this.ledger, name, this.folder, this.expires_at)
    this.files = access_files.write(told, this.run.config, this.folder, this.expires_at)
    this.counts = dict(sorted(told.counts.items()))
    limits.finish(this.ledger, name)


def _landed(run: Run, room: Path) -> list[erasure.Asked]:
    with lake.connect(room / "asked.duckdb", run.config) as con, ingest.workspace(con):
        return [asked for asked in erasure.asked(con, run, room) if asked.kind == "access"]


def _chosen(ledger: Ledger | None, request: str | None) -> list[Request]:
    known = [r for r in tombstones.requests(ledger) if r.kind == "access"] if ledger else []
    if request is None:
        return [r for r in known if r.state not in ("received", "done")]
    wanted = next((r for r in known if r.request == request), None)
    if wanted is None:
        raise ConfigurationError("--request: there is no such request for access; see `tailorbird request --list`")
    if wanted.state == "done":
        raise ConfigurationError("--request: was answered, and nothing here knows any more whose it was; ask again")
    if wanted.state == "received":
        raise BlockedError("--request: waits until the identity is verified")
    return [wanted]


@flow(name="access", persist_result=False)
def access_flow(
    lake: str,
    to: str,
    landing: str | None = None,
    request: str | None = None,
    config: str | None = None,
    wait: float = 0,
) -> Summary:
    """Access as a Prefect flow; `request` is opaque, and nothing else names anybody."""
    if not lake or not to:
        raise ConfigurationError("access: lake and to must be named")
    run = open_run(landing=landing or "", lake=Path(lake), config=Path(config) if config else None)
    return answer(run, Path(to), as_task, request=request, landing=bool(landing), wait=wait)
