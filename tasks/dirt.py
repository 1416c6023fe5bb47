"""Declared dirt: what goes wrong with a day's sample events on their way to landing, and the count of each kind."""

from __future__ import annotations

import gzip
import io
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from tasks.sources import write_manifest

# Shares of a day's rows, at least one where a kind has its turn; what is quarantined stays far below the gate.
DUPLICATE, CONFLICT, MALFORMED, LATE = 0.002, 0.001, 0.003, 0.01
NEGATIVE_DWELL, COUNTRY_NAME, DEVICE_CASE, MISSING_DEVICE = 0.004, 0.02, 0.05, 0.02
KINDS = ("wrong_columns", "bad_timestamp", "nan_amount", "unknown_type", "quoted_newline")
LATE_DAYS = 3


@dataclass(frozen=True)
class Landed:
    """The landing folder while it is written: what is declared in manifests, and what is counted."""

    landing: Path
    start: date
    rows: dict[Path, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    counts: Counter[str] = field(default_factory=Counter)

    def day(self, day: int) -> date:
        return self.start + timedelta(days=day)

    def put(self, table: str, folder: str, name: str, content: bytes, rows: int) -> None:
        """One landed file of `rows` records, a record of a text file being one physical line."""
        file = self.landing / table / folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        self.rows[file.parent][name] = rows
        self.counts["files"] += 1
        self.counts[f"{table}_rows"] += rows

    def put_frame(self, table: str, folder: str, stem: str, frame: pl.DataFrame, form: str, extra: str = "") -> None:
        """A frame as csv, csv.gz or jsonl; `extra` is text that follows a CSV's lines. An empty frame lands nothing."""
        if frame.is_empty() and not extra:
            return
        if form == "jsonl":
            content = frame.write_ndjson().encode()
            rows = frame.height
        else:
            content = (frame.write_csv() + extra).encode()
            rows = content.count(b"\n") - 1
        if form == "csv.gz":
            # The header of a gzip file holds the time of packing.
            content = gzip.compress(content, compresslevel=6, mtime=0)
        self.put(table, folder, f"{stem}.{form}", content, rows)

    def put_parquet(self, table: str, day: int, frame: pl.DataFrame, stem: str | None = None) -> None:
        """A frame as Parquet on a day; an empty frame lands nothing."""
        if frame.is_empty():
            return
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", row_group_size=100_000)
        self.put(table, self.day(day).isoformat(), f"{stem or table}.parquet", buffer.getvalue(), frame.height)

    def seal(self) -> None:
        """Write the manifests."""
        for folder in sorted(self.rows):
            write_manifest(folder, self.rows[folder])


def land_day(rng: np.random.Generator, events: pl.DataFrame, day: int, days: int, landed: Landed) -> None:
    """One day's clean events as files, with the dirt whose turn it is."""
    form = {3: "jsonl", 5: "csv.gz"}.get(day % 7, "csv")
    landed.counts["events"] += events.height
    landed.counts["anonymous"] += events["user_id"].null_count()
    events = _soft(rng, events, landed.counts)
    today = landed.day(day).isoformat()
    # The same file delivered twice; nothing else is wrong on such a day, so that its effect stands alone.
    if day % 28 == 1:
        for stem in ("events", "events-resent"):
            landed.put_frame("events", today, stem, events, form)
        landed.counts["duplicate_files"] += 1
        landed.counts["duplicate_file_rows"] += events.height
        return
    on_time = day + LATE_DAYS >= days
    later = landed.day(day + LATE_DAYS).isoformat()
    if day % 14 == 9 and not on_time:
        landed.put_frame("events", later, f"whole-{today}", events, form)
        landed.counts.update(late_files=1, late_rows=events.height)
        return
    if not on_time:
        late = rng.random(events.height) < LATE
        landed.put_frame("events", later, f"late-{today}", events.filter(late), "csv")
        landed.counts.update(late_files=int(late.any()), late_rows=int(late.sum()))
        events = events.filter(~late)
    again = _some(rng, events, DUPLICATE)
    other = _some(rng, events, CONFLICT).with_columns(pl.col("dwell_seconds").fill_null(0) + 1)
    landed.counts.update(duplicate_rows=again.height, conflicts=other.height)
    extra = _malformed(rng, events, KINDS[day % len(KINDS)], landed.counts) if form != "jsonl" else ""
    if day % 7 == 6:
        morning = pl.col("occurred_at").str.slice(11, 2) < "12"
        landed.put_frame("events", f"{today}T11", "events", events.filter(morning), form)
        events, today = events.filter(~morning), f"{today}T23"
    landed.put_frame("events", today, "events", pl.concat([events, again, other]), form, extra)


def _soft(rng: np.random.Generator, events: pl.DataFrame, counts: Counter[str]) -> pl.DataFrame:
    """Wrong and missing values that cleaning mends."""
    n = events.height
    name, case, missing, negative = (
        pl.Series(rng.random(n) < share) for share in (COUNTRY_NAME, DEVICE_CASE, MISSING_DEVICE, NEGATIVE_DWELL)
    )
    negative &= events["dwell_seconds"].is_not_null()
    case &= ~missing
    counts.update(
        country_names=int(name.sum()), device_case=int(case.sum()),
        missing_device=int(missing.sum()), negative_dwell=int(negative.sum()),
    )  # fmt: skip
    return events.with_columns(
        country=pl.when(name).then("country_name").otherwise("country"),
        device=pl.when(missing).then(None).when(case).then(pl.col("device").str.to_uppercase()).otherwise("device"),
        dwell_seconds=pl.when(negative).then(-pl.col("dwell_seconds")).otherwise("dwell_seconds"),
    ).drop("country_name")


def _some(rng: np.random.Generator, events: pl.DataFrame, share: float) -> pl.DataFrame:
    """A share of the rows, at least one, in their order."""
    count = min(max(1, round(events.height * share)), events.height)
    return events[np.sort(rng.choice(events.height, count, replace=False))] if count else events


def _malformed(rng: np.random.Generator, events: pl.DataFrame, kind: str, counts: Counter[str]) -> str:
    """CSV lines that no parser should accept, each an event of its own."""
    rows = _some(rng, events, MALFORMED).cast(pl.String).with_columns(event_id=pl.col("event_id") + "-x")
    wrong = {
        "bad_timestamp": {"occurred_at": "31.02.2026 25:61"},
        "nan_amount": {"amount": "nan", "currency": "EUR"},
        "unknown_type": {"event_type": "teleport"},
        "quoted_newline": {"query_text": "first line\nsecond line"},
    }
    rows = rows.with_columns(pl.lit(value).alias(column) for column, value in wrong.get(kind, {}).items())
    text = rows.write_csv(include_header=False)
    if kind == "wrong_columns":
        text = "".join(",".join(line.split(",")[:3]) + "\n" for line in text.splitlines())
    counts[kind] += text.count("\n")
    return text
