"""Erasure, as seen from the data: who is asked about, what there is of them, and landing without it.

The rule is the door's own (`suppression`): whatever a run would suppress is what is counted here and then taken away.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import duckdb

from tasks import contracts, ingest, landing, receipt, shards, subtraction, suppression, withdrawal
from tasks.errors import BlockedError
from tasks.graves import Tombstones
from tasks.hiding import Counts
from tasks.landing import LandedFile
from tasks.settings import Run
from tasks.subtraction import Loss

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""A person is erased from files of any date, also of a day that is not over."""


@dataclass(frozen=True)
class Asked:
    """A request as it landed, its newest version."""

    called: str
    person: str
    kind: str
    requested_at: datetime
    verified: bool


@dataclass
class Survey:
    """What there is of erased people."""

    counts: Counts = field(default_factory=dict)
    losses: dict[str, dict[str, Loss]] = field(default_factory=dict)
    """Table → landed file → what it loses."""
    files: dict[str, LandedFile] = field(default_factory=dict)
    """Those landed files."""
    anew: set[str] = field(default_factory=set)
    """Tables that have to be ingested again, because somebody who goes came back."""
    refused: list[LandedFile] = field(default_factory=list)
    """Landed files that ingest refuses, of which nobody knows what is in them."""
    sessions: dict[tuple[str, datetime], set[str]] = field(default_factory=lambda: defaultdict(set))
    """(request, erased_at) → sessions that were theirs."""

    def note(self, con: duckdb.DuckDBPyConnection, place: str) -> None:
        """Add what `suppression.find` has found in a place."""
        rows = con.execute("SELECT request, count(*) FROM ingest.suppressed GROUP BY ALL ORDER BY ALL").fetchall()
        for request, count in rows:
            self.counts.setdefault(request, Counter())[place] += count
        graves = "SELECT request, epoch_us(erased_at), id FROM ingest.graves WHERE kind = 'session'"
        for request, us, session in con.execute(graves).fetchall():
            self.sessions[request, EPOCH + timedelta(microseconds=us)].add(session)


def asked(con: duckdb.DuckDBPyConnection, run: Run, room: Path) -> list[Asked]:
    """Every request that has landed."""
    contract = contracts.load("landing", "privacy_requests")
    if not _read(con, run, room, contract.name)[0]:
        return []
    rows = con.execute(
        "SELECT request_id, user_id, kind, epoch_us(requested_at), verified_at IS NOT NULL FROM ingest.clean "
        "QUALIFY row_number() OVER (PARTITION BY user_id, request_id ORDER BY file_no DESC, row DESC) = 1 "
        "ORDER BY requested_at, request_id, user_id"
    ).fetchall()
    return [Asked(f"{r}\0{u}", u, kind, EPOCH + timedelta(microseconds=us), v) for r, u, kind, us, v in rows]


def linked(
    con: duckdb.DuckDBPyConnection, run: Run, room: Path, names: Collection[str] | None = None
) -> dict[str, set[str]]:
    """Id → all ids of the same person, as far as history links them, or a landed file; for `names` see `landed`."""
    contract = contracts.load("landing", "identities")
    shards.open_table(con, run.lake, contract, FOREVER)
    pairs = con.execute("SELECT user_id, linked_user_id FROM history.identities").fetchall()
    if _read(con, run, room, contract.name, names)[0]:
        pairs += con.execute("SELECT user_id, linked_user_id FROM ingest.clean").fetchall()
    people: dict[str, set[str]] = {}
    for one, other in pairs:
        both = people.get(one, {one}) | people.get(other, {other})
        people.update(dict.fromkeys(both, both))
    return people


def stored(con: duckdb.DuckDBPyConnection, run: Run, erased: Tombstones) -> Survey:
    """Look for erased people in history and quarantine. `con` has the catalogue `ingest`."""
    found = Survey()
    for contract in contracts.all_of("landing"):
        manifest = shards.read_manifest(run.lake, contract.name)
        if contract.subject and suppression.remains(con, run, contract, manifest, erased):
            found.note(con, f"lake/{contract.name}")
    return found


