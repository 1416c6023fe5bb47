"""Ingest: every landed row becomes exactly one of accepted, quarantined, duplicate or suppressed, and is counted.

Files are taken in the order (landing, file name), rows in the order of the file, so that what a run sees of an earlier
landing never depends on a later one. The only commit is the table's manifest: a killed run leaves nothing that counts.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TypeVar
from zoneinfo import ZoneInfo

import duckdb

from tasks import (
    cleaning,
    contracts,
    lake,
    landing,
    ledger,
    parse,
    periods,
    retention,
    shards,
    subtraction,
    suppression,
    tombstones,
    verdicts,
)
from tasks.contracts import Contract
from tasks.errors import BlockedError, ConfigurationError
from tasks.graves import Tombstones
from tasks.landing import Landed, LandedFile
from tasks.ledger import Entry, Ingested
from tasks.receipt import Received, receive
from tasks.records import RejectedError
from tasks.report import track
from tasks.settings import LandingSettings, Run

T = TypeVar("T")

HELD = "it held people who were erased"
# Rows and files of a batch; three are in scratch at once, copied, parsed and cleaned. It never changes a result.
BATCH_ROWS = 500_000
BATCH_FILES = 32
RULES = "2"
"""Of classifying and numbering; another one makes another history."""


@dataclass
class _Reading:
    """One table while it is read."""

    contract: Contract
    files: list[LandedFile] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)

    def add(self, file: LandedFile, received: Received, unknown: list[str]) -> int:
        """The file's number, from 1."""
        self.files.append(file)
        self.entries.append(ledger.entry(file, received.sha256, received.bytes, received.rows))
        self.entries[-1]["unknown_columns"] = unknown
        return len(self.files)


def ingest(connection: duckdb.DuckDBPyConnection, run: Run, room: Path) -> Ingested:
    """Take in whatever has landed by the cut and is not in history yet, for every landing contract.

    Raises:
        MissingInputError: there is no landing folder.
        BlockedError: rows do not add up, or history has to be rebuilt from landing files that are gone.
    """
    erased = tombstones.read(run.lake)
    report = Ingested()
    with workspace(connection):
        for contract in contracts.all_of("landing"):
            manifest = shards.read_manifest(run.lake, contract.name)
            shards.sweep_table(run.lake, contract.name, manifest)
            _ingest_table(connection, run, room, contract, manifest, erased, report)
    report.ignored_folders += landing.unknown_tables(run.landing, contracts.names("landing"))
    report.ignored_folders = list(dict.fromkeys(report.ignored_folders))
    if report.residual:
        raise BlockedError(f"ingest: {report.residual} rows are unaccounted for; nothing was published")
    return report


