"""The ledger of requests: who asked to be forgotten, how far that is, and the tombstones that keep them forgotten.

An SQLite file beside the lake, so that a restored lake meets its tombstones. It holds an id in clear from the request
to the receipt and not a moment longer; a tombstone holds a keyed hash. No key, or another one, is an error, never
"nobody".
"""

from __future__ import annotations

import json
import os
import secrets
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks import keys
from tasks.errors import ConfigurationError
from tasks.graves import Kind, Tombstone, Tombstones
from tasks.keys import Key

STATES = (
    "received",
    "verified",
    "inventory",
    "hidden",
    "rewritten",
    "retrained",
    "published",
    "purged",
    "scanned",
    "done",
)
"""A request's state is the step that has begun: a run that is killed repeats it."""

SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (request TEXT PRIMARY KEY, kind TEXT NOT NULL, person TEXT NOT NULL,
    requested_at TEXT NOT NULL, verified_at TEXT, state TEXT NOT NULL, inventory TEXT, receipt TEXT);
CREATE TABLE IF NOT EXISTS subjects (request TEXT NOT NULL, id TEXT NOT NULL, PRIMARY KEY (request, id));
CREATE TABLE IF NOT EXISTS tombstones (digest TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL,
    erased_at TEXT NOT NULL, epoch INTEGER NOT NULL, request TEXT NOT NULL, PRIMARY KEY (digest, request));
