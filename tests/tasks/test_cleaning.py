"""What happens to each value: kept, cleaned and counted, or quarantined with a reason. Nothing is silently coerced."""

from __future__ import annotations

import io
import json
from decimal import Decimal
from typing import Any

import polars as pl
import pytest

from tests.landings import Place

BASE = {"event_id": "e0", "user_id": "u1", "event_type": "view", "item_id": "i1", "occurred_at": "2011-09-25T10:00:00Z"}
BIG = "9007199254740993"  # 2^53 + 1, which a float cannot hold
Case = tuple[dict[str, Any], str | None, dict[str, Any]]

# What lands, the reason for quarantine if any, and what history then holds.
CASES: dict[str, Case] = {
    "NaN": ({"amount": "NaN"}, "amount_not_a_number", {}),
    "infinity": ({"amount": "inf"}, "amount_not_a_number", {}),
    "minus infinity": ({"dwell_seconds": "-inf"}, "dwell_seconds_not_a_number", {}),
    "exponent": ({"amount": "1e400"}, "amount_not_a_number", {}),
    "more digits than the type": ({"amount": "1" * 20}, "amount_not_a_number", {}),
    "half a position": ({"position": "1.5"}, "position_not_a_number", {}),
    "rating off the scale": ({"value": "5.5"}, "value_out_of_range", {}),
    "more decimals than the type": ({"amount": "1.00009"}, None, {"amount": Decimal("1.0001")}),
    "large id": ({"user_id": BIG}, None, {"user_id": BIG}),
    "zero-width in an id": ({"user_id": "u\u200b1"}, "user_id_invisible_character", {}),
    "right-to-left mark in an id": ({"item_id": "i\u200f1"}, "item_id_invisible_character", {}),
    "isolate in an id": ({"session_id": "s\u20661"}, "session_id_invisible_character", {}),
    "zero-width in text": ({"query_text": "red\u200b mug"}, None, {"query_text": "red mug"}),
    "decomposed text": ({"query_text": "cafe\u0301"}, None, {"query_text": "caf\u00e9"}),
    "decomposed id": ({"item_id": "cafe\u0301"}, None, {"item_id": "cafe\u0301"}),
    "tab in text": ({"query_text": "blue\tmug"}, None, {"query_text": "blue mug"}),
    "right to left": ({"query_text": "ספל כחול"}, None, {"query_text": "ספל כחול"}),
    "emoji": ({"query_text": "🎁 gift"}, None, {"query_text": "🎁 gift"}),
    "quotes and commas": ({"query_text": 'a "b", c'}, None, {"query_text": 'a "b", c'}),
    "long text": ({"query_text": "x" * 500_000}, None, {}),
    "no type": ({"event_type": ""}, "event_type_missing", {}),
    "unknown type": ({"event_type": "teleport"}, "event_type_unknown", {}),
    "upper case and space": ({"event_type": " VIEW "}, None, {"event_type": "view"}),
    "no event id": ({"event_id": ""}, "event_id_missing", {}),
    "anonymous": ({"user_id": ""}, None, {"user_id": None}),
    "country by name": ({"country": "United Kingdom"}, None, {"country": "GB"}),
    "country by three letters": ({"country": "deu"}, None, {"country": "DE"}),
    "country nobody knows": ({"country": "Atlantis"}, None, {"country": "ZZ"}),
    "negative dwell": ({"dwell_seconds": "-3"}, None, {"dwell_seconds": None}),
    "blank device": ({"device": "  "}, None, {"device": "unknown"}),
    "not a time": ({"occurred_at": "last Monday"}, "occurred_at_not_a_time", {}),
    "no such day": ({"occurred_at": "2011-02-30"}, "occurred_at_not_a_time", {}),
    "leap second": ({"occurred_at": "2011-09-25T23:59:60Z"}, "occurred_at_not_a_time", {}),
    "offset nobody has": ({"occurred_at": "2011-09-25T10:00:00+99:00"}, "occurred_at_not_a_time", {}),
    "date with an offset": ({"occurred_at": "2011-09-25+02"}, "occurred_at_not_a_time", {}),
    "offset": ({"occurred_at": "2011-09-25T12:00:00+0200"}, None, {"epoch": 1316944800}),
    "naive, in the zone": ({"occurred_at": "2011-09-25 12:00:00"}, None, {"epoch": 1316944800}),
    "naive, skipped by the clocks": ({"occurred_at": "2011-03-27T02:30:00"}, "occurred_at_not_a_time", {}),
    "naive, repeated by the clocks": ({"occurred_at": "2010-10-31T02:30:00"}, None, {"epoch": 1288488600}),
    "future": ({"occurred_at": "2011-10-05T00:00:00Z"}, "occurred_at_in_the_future", {}),
    "1970": ({"occurred_at": "1970-01-01T00:00:00Z"}, "occurred_at_too_old", {}),
    "year 9999": ({"occurred_at": "9999-12-31T00:00:00Z"}, "occurred_at_in_the_future", {}),
}  # fmt: skip


