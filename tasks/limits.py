"""Objections and restrictions that were entered on the command line: the ledger keeps them for every later run.

It keeps a keyed hash of the id, as a tombstone does, because the request itself is done at once and forgets the id. At
the door they join those that landed, and `sql/staging/people.sql` says what all of them mean.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import duckdb

from tasks import tombstones
from tasks.settings import Run
from tasks.tombstones import Ledger

KINDS = ("restrict", "object", "lift")

SCHEMA = """
CREATE TABLE IF NOT EXISTS limits (digest TEXT NOT NULL, kind TEXT NOT NULL, requested_at TEXT NOT NULL,
    request TEXT NOT NULL, PRIMARY KEY (digest, request));
"""


class Limit(NamedTuple):
    request: str
    kind: str
    requested_at: datetime


def enter(ledger: Ledger, kind: str, person: str, requested_at: datetime) -> str:
    """Keep a request of one of KINDS; it holds from the next run on. Returns its opaque id."""
    request = tombstones.receive(ledger, kind, person, requested_at)
    ledger.db.execute(SCHEMA)
    ledger.db.execute(
        "INSERT OR IGNORE INTO limits VALUES (?, ?, ?, ?)",
        [ledger.keys[0].digest("user", person), kind, requested_at.astimezone(UTC).isoformat(), request],
    )
    finish(ledger, request)
    return request


def finish(ledger: Ledger, request: str) -> None:
    """A request that was served and needs no receipt: the id in clear goes."""
    ledger.db.execute("UPDATE requests SET state = 'done' WHERE request = ?", [request])
    ledger.db.execute("DELETE FROM subjects WHERE request = ?", [request])


def standing(ledger: Ledger) -> dict[str, list[Limit]]:
    """Digest of an id → what was asked for it; what was asked before an erasure went with the person."""
    ledger.db.execute(SCHEMA)
    rows = ledger.db.execute(
        "SELECT * FROM limits WHERE NOT EXISTS (SELECT 1 FROM tombstones AS t WHERE t.digest = limits.digest "
        "AND t.erased_at >= limits.requested_at) ORDER BY requested_at, request"
    ).fetchall()
    found: dict[str, list[Limit]] = {}
    for row in rows:
        limit = Limit(row["request"], row["kind"], datetime.fromisoformat(row["requested_at"]))
        found.setdefault(row["digest"], []).append(limit)
    return found


def join(con: duckdb.DuckDBPyConnection, run: Run) -> None:
    """Add to `history.privacy_requests` what was asked of the ledger for anybody whom history knows.

    Raises:
        ConfigurationError: the ledger's key is not here.
    """
    with tombstones.opened(run.lake) as ledger:
        asked = standing(ledger) if ledger else {}
        if ledger is None or not asked:
            return
        known = con.execute(
            "SELECT user_id FROM history.events WHERE user_id IS NOT NULL UNION SELECT user_id FROM history.users "
            "UNION SELECT user_id FROM history.consents UNION SELECT user_id FROM history.controls "
            "UNION SELECT user_id FROM history.impressions WHERE user_id IS NOT NULL "
            "UNION SELECT user_id FROM history.identities UNION SELECT linked_user_id FROM history.identities"
        ).fetchall()
        rows = [
            (limit.request, person, limit.kind, limit.requested_at)
            for (person,) in known
            for key in ledger.keys
            for limit in asked.get(key.digest("user", person), [])
        ]
    if rows:
        con.executemany(
            "INSERT INTO history.privacy_requests BY NAME SELECT $1 AS request_id, $2 AS user_id, $3 AS kind, "
            "$4 AS requested_at, $4 AS verified_at, $4 AS landed_on, 'ledger' AS landed_file, 0 AS landed_row",
            rows,
        )
