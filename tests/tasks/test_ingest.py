"""What ingest promises: nothing lost, nothing silent, and the same history however the files arrive."""

from __future__ import annotations

import dataclasses
import gzip
import itertools
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tasks import contracts, ingest, receipt
from tasks.errors import BlockedError, MissingInputError
from tasks.landing import LandedFile
from tasks.receipt import Received
from tasks.settings import LandingSettings
from tests.landings import EVENTS, Place, claim, csv, event, files_of

HEADER = ",".join(EVENTS).encode() + b"\n"
PIECES = st.sampled_from(
    [b"e1", b"e2", b"u1", b"view", b"2011-10-01T10:00:00Z", b",", b",", b",", b'"', b'""', b"\n", b"\n", b"\r", b"\r\n",
     b"\0", b"\xff", b"\xef\xbb\xbf", b" ", b"\\", b"\x01", b"{", "é".encode(), "\N{ZERO WIDTH SPACE}".encode(),
     b'"a""b"', b"nan", b"e1,u1,view,i1,2011-10-01T10:00:00Z\n", b"e2,u1,view,i1,2011-10-01T10:00:00Z\n",
     b'"e3",u1,view,"i,1",2011-10-01T10:00:00Z\n', b"e1,u1,view,i2,2011-10-01T10:00:00Z\n"]
)  # fmt: skip
JSON_PIECES = st.sampled_from(
    [b"{}", b"{", b"}", b'"', b",", b":", b"\n", b"\n", b"\r\n", b"\0", b"\xff", b"\x01", b"null", b"[1]", b"1e400",
     b'{"event_id":1,"user_id":"u","event_type":"view","occurred_at":"2011-10-01"}\n', b'{"event_id":"\\u0000"}\n',
     b'{"event_id":{"a":1}}\n', b'{"event_id":"\\ud800"}\n', b'{"event_id":1,"event_id":2}\n']
)  # fmt: skip


def lines(content: bytes) -> int:
    """Records of a text file, counted by nothing that ingest uses."""
    return len(content.split(b"\n")) - (content.endswith(b"\n") or not content)


def check_conservation(suffix: str, files: list[bytes], header: bytes = b"") -> None:
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        for number, body in enumerate(files):
            place.land(f"events/2011-10-01/{number:03d}.{suffix}", header + body)
        report = place.ingest()

        entries = place.ledger()
        assert len(entries) == len(files)
        for entry, body in zip(entries, files, strict=True):
            counted = entry["accepted"] + entry["quarantined"] + entry["duplicates"] + entry["suppressed"]
            assert counted == entry["rows_in"] == (lines(body) if entry["status"] == "accepted" else 0)
            assert sum(entry["reasons"].values()) == entry["quarantined"]
        assert report.residual == 0
        assert len(place.history()) == report.accepted
        assert len(place.quarantine()) == report.quarantined


AWKWARD_CSV = [
    b'"e1",u1,view,"a\nb",2011-10-01\n', b'a"b"c,u1,view,i,2011-10-01\n "e1",u1,view,i,2011-10-01\n',
    b"e1,u1,view,i1,2011-10-01T10:00:00Z", b"\n\n\r\n,,,,\n", b"\xef\xbb\xbfe1,u1,view,i1,2011-10-01T10:00:00Z\n", b"",
    b'""""""""\n"",""\n"a","b","c","d","e"\n"a""",b,c,d,e\n"a"",b,c,d,e\n',
]  # fmt: skip
AWKWARD_JSON = [
    b'{"event_id":1,"user_id":"u","event_type":"view","occurred_at":"2011-10-01"}\n\xef\xbb\xbf{}\n[]\nnull\n',
    b"", b"\n", b"{}", b'{"event_id":"a"', b'{"' + b"k" * 3000 + b'":1}\n',
]  # fmt: skip


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(PIECES, max_size=40).map(b"".join), min_size=25, max_size=25))
@example(AWKWARD_CSV)
def test_every_csv_line_whatever_its_bytes_is_accounted_for(files: list[bytes]) -> None:
    check_conservation("csv", files, HEADER)


@settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.lists(JSON_PIECES, max_size=25).map(b"".join), min_size=25, max_size=25))
@example(AWKWARD_JSON)
def test_every_json_line_whatever_its_bytes_is_accounted_for(files: list[bytes]) -> None:
    check_conservation("jsonl", files)


def test_one_poisoned_row_takes_no_neighbour_along(place: Place) -> None:
    # given
    rows = [event(n, user=f"u{n % 7}") for n in range(20_000)]
    rows[7_777][4] = "yesterday"
    place.land("events/2011-10-01/a.csv", csv(*rows))

    # when
    report = place.ingest()

    # then
    assert (report.accepted, report.quarantined) == (19_999, 1)
    assert report.reasons == {"occurred_at_not_a_time": 1}


def test_the_same_rows_again_in_any_wrapping_add_nothing(place: Place) -> None:
    # given
    rows = [event(n) for n in range(5)]
    content = csv(*rows)
    place.land("events/2011-10-01/a.csv", content)
    place.ingest("2011-10-01")
    before = place.history()

    # when
    place.land("events/2011-10-02/a.csv", content)
    place.land("events/2011-10-02/renamed.csv", content)
    place.land("events/2011-10-02/packed.csv.gz", gzip.compress(content))
    place.land("events/2011-10-02/lines.jsonl", b"".join(
        json.dumps(dict(zip(EVENTS, row, strict=True))).encode() + b"\n" for row in rows))  # fmt: skip
    frame = pl.DataFrame(rows, schema=list(EVENTS), orient="row")
    frame.write_parquet(place.landing / "events/2011-10-02/rows.parquet")
    report = place.ingest("2011-10-02")

    # then
    assert (report.rows_in, report.duplicates, report.accepted) == (25, 25, 0)
    assert place.history() == before


def test_of_contradicting_rows_the_first_wins_and_the_others_are_conflicts(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(event(1, item="first")))
    place.ingest("2011-10-01")
    place.land("events/2011-10-02/a.csv", csv(event(1, item="second"), event(1, item="first")))

    report = place.ingest("2011-10-02")

    assert place.history(columns="item_id") == [("first",)]
    assert (report.reasons, report.duplicates) == ({"conflict": 1}, 1)


def test_an_event_id_is_the_same_only_within_one_person(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(event(1, user="u1"), event(1, user="u2"), event(1, user=""),
                                              event(1, user=""), event(1, user="", item="i2")))  # fmt: skip
    report = place.ingest()

    assert place.history(columns="user_id") == [("u1",), ("u2",), (None,)]
    assert (report.duplicates, report.reasons) == (1, {"conflict": 1})


DELIVERIES = {
    "events/2011-09-29/a.csv": csv(event(1), event(2, user="u2"), event(3, user="")),
    "events/2011-09-30/a.csv": csv(event(1, item="other"), event(4)),
    "events/2011-10-01/a.csv": csv(event(2, user="u2"), event(5), ["e6", "u1", "nothing", "i1", "2011-10-01"]),
    "events/2011-10-01/b.csv": csv(event(5, item="other"), event(7)),
    "items/2011-10-01/a.csv": csv(["i1", "A"], ["i1", "B"], header=("item_id", "title")),
    "items/2011-10-01/b.csv": csv(["i1", "A"], header=("item_id", "title")),
    "items/2011-10-02/a.csv": csv(["i1", "A"], ["i2", "Z"], header=("item_id", "title")),
}


def clean_run(root: Path, deliveries: dict[str, bytes], as_of: str) -> Place:
    place = Place(root)
    for path, content in deliveries.items():
        place.land(path, content)
    place.ingest(as_of)
    return place


