"""Inventory: who is to be forgotten, under which ids and sessions, and what there is of them before any of it goes.

It is taken in two looks. The lake is small to look through and tells all that publications can know, so that people can
be hidden at once; landing is large, and tells what the lake has not taken in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from tasks import contracts, erasure, exports, hiding, ingest, lake, tombstones, withdrawal
from tasks.graves import Tombstones
from tasks.settings import Run
from tasks.tombstones import Ledger, Request


@dataclass
class Inventory:
    """What is known of the people of one pass."""

    run: Run
    room: Path
    ledger: Ledger
    chosen: list[Request]
    erased: Tombstones
    found: erasure.Survey = field(default_factory=erasure.Survey)
    """What landing holds."""
    sessions: set[str] = field(default_factory=set)
    """Of theirs, as far as this pass has seen them."""

    @property
    def ids(self) -> list[str]:
        return sorted({name for request in self.chosen for name in request.ids})


def look_into_lake(this: Inventory) -> None:
    """Bury them, with all the ids and sessions that the lake knows of, and count what it holds."""
    if this.run.config.landing.erase == "rewrite":
        withdrawal.settle(this.run.landing, contracts.names("landing"))
    with workspace(this) as con:
        # Of landed files only those that are not in history yet: there are few of them.
        _bury_linked(this, erasure.linked(con, this.run, this.room, names=()))
        _count_lake(this, con)


def look_into_landing(this: Inventory) -> None:
    """Bury whom and what only landing tells of, and count what it holds."""
    with workspace(this) as con:
        seen = this.erased.epoch
        _bury_linked(this, erasure.linked(con, this.run, this.room))
        while True:
            if this.erased.epoch > seen:
                _count_lake(this, con)
                seen = this.erased.epoch
            this.found = erasure.landed(con, this.run, this.room, this.erased, _names(this))
            if not _bury_sessions(this, this.found):
                break
    _count(this, this.found.counts)


def all_ids(request: Request, people: Mapping[str, set[str]]) -> set[str]:
    """What the request's person is known by; `people` as `erasure.linked` tells."""
    return set[str]().union(*(people.get(name, {name}) for name in request.ids))


def reload(this: Inventory) -> None:
    this.erased = tombstones.tombstones(this.ledger)
    chosen = {r.request for r in this.chosen}
    this.chosen = [r for r in tombstones.requests(this.ledger) if r.request in chosen]


@contextmanager
def workspace(this: Inventory) -> Iterator[duckdb.DuckDBPyConnection]:
    with lake.connect(this.room / "erase.duckdb", this.run.config) as con, ingest.workspace(con):
        yield con


def _bury_linked(this: Inventory, people: Mapping[str, set[str]]) -> None:
    with tombstones.transaction(this.ledger):
        for request in this.chosen:
            ids = all_ids(request, people)
            tombstones.name(this.ledger, request.request, ids)
            tombstones.bury(this.ledger, request.request, request.requested_at, "user", ids)
    reload(this)


def _bury_sessions(this: Inventory, found: erasure.Survey) -> bool:
    """Bury the sessions that were found; whether there were new ones."""
    before = this.erased.epoch
    with tombstones.transaction(this.ledger):
        for (request, erased_at), sessions in sorted(found.sessions.items()):
            tombstones.bury(this.ledger, request, erased_at, "session", sessions)
            this.sessions |= sessions
    reload(this)
    return this.erased.epoch > before


def _count_lake(this: Inventory, con: duckdb.DuckDBPyConnection) -> None:
    found = erasure.stored(con, this.run, this.erased)
    _bury_sessions(this, found)
    _count(this, found.counts)
    _count(this, hiding.held(this.run.lake, this.run.config, this.erased))


def _count(this: Inventory, counts: hiding.Counts) -> None:
    """Write down what was found, before any of it goes."""
    with tombstones.transaction(this.ledger):
        for request in this.chosen:
            # Who asked twice is counted under the later request and is the same person.
            mine = [counts.get(r.request, Counter()) for r in this.chosen if r.person == request.person]
            handed_out = Counter(exports=len(exports.of(this.ledger, request.ids)))
            tombstones.count(this.ledger, request.request, sum(mine, handed_out))


def _names(this: Inventory) -> set[str] | None:
    """All their ids and sessions, if nothing is gone yet that would have told whose a session was."""
    untouched = all(tombstones.STATES.index(r.state) < tombstones.STATES.index("rewritten") for r in this.chosen)
    return {*this.ids, *this.sessions} if untouched else None