def rows() -> list[dict[str, str]]:
    return [BASE | {"event_id": f"e{n}"} | landed for n, (landed, _, _) in enumerate(CASES.values())]


def written(kind: str) -> bytes:
    names = sorted({name for row in rows() for name in row})
    frame = pl.DataFrame([{n: row.get(n) for n in names} for row in rows()], infer_schema_length=None)
    if kind == "csv":
        return frame.write_csv().encode()
    if kind == "jsonl":
        return b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows())
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_each_value_has_its_declared_fate_in_every_format(place: Place, kind: str) -> None:
    # given
    place.config = place.root / "zone.toml"
    place.config.write_text('[run]\ntimezone = "Europe/Berlin"\n')
    place.land(f"events/2011-10-01/a.{kind}", written(kind))

    # when
    report = place.ingest()

    # then
    refused = {row - 1: reason for row, reason in place.quarantine(columns="landed_row, reason")}
    columns = sorted({n for _, _, kept in CASES.values() for n in kept} - {"epoch"})
    kept = {int(row[0].removeprefix("e")): dict(zip(["epoch", *columns], row[1:], strict=True))
            for row in place.history(columns=f"event_id, epoch(occurred_at), {', '.join(columns)}")}  # fmt: skip
    for number, (case, (_, reason, expected)) in enumerate(CASES.items()):
        assert refused.get(number) == reason, case
        assert (number in kept) == (reason is None), case
        assert expected.items() <= kept.get(number, {}).items(), case
    assert report.residual == 0
    assert report.rows_in == len(CASES)


JSON_CASES = [
    ('"event_id": 9007199254740993', None),
    ('"event_id": 12345678901234567890123', None),
    ('"event_id": 1.5e3', "event_id_is_a_float"),
    ('"event_id": "a\\u0000b"', "nul_character"),
    ('"event_id": "a", "query_text": "a\\u0000b"', "nul_character"),
    ('"event_id": "\\ud800"', "not_an_object"),
    ('"event_id": "b", "amount": 1e400', "amount_not_a_number"),
    ('"event_id": "c", "amount": NaN', "amount_not_a_number"),
    ('"event_id": "d", "user_id": null', None),
]


def test_json_values_are_taken_as_written_or_not_at_all(place: Place) -> None:
    lines = [f'{{"event_type": "view", "occurred_at": "2011-09-25", {cells}}}\n' for cells, _ in JSON_CASES]
    place.land("events/2011-10-01/a.jsonl", "".join(lines).encode())

    place.ingest()

    refused = dict(place.quarantine(columns="landed_row, reason"))
    assert refused == {n: reason for n, (_, reason) in enumerate(JSON_CASES, start=1) if reason}
    assert place.history(columns="event_id") == [("9007199254740993",), ("12345678901234567890123",), ("d",)]


HIDDEN = [
    (kind, number)
    for kind in ("csv", "json", "escaped json", "parquet")
    for number in (1, 8, 9, 10, 12, 27, 31, 127, 0x85, 0xAD, 0x200B)
    if (kind, number) != ("csv", 10)  # there a line ends
]


@pytest.mark.parametrize(("kind", "number"), HIDDEN)
def test_one_hidden_character_in_an_id_is_seen_in_a_file_that_has_no_other(
    place: Place, kind: str, number: int
) -> None:
    # given
    row = BASE | {"item_id": f"i{chr(number)}1"}
    buffer = io.BytesIO()
    pl.DataFrame([row]).write_parquet(buffer)
    plain, escaped = (json.dumps(row, ensure_ascii=ascii_only) for ascii_only in (False, True))
    name, content = {
        "csv": ("a.csv", (",".join(row) + "\n" + ",".join(row.values()) + "\n").encode()),
        "json": ("a.jsonl", plain.encode() + b"\n"),
        "escaped json": ("a.jsonl", escaped.encode() + b"\n"),
        "parquet": ("a.parquet", buffer.getvalue()),
    }[kind]
    place.land(f"events/2011-10-01/{name}", content)

    # when
    place.ingest()

    # then
    assert place.quarantine(columns="reason") == [("item_id_invisible_character",)]


