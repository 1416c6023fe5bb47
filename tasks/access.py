"""Access: everything that is held of a person and was concluded from it, where each came from, and what they set.

What counts as theirs is the door's own rule (`suppression`), so that what is handed out is what an erasure would take.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from tasks import contracts, erasure, history, ingest, limits, serving, shards, shelf, sql, suppression, tombstones
from tasks.contracts import Contract
from tasks.erasure import FOREVER
from tasks.graves import Tombstones
from tasks.settings import Run
from tasks.tombstones import Ledger

Row = dict[str, Any]

REASONS = {
    "bought_before": "you bought it before",
    "liked_before": "you liked it before",
    "because_you_bought": "you bought {item}, and people who buy that also like this",
    "because_you_liked": "you liked {item}, and people who like that also like this",
    "similar_taste": "people whose taste is like yours like it",
    "similar_content": "it resembles {item}",
    "trending": "many people want it lately",
    "popular": "many people like it",
}
"""Reason codes in words."""

WITHHELD = {
    "restriction": "you asked that your data only be stored",
    "objection": "you objected to personalization",
    "age": "you told an age below the one from which people are personalized for",
    "consent": "you refused personalization, or did not allow it",
    "pause": "you paused personalization",
    "level": "you set the level of personalization to 0, or to something that cannot be read",
}
"""Why somebody has no list of their own, in words."""


@dataclass
class Answer:
    """What one person is told."""

    request: str
    as_of: datetime
    ids: list[str]
    tables: dict[str, list[Row]] = field(default_factory=dict)
    """By what is handed out as one table: `history_events`, `quarantine_events`, `recommendations`, …"""
    counts: dict[str, int] = field(default_factory=dict)
    """Rows by the place that an erasure's inventory would name."""
    served: str | None = None
    """The publication that is served."""
    withheld: str | None = None
    """Why there is no list of their own, in words."""

    def add(self, name: str, place: str, rows: Sequence[Row]) -> None:
        if rows:
            self.tables.setdefault(name, []).extend(rows)
            self.counts[place] = self.counts.get(place, 0) + len(rows)


def gather(con: duckdb.DuckDBPyConnection, run: Run, ledger: Ledger, request: str, ids: Collection[str]) -> Answer:
    """Everything of the person known under `ids`.

    Args:
        con: an empty catalogue, with the catalogue `ingest` attached.
        run: as of what is served.
        ledger: of requests.
        request: the opaque id of the one that is answered.
        ids: all of them.
    """
    answer = Answer(request, run.as_of, sorted(ids))
    _settings(con, run, answer)
    # As if they were erased whatever the date: what is held is what that would take.
    theirs = tombstones.imagine(ledger, {request: ids}, {request: FOREVER})
    for contract in contracts.all_of("landing"):
        if contract.subject:
            _held(con, run, contract, theirs, answer)
    _published(con, run, answer)
    answer.tables["requests"] = [
        {"request": r.request, "kind": r.kind, "requested_at": r.requested_at, "state": r.state}
        for r in tombstones.requests(ledger)
        if r.person in {key.digest("user", one) for key in ledger.keys for one in ids}
    ]
    return answer


def survey(con: duckdb.DuckDBPyConnection, run: Run, ledger: Ledger, request: str, ids: Collection[str], room: Path
           ) -> dict[str, int]:  # fmt: skip
    """Rows in the landed files, which are told by their number: history says the same, cleaned."""
    theirs = tombstones.imagine(ledger, {request: ids}, {request: FOREVER})
    found: Mapping[str, int] = erasure.landed(con, run, room, theirs).counts.get(request, {})
    return {place: rows for place, rows in sorted(found.items()) if place.startswith("landing/")}


def _settings(con: duckdb.DuckDBPyConnection, run: Run, answer: Answer) -> None:
    """What the door lets each purpose use of them as of what is served, and what they set."""
    ingest.open_history(con, run)
    limits.join(con, run)
    sql.build_one(con, "staging", "people", history.params(run, run.as_of))
    rows = _rows(con, "SELECT * FROM staging.people WHERE list_contains($ids, user_id) ORDER BY user_id", answer.ids)
    answer.tables["settings"] = rows
    reasons = [row["withheld_because"] for row in rows if row["withheld_because"]]
    answer.withheld = WITHHELD[reasons[0]] if reasons else None