def test_files_in_any_order_of_arrival_make_the_same_lake(tmp_path: Path) -> None:
    expected = clean_run(tmp_path / "clean", DELIVERIES, "2011-10-31")
    orders = list(itertools.permutations(DELIVERIES))[:: len(list(itertools.permutations(DELIVERIES))) // 5]

    assert len(orders) >= 5
    for number, order in enumerate(orders):
        place = Place(tmp_path / str(number))
        for path in order:
            place.land(path, DELIVERIES[path])
            place.ingest()
        assert place.ledger() == expected.ledger()
        assert files_of(place.lake) == files_of(expected.lake)


@pytest.mark.parametrize(
    ("days", "periods"),
    [
        (
            [*(f"2011-09-{d}" for d in range(26, 31)), "2011-10-01", "2011-10-02"],
            {"2011-09", "2011-10-01", "2011-10-02"},
        ),
        ([f"2011-10-{d:02d}" for d in range(7, 13)], {"2011-10-0", "2011-10-10", "2011-10-11", "2011-10-12"}),
    ],
    ids=["over the end of a month", "over the end of ten days"],
)
def test_nights_one_after_another_write_the_bytes_of_one_run_at_the_end(
    tmp_path: Path, days: list[str], periods: set[str]
) -> None:
    # given
    deliveries = {
        f"events/{day}/a.csv": csv(*(event(10 * n + k, user=f"u{k}") for k in range(8)), event(5, user="u5"),
                                   ["x", "u1", "none", "i1", "2011-10-01"])
        for n, day in enumerate(days)
    } | {
        f"items/{day}/a.csv": csv(["i1", f"title {n // 3}"], header=("item_id", "title")) for n, day in enumerate(days)
    }  # fmt: skip
    expected = clean_run(tmp_path / "clean", deliveries, days[-1])

    # when
    nightly = Place(tmp_path / "nightly")
    for day in days:
        for path, content in deliveries.items():
            if f"/{day}/" in path:
                nightly.land(path, content)
        nightly.ingest(day)

    # then
    assert files_of(nightly.lake) == files_of(expected.lake)
    stored = [Path(f).name for f in files_of(nightly.lake) if f.endswith(".parquet")]
    assert {name.rpartition("-")[0] for name in stored} == periods
    assert len(nightly.history(as_of=days[-1])) == expected.last.accepted - len(nightly.history("items"))


def test_how_many_files_are_taken_at_once_changes_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # given: every format, other columns, lines that cannot be parsed, and files of which the engine refuses some
    said = b'{"event_id":"%s","user_id":"u2","event_type":"view","occurred_at":"2011-10-01"}\n'
    deliveries = {
        "events/2011-10-01/a.csv": csv(event(1), event(2), ["x", "u1"], event(1)),
        "events/2011-10-01/b.csv": csv(["u1", "e7", "view", "2011-10-01T10:00:00Z"],
                                       header=("user_id", "event_id", "event_type", "occurred_at")),
        "events/2011-10-01/c.csv": csv(["1"], header=("event_id", "user_id")),
        "events/2011-10-01/d.jsonl": said % b"e8" + b"[]\n",
        "events/2011-10-01/e.jsonl": said % b"e\\u0000",
        "events/2011-10-01/f.csv.gz": gzip.compress(csv(event(9, user="u3"), event(1))),
        "events/2011-10-02/g.csv": csv(event(10, user="u3")),
    }  # fmt: skip
    rows = pl.DataFrame([event(11, user="u4"), event(2)], schema=list(EVENTS), orient="row")
    for name, frame in (("h", rows), ("i", rows.with_columns(user_id=pl.lit(1.5)))):
        rows_file = tmp_path / f"{name}.parquet"
        frame.write_parquet(rows_file)
        deliveries[f"events/2011-10-02/{name}.parquet"] = rows_file.read_bytes()
    expected = clean_run(tmp_path / "together", deliveries, "2011-10-31")

    # when
    monkeypatch.setattr(ingest, "BATCH_FILES", 1)
    alone = clean_run(tmp_path / "alone", deliveries, "2011-10-31")

    # then
    assert (expected.last.accepted, expected.last.duplicates, expected.last.quarantined) == (7, 3, 3)
    assert [e["reason"] for e in expected.last.rejected_files] == ["column_missing:event_type", "id_is_a_float:user_id"]
    assert files_of(alone.lake) == files_of(expected.lake)


def test_a_file_that_only_the_engine_refuses_takes_none_of_its_batch_along(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given: a file that is broken after it was received
    names = ["a.csv", "b.csv", "c.csv"]
    for number, name in enumerate(names):
        place.land(f"events/2011-10-01/{name}", csv(event(2 * number), event(2 * number + 1)))

    def broken(file: LandedFile, scratch: Path, limits: LandingSettings) -> Received:
        received = receipt.receive(file, scratch, limits)
        if file.name == "b.csv":
            received.copy.write_bytes(b'"' * 99 + b"\n")
        return received

    monkeypatch.setattr(ingest, "receive", broken)

    # when
    report = place.ingest()

    # then
    assert place.fates() == {"2011-10-01/a.csv": None, "2011-10-01/b.csv": "unreadable", "2011-10-01/c.csv": None}
    assert (report.accepted, report.rows_in) == (4, 4)
    assert place.history(columns="event_id, landed_row") == [("e0", 1), ("e1", 2), ("e4", 1), ("e5", 2)]


def test_an_earlier_day_run_again_changes_nothing_of_later_days(tmp_path: Path) -> None:
    # given: a lake that knows October, a rejected file among it
    place = clean_run(tmp_path, DELIVERIES | {"events/2011-10-05/bad.csv": b"no header\n"}, "2011-10-31")
    before = files_of(place.lake)

    # when
    place.ingest("2011-09-30")

    # then
    assert files_of(place.lake) == before
    assert len(place.history(as_of="2011-09-30")) == 4
    assert [e["landing"] for e in place.ledger("2011-09-30")] == ["2011-09-29", "2011-09-30"]


def test_a_late_file_found_by_an_earlier_day_keeps_the_later_days(tmp_path: Path) -> None:
    expected = clean_run(tmp_path / "clean", DELIVERIES, "2011-10-31")
    late = "events/2011-09-29/a.csv"
    place = clean_run(tmp_path / "late", {p: c for p, c in DELIVERIES.items() if p != late}, "2011-10-31")

    place.land(late, DELIVERIES[late])
    place.ingest("2011-09-30")

    assert list(place.last.re_ingested) == ["events"]
    assert files_of(place.lake) == files_of(expected.lake)


@pytest.mark.parametrize("kind", ["changed", "repaired", "manifest"])
def test_a_file_that_changes_is_as_if_it_had_always_been_so(tmp_path: Path, kind: str) -> None:
    good, other = csv(event(1), event(2)), csv(event(1), event(3))
    place = Place(tmp_path / "lake")
    place.land("events/2011-10-01/a.csv", {"changed": other, "repaired": b"broken\n", "manifest": good}[kind])
    place.land("events/2011-10-02/a.csv", csv(event(9)))
    place.ingest()
    final = {"events/2011-10-01/a.csv": good, "events/2011-10-02/a.csv": csv(event(9))}
    if kind == "manifest":
        final["events/2011-10-01/_manifest.json"] = claim({"a.csv": other})

    for path, content in final.items():
        place.land(path, content)
    place.ingest()

    assert list(place.last.re_ingested) == ["events"]
    assert files_of(place.lake) == files_of(clean_run(tmp_path / "clean", final, "2011-10-31").lake)


def test_history_that_must_be_rebuilt_from_files_that_are_gone_stops_the_run(place: Place) -> None:
    place.land("events/2011-10-02/a.csv", csv(event(1)))
    place.land("events/2011-10-03/a.csv", csv(event(2)))
    place.ingest()
    before = files_of(place.lake)
    shutil.rmtree(place.landing / "events/2011-10-02")
    place.land("events/2011-10-01/a.csv", csv(event(3)))

    with pytest.raises(BlockedError, match=r"events: history must be rebuilt .* events/2011-10-02/a.csv"):
        place.ingest()

    assert files_of(place.lake) == before


def test_landed_files_may_go_once_they_are_history(place: Place) -> None:
    place.land("events/2011-10-02/a.csv", csv(event(1)))
    place.ingest()
    shutil.rmtree(place.landing / "events")

    place.ingest()

    assert len(place.history()) == len(place.ledger()) == 1


def test_another_contract_or_time_zone_reads_the_table_anew(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.land("events/2011-10-02/a.csv", csv(event(1, at="2011-10-01T10:00:00")))
    place.ingest()
    (before,) = place.history(columns="epoch(occurred_at), epoch(landed_on)")

    place.config = place.root / "zone.toml"
    place.config.write_text('[run]\ntimezone = "Asia/Tokyo"\n')
    place.ingest()

    assert list(place.last.re_ingested) == ["events"]
    assert place.history(columns="epoch(occurred_at), epoch(landed_on)") == [
        (before[0] - 9 * 3600, before[1] - 9 * 3600)
    ]

    original = contracts.all_of("landing")
    monkeypatch.setattr(
        contracts, "all_of", lambda _: tuple(dataclasses.replace(c, fingerprint=c.fingerprint[::-1]) for c in original)
    )
    assert list(place.ingest().re_ingested) == ["events"]
    assert list(place.ingest().re_ingested) == []


def test_an_upsert_keeps_each_new_word_and_no_repetition(place: Place) -> None:
    # given: said, said again, changed, changed back
    for day, title in enumerate(["A", "A", "B", "A"], start=1):
        place.land(f"items/2011-10-0{day}/a.csv", csv(["i1", title], header=("item_id", "title")))
        place.ingest(f"2011-10-0{day}")

    assert place.history("items", "title") == [("A",), ("B",), ("A",)]


def test_what_repeats_a_word_of_its_own_landing_is_not_the_word_that_later_days_follow(place: Place) -> None:
    # given: a landing that ends with B, although A is repeated after it
    place.land("items/2011-10-01/a.csv", csv(["i1", "A"], ["i1", "B"], ["i1", "A"], header=("item_id", "title")))
    place.land("items/2011-10-02/a.csv", csv(["i1", "A"], header=("item_id", "title")))

    place.ingest()

    assert place.history("items", "title") == [("A",), ("B",), ("A",)]


def test_history_as_of_a_day_holds_what_had_landed_by_then(place: Place) -> None:
    place.land("events/2011-10-01/a.csv", csv(event(1)))
    place.land("events/2011-10-02T00/a.csv", csv(event(2)))
    place.land("events/2011-10-02/a.csv", csv(event(3)))
    place.ingest()

    cuts = ("2011-09-30", "2011-10-01", "2011-10-02T00:59:59+00:00", "2011-10-02T01:00:00+00:00", "2011-10-02")
    seen = [[e for (e,) in place.history(columns="event_id", as_of=cut)] for cut in cuts]

    assert seen == [[], ["e1"], ["e1"], ["e1", "e2"], ["e1", "e2", "e3"]]


def test_no_landing_folder_is_missing_input(tmp_path: Path) -> None:
    place = Place(tmp_path)
    run = place.run("2011-10-01")
    place.landing.rmdir()
    with pytest.raises(MissingInputError, match="no landing folder"):
        from tasks import landing

        landing.find(run.landing, "events", run.as_of.tzinfo, run.as_of)  # type: ignore[arg-type] # a ZoneInfo here


def test_a_lake_and_a_landing_whose_names_look_like_patterns_are_read_as_they_are(tmp_path: Path) -> None:
    # given: beside a[1], the folder that the pattern would match
    decoy = clean_run(tmp_path / "a1", {"events/2011-10-01/x1.csv": csv(event(99))}, "2011-10-31")
    place = clean_run(tmp_path / "a[1]", {"events/2011-10-01/x[1].csv": csv(event(1))}, "2011-10-31")
    place.land("events/2011-10-01/x1.csv", csv(event(2)))
    place.land("events/2011-10-02/x.csv", csv(event(1)))

    place.ingest()

    assert sorted(place.history(columns="event_id, landed_file")) == [
        ("e1", "events/2011-10-01/x[1].csv"), ("e2", "events/2011-10-01/x1.csv")]  # fmt: skip
    assert decoy.history(columns="event_id") == [("e99",)]


def test_counts_of_the_ledger_are_those_of_the_run(place: Place) -> None:
    for path, content in DELIVERIES.items():
        place.land(path, content)
    report = place.ingest()

    totals: Counter[str] = Counter()
    for entry in place.ledger():
        totals.update({k: entry[k] for k in ("rows_in", "accepted", "quarantined", "duplicates")})
    assert totals == {k: getattr(report, k) for k in totals}
    assert report.rows_in == sum(content.count(b"\n") - 1 for content in DELIVERIES.values())