def landed(
    con: duckdb.DuckDBPyConnection, run: Run, room: Path, erased: Tombstones, names: Collection[str] | None = None
) -> Survey:
    """Look for erased people in landing.

    Args:
        con: with the catalogue `ingest`.
        run: landing, lake and settings.
        room: private scratch.
        erased: everybody who was.
        names: all ids and sessions they are known by, if those are known: of the files that history has taken in,
            those that hold none need not be read.
    """
    found = Survey()
    for contract in contracts.all_of("landing"):
        if not contract.subject:
            continue
        read, refused = _read(con, run, room, contract.name, names)
        found.refused += refused
        if not read:
            continue
        suppression.find(con, contract, erased, "ingest.clean", "ingest.quarantined")
        found.note(con, f"landing/{contract.name}")
        paths = [(file.path, digest) for file, digest in read]
        manifest = shards.read_manifest(run.lake, contract.name)
        found.losses[contract.name], came_back = subtraction.account(con, run, contract, manifest, paths)
        found.files |= {file.path: file for file, _ in read}
        if came_back:
            found.anew.add(contract.name)
    return found


def late(run: Run) -> bool:
    """Whether landed files that are ours to change hold lines that the door did not let in."""
    tables = contracts.names("landing") if run.config.landing.erase == "rewrite" else ()
    return any(entry["suppressed"] for table in tables for entry in shards.read_manifest(run.lake, table).ledger)


def traces(con: duckdb.DuckDBPyConnection, run: Run, erased: Tombstones) -> int:
    """Rows of erased people in history and quarantine, by the door's own rule, whatever was applied before."""
    left = 0
    for contract in contracts.all_of("landing"):
        manifest = replace(shards.read_manifest(run.lake, contract.name), epoch=0)
        left += suppression.remains(con, run, contract, manifest, erased)
    return left


def lives(con: duckdb.DuckDBPyConnection, run: Run, ids: Collection[str]) -> bool:
    """Whether any of `ids` has rows in history, of another life."""
    for contract in contracts.all_of("landing"):
        manifest = suppression.nearby(con, run, contract, shards.read_manifest(run.lake, contract.name), ids)
        rows = suppression.stored(run.lake, contract, manifest, "history")
        named = " OR ".join(f'list_contains($ids, "{column}")' for column in suppression.people_columns(contract))
        if rows and named and con.execute(f"SELECT 1 FROM {rows} WHERE {named} LIMIT 1", {"ids": list(ids)}).fetchone():
            return True
    return False


def withdraw(run: Run, found: Survey, erased: Tombstones) -> subtraction.Landed:
    """Rewrite landing without what the survey found; returns sha256 and bytes of every file that lost something.

    Raises:
        BlockedError: a file was replaced after the survey had read it.
    """
    gone = {}
    for losses in found.losses.values():
        for path, loss in losses.items():
            if landing.fingerprint(found.files[path]) != loss.sha256:
                raise BlockedError(f"{path}: changed while it was being read; run erase again")
            gone[path] = withdrawal.withdraw(found.files[path], loss.rows)
    for file in found.refused:
        if now := withdrawal.withdraw_unread(file, erased):
            gone[file.path] = now
    return gone


def subtract(
    con: duckdb.DuckDBPyConnection, run: Run, found: Survey, erased: Tombstones, landed: subtraction.Landed
) -> list[str]:
    """Take what the survey found out of history and its ledger, where that comes to what ingest would come to.

    Returns:
        The tables that were done; the others are for ingest.
    """
    done = []
    for contract in contracts.all_of("landing"):
        manifest = shards.read_manifest(run.lake, contract.name)
        if not contract.subject or contract.name in found.anew or manifest.contract != ingest.law(contract, run):
            continue
        fresh = subtraction.subtract(con, run, contract, manifest, erased, found.losses.get(contract.name, {}), landed)
        if fresh is not None:
            shards.commit_manifest(run.lake, contract.name, fresh)
            done.append(contract.name)
    return done


Taken = list[tuple[LandedFile, str]]
"""Files and the sha256 of what was read of them."""


def _read(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    room: Path,
    table: str,
    names: Collection[str] | None = None,
) -> tuple[Taken, list[LandedFile]]:
    """Landed files of a table into `ingest.clean` and `ingest.quarantined`: those read, and those refused.

    With `names`, of the files that history has taken in only those that hold one of them.
    """
    contract = contracts.load("landing", table)
    files: Sequence[LandedFile] = landing.find(run.landing, table, ZoneInfo(run.config.run.timezone), FOREVER).files
    if names is not None:
        ledger = shards.read_manifest(run.lake, table).ledger
        taken = {e["file"] for e in ledger if e["status"] == "accepted" and not e["suppressed"]}
        files = [f for f in files if f.path not in taken or receipt.mentions(f, names, run.config.landing)]
    if not files:
        return [], []
    reading, rejected = ingest.read(con, run, room, contract, files)
    refused = {entry["file"] for entry in rejected}
    digests = [entry["sha256"] for entry in reading.entries]
    return list(zip(reading.files, digests, strict=True)), [f for f in files if f.path in refused]