def test_parquet_numbers_and_nul_are_as_strict_as_text(place: Place) -> None:
    frame = pl.DataFrame({
        "event_id": [2**53 + 1, 2, 3, 4], "event_type": ["view"] * 4, "occurred_at": ["2011-09-25"] * 4,
        "amount": [1.5, float("nan"), float("inf"), 2.0], "query_text": ["a", "b", "c", "x\0y"]})  # fmt: skip
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    place.land("events/2011-10-01/a.parquet", buffer.getvalue())

    place.ingest()

    assert place.history(columns="event_id, amount") == [("9007199254740993", Decimal("1.5"))]
    assert dict(place.quarantine(columns="landed_row, reason")) == {
        2: "amount_not_a_number", 3: "amount_not_a_number", 4: "nul_character"}  # fmt: skip


def test_a_broken_line_of_csv_is_quarantined_alone_and_kept_as_delivered(place: Place) -> None:
    good = "e{},u1,view,i1,2011-09-25"
    bad = {'x,u1,view,"i': "quoted_newline", '1",2011-09-25': "quoted_newline", "x,u1": "column_count",
           'x,u1,"view"s,i1,2011-09-25': "quotes_misplaced", 'x,u1,vi"e"w,i1,2011-09-25': "quotes_misplaced",
           ' "x",u1,view,i1,2011-09-25': "quotes_misplaced", "x,u1,view,i\r1,2011-09-25": "carriage_return",
           "x,u1,view,i\0,2011-09-25": "nul_character", "": "blank_line",
           "x,u1,view," + "i" * 1_000_001 + ",2011-09-25": "line_too_long"}  # fmt: skip
    lines = ["event_id,user_id,event_type,item_id,occurred_at"]
    for number, line in enumerate(bad):
        lines += [line, good.format(number)]
    place.land("events/2011-10-01/a.csv", "\n".join([*lines, ""]).encode() + b"x,u\xff,view,i1,2011-09-25\n")

    report = place.ingest()

    assert report.accepted == len(bad)
    found = place.quarantine(columns="reason, record")
    assert [reason for reason, _ in found] == [*bad.values(), "encoding_not_utf8"]
    assert found[0][1] == 'x,u1,view,"i'


def test_every_rule_counts_exactly_the_accepted_rows_that_it_changed(place: Place) -> None:
    header = "event_id,event_type,occurred_at,device,country,dwell_seconds,amount,query_text"
    rows = ["e1,VIEW,2011-09-25T10:00:00Z,phone,GB,1,1.5,tea", "e2,view,2011-09-25,,uk,-1,1.00005,a  b",
            "e3,view,2011-09-25T10:00:00Z,PHONE,,,1.50000,", "e4,view,never,,uk,-1,1,a  b",
            "e2,view,2011-09-25,,uk,-1,1.00005,a  b"]  # fmt: skip
    place.land("events/2011-10-01/a.csv", "\n".join([header, *rows, ""]).encode())

    report = place.ingest()

    assert report.filled == {"events.device": 1}
    assert report.fixed == {"events.dwell_seconds": 1}
    changed = ("event_type", "device", "country", "occurred_at", "amount", "query_text")
    assert report.standardized == {f"events.{column}": 1 for column in changed}
    assert place.history(columns="event_id, device, filled") == [
        ("e1", "phone", []), ("e2", "unknown", ["device"]), ("e3", "phone", [])]  # fmt: skip


def test_profiles_and_items_are_cleaned_as_their_contracts_say(place: Place) -> None:
    place.land(
        "users/2011-10-01/a.csv",
        b"user_id,birth_year,gender,language\nu1,1850,,English\nu2,2012,F,pt-BR\nu3,1980,x,qqq\n",
    )
    place.land("items/2011-10-01/a.csv", b"item_id,category,price,sensitive\ni1,Home/ Kitchen>>Mugs ,-1,yes\ni2,,2,\n")

    place.ingest()

    assert place.history("users", "birth_year, gender, language, filled") == [
        (None, "unknown", "en", ["gender", "income_band", "status"]), (None, "f", "pt", ["income_band", "status"]),
        (1980, "x", None, ["income_band", "status"])]  # fmt: skip
    assert place.history("items", "category, price, sensitive, filled") == [
        ("Home > Kitchen > Mugs", None, True, ["review_status"]),
        (None, 2, False, ["review_status", "sensitive"])]  # fmt: skip


def test_no_value_of_a_bad_row_reaches_the_ledger(place: Place) -> None:
    canary = "canary7f3a"
    place.land(
        "events/2011-10-01/a.csv",
        f"event_id,user_id,event_type,occurred_at\n{canary},{canary},{canary},{canary}\n{canary}\n".encode(),
    )
    place.land("events/2011-10-01/b.csv", f"{canary},{canary}\n".encode())
    place.land("events/2011-10-01/c.jsonl", f'{{"event_id": "{canary}", "{canary}": 1}}\n{canary}\n'.encode())

    report = place.ingest()

    assert report.quarantined == 2
    assert canary not in json.dumps(place.ledger())
    assert canary not in str(report)
