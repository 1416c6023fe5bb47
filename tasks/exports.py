"""Exports: what was made for a person and handed out, for as long as it lies here; an erasure takes it back."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from tasks.tombstones import Ledger, moment, transaction


@dataclass(frozen=True)
class Export:
    """What was handed out to a person, for as long as it lies here."""

    path: Path
    """A file or a folder; it goes as a whole."""
    request: str
    expires_at: datetime
    person: str
    """Keyed hash of the id that the request was about."""


def register(ledger: Ledger, request: str, path: Path, expires_at: datetime) -> None:
    """Remember what is about to be written for a request's person; call it before the first byte is."""
    with transaction(ledger):
        ledger.db.execute(
            "INSERT OR REPLACE INTO exports VALUES (?, ?, ?)",
            [str(path.absolute()), request, expires_at.astimezone(UTC).isoformat()],
        )


def registered(ledger: Ledger) -> list[Export]:
    """What was handed out and is not closed, the first to expire first."""
    rows = ledger.db.execute(
        "SELECT path, request, expires_at, person FROM exports JOIN requests USING (request) ORDER BY expires_at, path"
    ).fetchall()
    return [Export(Path(r["path"]), r["request"], moment(r["expires_at"]), r["person"]) for r in rows]


def of(ledger: Ledger, ids: Iterable[str]) -> list[Export]:
    """What was handed out about any of `ids`."""
    people = {key.digest("user", name) for key in ledger.keys for name in ids}
    return [export for export in registered(ledger) if export.person in people]


def close(ledger: Ledger, path: Path) -> None:
    """Forget an export; its files are gone by now."""
    with transaction(ledger):
        ledger.db.execute("DELETE FROM exports WHERE path = ?", [str(path.absolute())])


def take_back(ledger: Ledger, ids: Iterable[str]) -> None:
    """Remove and close whatever was handed out about any of `ids`."""
    for export in of(ledger, ids):
        if export.path.is_dir():
            shutil.rmtree(export.path)
        else:
            export.path.unlink(missing_ok=True)
        close(ledger, export.path)