CREATE TABLE IF NOT EXISTS keys (fingerprint TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS exports (path TEXT PRIMARY KEY, request TEXT NOT NULL, expires_at TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Ledger:
    db: sqlite3.Connection
    keys: tuple[Key, ...]
    folder: Path


@dataclass(frozen=True)
class Request:
    request: str
    """Opaque: made here, whatever the one who asked calls it."""
    kind: str
    person: str
    requested_at: datetime
    state: str
    ids: tuple[str, ...]
    """In clear until the request is done, and then gone."""
    inventory: dict[str, int] | None
    receipt: dict[str, Any] | None


def folder_of(lake: Path) -> Path:
    """`$TAILORBIRD_LEDGER`, or else a folder beside the lake."""
    named = os.environ.get("TAILORBIRD_LEDGER")
    return Path(named).absolute() if named else lake.absolute().with_name(f"{lake.absolute().name}-ledger")


@contextmanager
def opened(lake: Path, *, create: bool = False) -> Iterator[Ledger | None]:
    """The lake's ledger; None where nobody ever asked for anything.

    Raises:
        ConfigurationError: the ledger was made with a key that is not at hand.
    """
    folder = folder_of(lake)
    file = folder / "ledger.sqlite"
    if not file.is_file() and not create:
        yield None
        return
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    db = sqlite3.connect(file, isolation_level=None)
    try:
        file.chmod(0o600)
        db.row_factory = sqlite3.Row
        # Without secure_delete a deleted id stays in the file, without DELETE in the journal.
        for setting in ("secure_delete = ON", "journal_mode = DELETE", "synchronous = FULL", "busy_timeout = 5000"):
            db.execute(f"PRAGMA {setting}")
        db.executescript(SCHEMA)
        needed = {row["fingerprint"] for row in db.execute("SELECT fingerprint FROM keys")}
        held = keys.load(folder, create=create and not needed)
        if not held or needed - {key.fingerprint for key in held}:
            raise ConfigurationError(
                f"{folder}: the key that its tombstones were made with is not here; restore {keys.FILE}, or set "
                f"${keys.VARIABLE} to it. Nothing may run without knowing who was erased"
            )
        db.execute("INSERT OR IGNORE INTO keys VALUES (?)", [held[0].fingerprint])
        yield Ledger(db, held, folder)
    finally:
        db.close()


@contextmanager
def transaction(ledger: Ledger) -> Iterator[None]:
    """All of it or nothing; within another one it is part of that."""
    if ledger.db.in_transaction:
        yield
        return
    ledger.db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        ledger.db.execute("ROLLBACK")
        raise
    ledger.db.execute("COMMIT")


def read(lake: Path) -> Tombstones | None:
    """Everybody who was erased from this lake; None where nobody ever asked."""
    with opened(lake) as ledger:
        return None if ledger is None else tombstones(ledger)


def epoch(lake: Path) -> int:
    """Of the newest erasure; 0 where nobody ever asked."""
    erased = read(lake)
    return erased.epoch if erased else 0


def taught(ledger: Ledger, since: int) -> bool:
    """Whether of the people erased after the epoch `since` there was anything, as far as that was counted."""
    (found,) = ledger.db.execute(
        "SELECT count(*) FROM tombstones JOIN requests USING (request) "
        "WHERE epoch > ? AND coalesce(inventory, '') <> '{}'",
        [since],
    ).fetchone()
    return bool(found)


def tombstones(ledger: Ledger) -> Tombstones:
    rows = ledger.db.execute("SELECT * FROM tombstones ORDER BY erased_at, epoch, request").fetchall()
    # Of somebody who asked twice, the later request counts.
    graves = {r["digest"]: Tombstone(moment(r["erased_at"]), r["epoch"], r["request"], r["kind"]) for r in rows}
    named = [row["id"] for row in ledger.db.execute("SELECT DISTINCT id FROM subjects")]
    clear = {key.digest("user", name): name for key in ledger.keys for name in named}
    return Tombstones(max((r["epoch"] for r in rows), default=0), ledger.keys, graves, clear)


def receive(
    ledger: Ledger, kind: str, person: str, requested_at: datetime, *, called: str | None = None, verified: bool = True
) -> str:
    """Enter a request; returns its opaque id. `called` is what others call it: the same name is the same request."""
    request = f"r-{secrets.token_hex(8) if called is None else ledger.keys[-1].digest('request', called)[:16]}"
    with transaction(ledger):
        known = ledger.db.execute("SELECT state FROM requests WHERE request = ?", [request]).fetchone()
        if known is None:
            ledger.db.execute(
                "INSERT INTO requests VALUES (?, ?, ?, ?, ?, ?, NULL, NULL)",
                [
                    request, kind, ledger.keys[0].digest("user", person), requested_at.astimezone(UTC).isoformat(),
                    datetime.now(UTC).isoformat() if verified else None, "verified" if verified else "received",
                ],
            )  # fmt: skip
            ledger.db.execute("INSERT INTO subjects VALUES (?, ?)", [request, person])
        elif verified and known["state"] == "received":
            ledger.db.execute(
                "UPDATE requests SET state = 'verified', verified_at = ? WHERE request = ?",
                [datetime.now(UTC).isoformat(), request],
            )
    return request


def requests(ledger: Ledger) -> list[Request]:
    """Every request, in the order of asking."""
    rows = ledger.db.execute("SELECT * FROM requests ORDER BY requested_at, request").fetchall()
    subjects = ledger.db.execute("SELECT request, id FROM subjects ORDER BY request, id").fetchall()
    return [
        Request(
            row["request"],
            row["kind"],
            row["person"],
            moment(row["requested_at"]),
            row["state"],
            tuple(s["id"] for s in subjects if s["request"] == row["request"]),
            json.loads(row["inventory"]) if row["inventory"] else None,
            json.loads(row["receipt"]) if row["receipt"] else None,
        )
        for row in rows
    ]


def begin(ledger: Ledger, chosen: Iterable[Request], state: str) -> None:
    """Write down that a step begins, unless the request has been further already."""
    with transaction(ledger):
        for request in chosen:
            row = ledger.db.execute("SELECT state FROM requests WHERE request = ?", [request.request]).fetchone()
            if STATES.index(row["state"]) < STATES.index(state):
                ledger.db.execute("UPDATE requests SET state = ? WHERE request = ?", [state, request.request])


def bury(ledger: Ledger, request: str, erased_at: datetime, kind: Kind, ids: Iterable[str]) -> None:
    """A tombstone per id, of a new epoch; those that are there already stay as they are."""
    key = ledger.keys[0]
    with transaction(ledger):
        (epoch,) = ledger.db.execute("SELECT coalesce(max(epoch), 0) + 1 FROM tombstones").fetchone()
        for name in sorted(ids):
            ledger.db.execute(
                "INSERT OR IGNORE INTO tombstones VALUES (?, ?, ?, ?, ?, ?)",
                [key.digest(kind, name), kind, key.fingerprint, erased_at.astimezone(UTC).isoformat(), epoch, request],
            )


def bury_late(lake: Path, sessions: Iterable[tuple[str, Tombstone]]) -> Tombstones:
    """Give tombstones to sessions of people who have one; returns everybody who was erased by now."""
    with opened(lake) as ledger:
        assert ledger is not None
        for session, grave in sessions:
            bury(ledger, grave.request, grave.erased_at, "session", [session])
        return tombstones(ledger)


def name(ledger: Ledger, request: str, ids: Iterable[str]) -> None:
    """Keep, until the request is done, under which ids its person is known."""
    with transaction(ledger):
        for one in sorted(ids):
            ledger.db.execute("INSERT OR IGNORE INTO subjects VALUES (?, ?)", [request, one])


def imagine(ledger: Ledger, ids: Mapping[str, Iterable[str]], erased_at: Mapping[str, datetime]) -> Tombstones:
    """What would be if those of `ids` (by request) were erased, and nobody else."""
    key = ledger.keys[0]
    clear = {key.digest("user", one): one for names in ids.values() for one in names}
    graves = {
        key.digest("user", one): Tombstone(erased_at[request], 1 << 62, request)
        for request, names in ids.items()
        for one in names
    }
    return Tombstones(1 << 62, ledger.keys, graves, clear)


def count(ledger: Ledger, request: str, found: Mapping[str, int]) -> None:
    """Keep what was found of a request's person, per place the most at any look: a retry finds what is left."""
    with transaction(ledger):
        (told,) = ledger.db.execute("SELECT inventory FROM requests WHERE request = ?", [request]).fetchone()
        most = Counter(json.loads(told or "{}")) | Counter(found)
        ledger.db.execute(
            "UPDATE requests SET inventory = ? WHERE request = ?", [json.dumps(dict(sorted(most.items()))), request]
        )


def close(ledger: Ledger, request: str, receipt: Mapping[str, Any]) -> None:
    """The last write of a request: the receipt is there, and the id is not."""
    with transaction(ledger):
        ledger.db.execute("DELETE FROM subjects WHERE request = ?", [request])
        ledger.db.execute(
            "UPDATE requests SET state = 'done', receipt = ? WHERE request = ?",
            [json.dumps(receipt, sort_keys=True), request],
        )


def moment(text: str) -> datetime:
    """An instant, as the ledger writes it."""
    return datetime.fromisoformat(text)