def _held(con: duckdb.DuckDBPyConnection, run: Run, contract: Contract, theirs: Tombstones, answer: Answer) -> None:
    """Their rows of one table's history and quarantine; an anonymous row of a visit in which they signed in is one."""
    shards.open_table(con, run.lake, contract, FOREVER)
    con.execute(
        "CREATE OR REPLACE TEMP TABLE held AS SELECT *, 'history' AS file_no, row_number() OVER () AS row "
        f"FROM history.{contract.name}"
    )
    manifest = shards.read_manifest(run.lake, contract.name)
    paths = shards.verify(run.lake, contract.name, [f for f in manifest.files if f.store == "quarantine"])
    columns = ", ".join(f"NULL::{kind} AS {name}" for name, kind in shards.QUARANTINE_COLUMNS.items())
    stored = "read_parquet($paths, hive_partitioning = false)" if paths else f"(SELECT {columns} LIMIT 0)"
    con.execute(
        f"CREATE OR REPLACE TEMP TABLE refused AS SELECT *, 'quarantine' AS file_no, row_number() OVER () AS row "
        f"FROM {stored}",
        {"paths": paths} if paths else {},
    )
    suppression.find(con, contract, theirs, "held", "refused")
    for kept, store in (("held", "history"), ("refused", "quarantine")):
        rows = _rows(
            con,
            f"SELECT k.* EXCLUDE (file_no, row) FROM {kept} AS k SEMI JOIN ingest.suppressed AS s "
            "ON s.file_no = k.file_no AND s.row = k.row ORDER BY ALL",
        )
        answer.add(f"{store}_{contract.name}", f"lake/{contract.name}", rows)


def _published(con: duckdb.DuckDBPyConnection, run: Run, answer: Answer) -> None:
    """Their rows of every publication that is kept, with what a reason means and what an item is called."""
    answer.served = shelf.current(run.lake)
    shards.open_table(con, run.lake, contracts.load("landing", "items"), FOREVER)
    titles = dict(
        con.execute(
            "SELECT item_id, last(title ORDER BY landed_on, landed_file, landed_row) FROM history.items "
            "WHERE title IS NOT NULL GROUP BY item_id"
        ).fetchall()
    )
    for folder in shelf.folders(run.lake):
        manifest = shelf.read_manifest(folder)
        for name, table in sorted(manifest["tables"].items() if manifest else ()):
            if table["subject"] == "none":
                continue
            rows = _rows(
                con,
                f"SELECT '{folder.name}' AS publication, * FROM {serving.relation(folder, table)} "
                f'WHERE list_contains($ids, "{table["subject"]}") ORDER BY ALL',
                answer.ids,
            )
            answer.add(name, f"publications/{folder.name}/{name}", [_told(row, titles) for row in rows])


def _told(row: Row, titles: dict[str, str]) -> Row:
    """The row, with titles beside item ids and the reason in words."""
    said = dict(row)
    if "item_id" in row:
        said["title"] = titles.get(row["item_id"])
    if row.get("reason_code") in REASONS:
        item = row.get("reason_item_id")
        named = f"“{titles.get(item) or item}”" if item else "what you like"
        said["reason"] = REASONS[row["reason_code"]].format(item=named)
    return said


def _rows(con: duckdb.DuckDBPyConnection, query: str, ids: list[str] | None = None) -> list[Row]:
    found = con.execute(query, {"ids": ids} if ids is not None else {})
    names = [column[0] for column in found.description or ()]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def sections(answer: Answer) -> Iterator[tuple[str, list[Row]]]:
    """The tables in the order in which a person would ask: what is held, what was made of it, the rest."""
    first = ("settings", "requests")
    for name in sorted(answer.tables, key=lambda n: (n in first, not n.startswith("history"), n)):
        yield name, answer.tables[name]
