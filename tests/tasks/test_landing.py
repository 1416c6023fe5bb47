"""What happens to a landed file as a whole: read, rejected under its name, or reported."""

from __future__ import annotations

import gzip
import io
import json
import os
import random
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest

from tasks import landing, receipt, settings
from tasks.records import RejectedError
from tests.landings import EVENTS, Place, claim, csv, event

GOOD = csv(event(1), event(2))
DAY = "events/2011-10-01"


def parquet(**columns: object) -> bytes:
    buffer = io.BytesIO()
    pl.DataFrame(columns).write_parquet(buffer)
    return buffer.getvalue()


def rows(count: int) -> dict[str, list[str]]:
    return {name: [event(n)[i] for n in range(count)] for i, name in enumerate(EVENTS)}


FATES: dict[str, tuple[str, bytes, str | None]] = {
    "a plain file": ("a.csv", GOOD, None),
    "brackets in the name": ("x[1].csv", GOOD, None),
    "line ends of Windows and a byte order mark": ("a.csv", b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n"), None),
    "header only": ("a.csv", ",".join(EVENTS).encode() + b"\n", None),
    "empty lines file": ("a.jsonl", b"", None),
    "empty csv": ("a.csv", b"", "header_unreadable"),
    "no header": ("a.csv", ",".join(event(1)).encode() + b"\n", "column_missing:event_id"),
    "one column": ("a.csv", b"event_id\ne1\n", "header_unreadable"),
    "duplicate header": ("a.csv", GOOD.replace(b"item_id", b"user_id"), "header_repeats_a_column"),
    "required column missing": ("a.csv", GOOD.replace(b"event_type", b"kind"), "column_missing:event_type"),
    "UTF-16": ("a.csv", GOOD.decode().encode("utf-16"), "encoding_not_utf8"),
    "line ends of old Macs": ("a.csv", GOOD.replace(b"\n", b"\r"), "header_unreadable"),
    "semicolons": ("a.csv", GOOD.replace(b",", b";"), "header_unreadable"),
    "packed": ("a.csv.gz", gzip.compress(GOOD), None),
    "packed, truncated": ("a.csv.gz", gzip.compress(GOOD)[:-9], "unreadable"),
    "packed, but not": ("a.csv.gz", GOOD, "unreadable"),
    "not packed, but is": ("a.csv", gzip.compress(GOOD), "header_unreadable"),
    "bomb": ("a.csv.gz", gzip.compress(GOOD + b"x" * 50_000_000), "expands_too_far"),
    "parquet": ("a.parquet", parquet(**rows(3)), None),
    "parquet, truncated": ("a.parquet", parquet(**rows(3))[:-40], "unreadable"),
    "parquet, but not": ("a.parquet", GOOD, "unreadable"),
    "parquet, ids as floats": ("a.parquet", parquet(**rows(1) | {"user_id": [2.0**53]}), "id_is_a_float:user_id"),
    "parquet bomb": ("a.parquet", parquet(event_id=pl.zeros(20_000_000, pl.Int8, eager=True)), "expands_too_far"),
    "another type": ("a.xlsx", GOOD, "type_unknown"),
    "upper case type": ("a.CSV", GOOD, "type_unknown"),
    "line break in the name": ("a\nb.csv", GOOD, "name_not_plain"),
    "name that is no text": (os.fsdecode(b"\xff.csv"), GOOD, "name_not_plain"),
    "name that is a pattern": ("*.csv", GOOD, "name_not_plain"),
    "name that is a chain": ("a::b.csv", GOOD, "name_not_plain"),
}  # fmt: skip


def test_each_file_has_its_declared_fate_and_takes_no_other_along(place: Place) -> None:
    # given: one landing hour or day per case, so that names may repeat
    labels = [f"2011-10-01T{n:02d}" for n in range(24)] + [f"2011-10-{n:02d}" for n in range(2, 31)]
    for label, (name, content, _) in zip(labels, FATES.values(), strict=False):
        place.land(f"events/{label}/{name}", content)

    # when
    place.ingest()

    # then
    fates = {e["landing"]: e["reason"] for e in place.last.new_entries}
    assert len(fates) == len(FATES)
    for label, (case, (_, _, fate)) in zip(labels, FATES.items(), strict=False):
        assert fates[label] == fate, case
    assert place.last.residual == 0
    assert {e["rows_in"] for e in place.last.new_entries if e["reason"]} == {0}


def test_what_is_no_file_of_the_landing_is_never_opened(place: Place) -> None:
    # given: links, pipes and folders in place of files
    secret = place.root / "secret.csv"
    secret.write_bytes(GOOD)
    place.land(f"{DAY}/good.csv", GOOD)
    day = place.landing / DAY
    (day / "link.csv").symlink_to(secret)
    (day / "dangling.csv").symlink_to(place.root / "nowhere.csv")
    (day / "folder.csv").mkdir()
    os.mkfifo(day / "pipe.csv")
    (place.root / "elsewhere").mkdir()
    (place.root / "elsewhere" / "a.csv").write_bytes(GOOD)
    (place.landing / "events" / "2011-10-02").symlink_to(place.root / "elsewhere")

    # when
    place.ingest()

    # then
    assert {f: r for f, r in place.fates().items() if r} == {
        "2011-10-01/link.csv": "outside_landing", "2011-10-01/dangling.csv": "outside_landing",
        "2011-10-01/folder.csv": "not_a_file", "2011-10-01/pipe.csv": "not_a_file",
        "2011-10-02/a.csv": "outside_landing"}  # fmt: skip
    assert place.last.accepted == 2


def test_a_linked_landing_root_is_fine(place: Place) -> None:
    place.land(f"{DAY}/a.csv", GOOD)
    place.landing.rename(place.root / "real")
    place.landing.symlink_to(place.root / "real")

    assert place.ingest().accepted == 2


def test_what_a_manifest_promises_is_held_against_the_files(place: Place) -> None:
    # given
    day = {"right.csv": GOOD, "changed.csv": GOOD, "short.csv": GOOD}
    for name, content in day.items():
        place.land(f"{DAY}/{name}", content + (b"x\n" if name == "changed.csv" else b""))
    place.land(f"{DAY}/stowaway.csv", GOOD)
    place.land(f"{DAY}/_manifest.json", claim(day, **{"gone.csv": {"rows": 3}, "short.csv": {"rows": 3}}))
    place.land("events/2011-10-02/_manifest.json", claim({"alone.csv": GOOD}))
    place.land("events/2011-10-03/a.csv", GOOD)
    place.land("events/2011-10-03/_manifest.json", b'{"files": [')

    # when
    place.ingest()

    # then
    expected = {
        "2011-10-01/right.csv": None, "2011-10-01/changed.csv": "differs_from_manifest",
        "2011-10-01/short.csv": "rows_differ_from_manifest", "2011-10-01/stowaway.csv": "not_in_manifest",
        "2011-10-01/gone.csv": "missing", "2011-10-02/alone.csv": "missing",
        "2011-10-03/a.csv": "manifest_unreadable"}  # fmt: skip
    assert place.fates() == expected
    # and: what is missing stays on record until it comes
    place.ingest()
    assert {e["file"].split("/", 1)[1]: e["reason"] for e in place.ledger()} == expected
    place.land("events/2011-10-02/alone.csv", GOOD)
    place.ingest()
    assert place.fates()["2011-10-02/alone.csv"] is None


def test_a_last_line_without_its_newline_counts_only_if_the_manifest_confirms_it(place: Place) -> None:
    cut = GOOD[:-1]
    place.land(f"{DAY}/a.csv", cut)
    place.land("events/2011-10-02/a.csv", cut.replace(b"u1", b"u2"))
    place.land("events/2011-10-02/_manifest.json", claim({}, **{"a.csv": {"rows": 2}}))

    report = place.ingest()

    assert (report.rows_in, report.accepted, report.reasons) == (4, 3, {"last_line_without_newline": 1})
    # and: a manifest that comes later confirms later
    place.land(f"{DAY}/_manifest.json", claim({}, **{"a.csv": {"rows": 2}}))
    place.ingest()
    assert len(place.history()) == 4


def test_of_flipped_bits_with_a_manifest_none_is_read(place: Place) -> None:
    good = parquet(**rows(200))
    draw = random.Random(5)
    names = [f"{n:03d}.parquet" for n in range(200)]
    for name in names:
        content = bytearray(good)
        bit = draw.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        place.land(f"{DAY}/{name}", bytes(content))
    place.land(f"{DAY}/_manifest.json", claim(dict.fromkeys(names, good)))

    report = place.ingest()

    assert len(report.rejected_files) == 200
    assert {f["reason"] for f in report.rejected_files} == {"differs_from_manifest"}
    assert report.rows_in == 0


def test_of_flipped_bits_without_a_manifest_none_stops_the_run(place: Place) -> None:
    good = parquet(**rows(50))
    draw = random.Random(5)
    for n in range(40):
        content = bytearray(good)
        bit = draw.randrange(len(content) * 8)
        content[bit // 8] ^= 1 << bit % 8
        place.land(f"{DAY}/{n:02d}.parquet", bytes(content))

    report = place.ingest()

    assert report.files == 40
    assert report.residual == 0


def test_names_beside_dates_and_tables_are_reported(place: Place) -> None:
    for path in ("events/today/a.csv", "events/2011-13-01/a.csv", "events/2011-10-01T24/a.csv", "events/stray.csv",
                 "events/9999-12-31/a.csv", "event/2011-10-01/a.csv", "events/2011-10-01/a.csv"):  # fmt: skip
        place.land(path, GOOD)

    report = place.ingest()

    assert report.files == 1
    assert report.ignored_folders == [
        "events/2011-10-01T24", "events/2011-13-01", "events/9999-12-31", "events/stray.csv", "events/today",
        "event"]  # fmt: skip


@pytest.mark.parametrize(
    ("label", "zone", "ended"),
    [
        ("2011-10-01", "UTC", datetime(2011, 10, 2, tzinfo=UTC)),
        ("2011-10-01T23", "UTC", datetime(2011, 10, 2, tzinfo=UTC)),
        ("2026-03-29", "Europe/Berlin", datetime(2026, 3, 29, 22, tzinfo=UTC)),
        ("2026-10-25", "Europe/Berlin", datetime(2026, 10, 25, 23, tzinfo=UTC)),
        ("2026-10-25T02", "Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
        ("0001-01-01T00", "Asia/Tokyo", None),
        ("2011-02-30", "UTC", None),
        ("٢٠١١-١٠-٠١", "UTC", None),
    ],
)
def test_a_day_or_hour_ends_when_the_clocks_of_the_zone_say_so(label: str, zone: str, ended: datetime | None) -> None:
    assert landing.end_of(label, ZoneInfo(zone)) == ended


def test_a_large_file_is_received_in_bounded_memory(tmp_path: Path) -> None:
    # given: 200 MB of text
    line = ",".join(event(1)).encode() + b"\n"
    place = Place(tmp_path)
    file = place.land(f"{DAY}/a.csv", ",".join(EVENTS).encode() + b"\n")
    with file.open("ab") as handle:
        for _ in range(40):
            handle.write(line * (5_000_000 // len(line)))
    run = place.run("2011-10-31")
    (landed,) = landing.find(run.landing, "events", ZoneInfo("UTC"), run.as_of).files

    # when
    tracemalloc.start()
    received = receipt.receive(landed, tmp_path, run.config.landing)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    # then
    assert received.rows == 40 * (5_000_000 // len(line))
    assert peak < 150_000_000


def test_a_file_beyond_the_limit_is_rejected_before_it_is_read_whole(place: Place) -> None:
    place.land(f"{DAY}/a.csv", GOOD)
    run = place.run("2011-10-31")
    (landed,) = landing.find(run.landing, "events", ZoneInfo("UTC"), run.as_of).files
    small = settings.LandingSettings(max_file_bytes=10, max_expansion=2, max_line_bytes=100, erase="rewrite")

    with pytest.raises(RejectedError, match="too_large"):
        receipt.receive(landed, place.root, small)


def test_unknown_columns_are_reported_by_name_but_never_by_value(place: Place) -> None:
    place.land(f"{DAY}/a.csv", GOOD.replace(b"item_id", b"Colour"))
    place.land(
        f"{DAY}/b.jsonl", json.dumps(dict(zip(EVENTS, event(5), strict=True)) | {"ann@example.org": 1}).encode() + b"\n"
    )

    report = place.ingest()

    assert report.unknown_columns == ["events.(not named)", "events.Colour"]
    assert report.accepted == 3


def test_a_long_text_that_a_dictionary_holds_once_for_every_row_is_a_bomb(place: Place) -> None:
    # given: 30 KB that would unpack to 12 GB
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 20_000
    text = pa.DictionaryArray.from_arrays(pa.array([0] * count, pa.int32()), pa.array(["x" * 600_000]))
    columns = {name: pa.array([value] * count) for name, value in zip(EVENTS, event(1), strict=True)}
    file = place.land(f"{DAY}/a.parquet", b"")
    pq.write_table(pa.table(columns | {"query_text": text}), file)
    assert file.stat().st_size < 100_000

    assert place.ingest().rejected_files == [{"file": f"{DAY}/a.parquet", "reason": "expands_too_far"}]
