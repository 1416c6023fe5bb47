"""A landing and a lake for one test: files are laid down, ingested as of a day, and looked at."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import contracts, ingest, lake, ledger, owners, settings, shards
from tasks.ledger import Entry, Ingested

EVENTS = ("event_id", "user_id", "event_type", "item_id", "occurred_at")


def csv(*rows: Sequence[str], header: Sequence[str] = EVENTS) -> bytes:
    """Plain CSV: no value is quoted for the test."""
    return "".join(",".join(row) + "\n" for row in (header, *rows)).encode()


def event(
    number: int, user: str = "u1", item: str = "i1", at: str = "2011-09-25T10:00:00Z", kind: str = "view"
) -> list[str]:
    return [f"e{number}", user, kind, item, at]


def claim(files: Mapping[str, bytes], **also: Mapping[str, object]) -> bytes:
    """A manifest that is right about `files`, unless `also` says otherwise."""
    entries = {name: {"name": name, "sha256": hashlib.sha256(data).hexdigest()} for name, data in files.items()}
    for name, changes in also.items():
        entries[name] = {"name": name, **entries.get(name, {}), **changes}  # type: ignore[dict-item] # as JSON has it
    return json.dumps({"files": list(entries.values())}).encode()


@dataclass
class Place:
    """One landing root and one lake."""

    root: Path
    config: Path | None = None
    last: Ingested = field(default_factory=Ingested)

    @property
    def landing(self) -> Path:
        return self.root / "landing"

    @property
    def lake(self) -> Path:
        return self.root / "lake"

    def land(self, path: str, content: bytes) -> Path:
        """Write `landing/<path>`, such as `events/2011-10-01/a.csv`."""
        file = self.landing / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def run(self, as_of: str) -> settings.Run:
        self.landing.mkdir(parents=True, exist_ok=True)
        return settings.open_run(landing=str(self.landing), lake=self.lake, as_of=as_of, config=self.config)

    def ingest(self, as_of: str = "2011-10-31") -> Ingested:
        run = self.run(as_of)
        with (
            lake.lock(run.lake),
            lake.scratch(run.lake) as room,
            lake.connect(room / "night.duckdb", run.config) as connection,
        ):
            self.last = ingest.ingest(connection, run, room)
        return self.last

    def history(self, table: str = "events", columns: str = "*", as_of: str = "2011-10-31") -> list[tuple[Any, ...]]:
        """Rows of `history.<table>` in landing order, those with the same number by whose they are."""
        run, contract = self.run(as_of), contracts.load("landing", table)
        order = ", ".join(["landed_on", "landed_file", "landed_row", *owners.of(contract)])
        with lake.connect(":memory:", run.config) as connection:
            shards.open_table(connection, run.lake, contract, run.as_of)
            return connection.execute(f"SELECT {columns} FROM history.{table} ORDER BY {order}").fetchall()

    def quarantine(self, table: str = "events", columns: str = "reason, record") -> list[tuple[Any, ...]]:
        files = sorted(str(f) for f in (self.lake / "quarantine" / table).rglob("*.parquet"))
        if not files:
            return []
        with lake.connect(":memory:", self.run("2011-10-31").config) as connection:
            return connection.execute(
                f"SELECT {columns} FROM read_parquet($files) ORDER BY landed_on, landed_file, landed_row",
                {"files": files},
            ).fetchall()

    def ledger(self, as_of: str = "2011-10-31") -> list[Entry]:
        return ledger.visible_entries(self.run(as_of))

    def fates(self) -> dict[str, str | None]:
        """Landed file → why it was rejected, or None."""
        return {e["file"].split("/", 1)[1]: e["reason"] for e in self.last.new_entries}


def files_of(lake_folder: Path) -> dict[str, str]:
    """Every file of a lake → sha256 of its bytes; the lock holds none."""
    return {
        str(f.relative_to(lake_folder)): hashlib.sha256(f.read_bytes()).hexdigest()
        for f in sorted(lake_folder.rglob("*"))
        if f.is_file() and f.name != ".lock"
    }