@contextmanager
def workspace(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """The catalogue `ingest`, in which landed files are read."""
    # In memory, spilling to scratch: a file would be synced once per landed file.
    connection.execute("ATTACH ':memory:' AS ingest")
    # Nothing in memory is recovered: tidying up after each file took as long as parsing it.
    connection.execute("SET checkpoint_threshold = '1TB'")
    cleaning.code_tables(connection)
    yield
    connection.execute("DETACH ingest")
    connection.execute("RESET checkpoint_threshold")


def open_history(connection: duckdb.DuckDBPyConnection, run: Run) -> dict[str, int]:
    """Make `history.<table>` for every landing contract, verified, as of the cut and no longer than it is kept.

    It may read the lake, which has to stay locked. Returns rows per table.
    """
    rows = {}
    for contract in contracts.all_of("landing"):
        # To the requests a night adds what the ledger was asked.
        in_place = contract.name != "privacy_requests"
        rows[contract.name] = shards.open_table(connection, run.lake, contract, run.as_of, in_place=in_place)
    gone = retention.forget(connection, run)
    return {table: count - gone.get(table, 0) for table, count in rows.items()}


def _ingest_table(
    connection: duckdb.DuckDBPyConnection,
    run: Run,
    room: Path,
    contract: Contract,
    manifest: shards.Manifest,
    erased: Tombstones | None,
    report: Ingested,
) -> None:
    zone = ZoneInfo(run.config.run.timezone)
    now = law(contract, run)
    found = landing.find(run.landing, contract.name, zone, run.as_of)
    report.ignored_folders += found.ignored
    taken = {e["file"]: e for e in manifest.ledger if e["status"] == "accepted"}
    cut = max([run.as_of, *(ledger.order_of(e, zone)[0] for e in taken.values())])
    stood = manifest
    why = _reason_to_redo(now, manifest, found, taken) or _erased_since(connection, run, contract, manifest, erased)
    forgotten = None
    if erased and why == HELD and set(taken) - _there(run, contract, cut):
        # Landed files are gone, as when an old lake is restored: of these people goes what is stored, as it is.
        forgotten = subtraction.subtract(connection, run, contract, manifest, erased, {}, {})
    if forgotten:
        shards.commit_manifest(run.lake, contract.name, forgotten)
        stood, manifest, why = forgotten, forgotten, None
    new = [f for f in found.files if f.path not in taken]
    reading, rejected = _Reading(contract), list[Entry]()
    if why is None:
        reading, rejected = read(connection, run, room, contract, new)
        newest = max((ledger.order_of(e, zone) for e in taken.values()), default=None)
        late = [f for f in reading.files if newest is not None and landing.order(f) < newest]
        why = f"{late[0].path} arrived after later files had been taken in" if late else None
    if why is not None:
        report.re_ingested[contract.name] = why
        found = landing.find(run.landing, contract.name, zone, cut)
        gone = sorted(set(taken) - _there(run, contract, cut))
        if gone:
            raise BlockedError(
                f"{contract.name}: history must be rebuilt ({why}), but {len(gone)} landed files are gone, the first "
                f"is {gone[0]}; bring them back, or land the data under a later date"
            )
        manifest = shards.Manifest()
        reading, rejected = read(connection, run, room, contract, found.files)
    rejected += [ledger.entry(f, "", 0, 0, "missing") for f in found.missing]
    accepted = [e for e in manifest.ledger if e["status"] == "accepted"] + reading.entries
    latest = max((e["landing"] for e in accepted), default="")
    stored = []
    if reading.entries:
        suppression.suppress(connection, contract, erased)
        if erased and (sessions := suppression.late_sessions(connection, erased)):
            # They were theirs, as only now is told: what was anonymous in them has to go from history, too.
            erased = tombstones.bury_late(run.lake, sessions)
            _ingest_table(connection, run, room, contract, stood, erased, report)
            return
        verdicts.classify(connection, run, contract, manifest)
        ledger.count(connection, contract, reading.entries)
        stored = periods.store(connection, run, contract, latest)
    # An earlier cut says nothing of what it does not see: an earlier day that is run again forgets no later refusal.
    unseen = [e for e in manifest.ledger if e["status"] == "rejected" and ledger.order_of(e, zone)[0] > run.as_of]
    kept = tuple(sorted(accepted + rejected + unseen, key=lambda e: (*ledger.order_of(e, zone), e["status"])))
    files = periods.compact(connection, run, contract, [*manifest.files, *stored], latest)
    fresh = shards.Manifest(now, tuple(files), kept, erased.epoch if erased else 0)
    if fresh != manifest:
        shards.commit_manifest(run.lake, contract.name, fresh)
    ledger.add_up(report, reading.entries, rejected)


def _there(run: Run, contract: Contract, cut: datetime) -> set[str]:
    """The landed files of a table."""
    return {f.path for f in landing.find(run.landing, contract.name, ZoneInfo(run.config.run.timezone), cut).files}


def law(contract: Contract, run: Run) -> str:
    """What the fate of a row depends on besides the row and those before it; another law makes another history."""
    parts = (RULES, contract.fingerprint, run.config.run.timezone, str(run.config.landing.max_line_bytes))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def _reason_to_redo(now: str, manifest: shards.Manifest, found: Landed, taken: dict[str, Entry]) -> str | None:
    """Why history no longer is what these landing files say, if so."""
    if not taken:
        return None
    if manifest.contract != now:
        return "its contract, the time zone or the longest line changed"
    for file in found.files:
        if file.path in taken and landing.changed(file, taken[file.path]):
            return f"{file.path} changed after it had been taken in"
    return None


def _erased_since(
    connection: duckdb.DuckDBPyConnection,
    run: Run,
    contract: Contract,
    manifest: shards.Manifest,
    erased: Tombstones | None,
) -> str | None:
    """Why history has to be rebuilt without people who were erased since it was written, if so.

    Raises:
        ConfigurationError: it knows of erasures that the ledger does not.
    """
    epoch = erased.epoch if erased else 0
    if manifest.epoch > epoch:
        raise ConfigurationError(
            f"{tombstones.folder_of(run.lake)}: the ledger of erasures is gone or older than history/{contract.name}; "
            "restore it. Nothing may run without knowing who was erased"
        )
    if erased is None or manifest.epoch == epoch:
        return None
    return HELD if suppression.remains(connection, run, contract, manifest, erased) else None


def read(
    connection: duckdb.DuckDBPyConnection, run: Run, room: Path, contract: Contract, files: Sequence[LandedFile]
) -> tuple[_Reading, list[Entry]]:
    """Verify, parse and clean `files` into `ingest.clean`; returns what was read, and entries for rejected files."""
    zone, limits, buckets = run.config.run.timezone, run.config.landing, lake.known_buckets(run.lake, run.config)
    reading, rejected = _Reading(contract), list[Entry]()
    if files:
        parse.prepare(connection, contract)
    copied = _ahead(_received(files, room, limits, rejected))
    parsed = _ahead(_parsed(connection, contract, copied, limits), lambda: parse.arrive(connection))
    with closing(parsed):
        for batch, outcomes in parsed:
            parts = list[parse.Part]()
            for place, ((file, received), outcome) in enumerate(zip(batch, outcomes, strict=True)):
                if isinstance(outcome, RejectedError):
                    rejected.append(_refused(file, outcome))
                else:
                    parts.append(parse.Part(place, reading.add(file, received, outcome), file, received))
            parse.clean(connection, contract, zone, buckets, parts)
            for _, received in batch:
                shutil.rmtree(received.copy.parent)
    return reading, sorted(rejected, key=lambda entry: ledger.order_of(entry, ZoneInfo(zone)))


Batch = list[tuple[LandedFile, Received]]
Parsed = tuple[Batch, list[list[str] | RejectedError]]


def _ahead(parts: Generator[T, None, None], arrive: Callable[[], None] = lambda: None) -> Generator[T, None, None]:
    """The parts, each made while the one before it is used; `arrive` is called where one is there and none is made."""
    with closing(parts), ThreadPoolExecutor(max_workers=1) as pool:
        waiting = pool.submit(next, parts, None)
        while (part := waiting.result()) is not None:
            arrive()
            waiting = pool.submit(next, parts, None)
            yield part


def _parsed(
    connection: duckdb.DuckDBPyConnection,
    contract: Contract,
    batches: Generator[Batch, None, None],
    limits: LandingSettings,
) -> Generator[Parsed, None, None]:
    with closing(batches), connection.cursor() as cursor:
        for batch in batches:
            yield batch, parse.parse(cursor, contract, [received for _, received in batch], limits.max_file_bytes)


def _received(
    files: Sequence[LandedFile], room: Path, limits: LandingSettings, rejected: list[Entry]
) -> Generator[Batch, None, None]:
    """The files in batches, each file in a folder of its own in scratch."""
    batch = Batch()
    for number, file in enumerate(track(files, f"ingest {files[0].table}", len(files)) if files else ()):
        folder = room / "landed" / str(number)
        folder.mkdir(parents=True)
        try:
            batch.append((file, receive(file, folder, limits)))
        except RejectedError as problem:
            rejected.append(_refused(file, problem))
            shutil.rmtree(folder)
        if len(batch) == BATCH_FILES or sum(received.rows for _, received in batch) >= BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _refused(file: LandedFile, problem: RejectedError) -> Entry:
    return ledger.entry(file, landing.fingerprint(file), 0, 0, str(problem))
