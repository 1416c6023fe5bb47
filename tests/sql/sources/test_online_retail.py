"""What each SELECT of the Online Retail import makes of a handful of invoice lines."""

from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any

import duckdb
import pytest

from tasks.sources import ONLINE_RETAIL_COLUMNS

Line = tuple[str, str | None, str | None, str, str, str, str | None, str]


def line(
    invoice: str = "1",
    code: str = "10001",
    *,
    title: str | None = "RED CUP",
    pieces: str = "2",
    price: str = "1.5",
    at: str = "2011-01-10 09:00:00",
    customer: str | None = "17850.0",
    country: str = "United Kingdom",
) -> Line:
    return invoice, code, title, pieces, at, price, customer, country


def table(name: str, lines: list[Line]) -> list[dict[str, Any]]:
    """The rows of one table; a line lands on the day of its date."""
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        columns = ", ".join(f"{name} VARCHAR" for name in ONLINE_RETAIL_COLUMNS)
        con.execute(f"CREATE TABLE invoice_lines (landed_on DATE, line BIGINT, {columns})")
        for number, fields in enumerate(lines, start=1):
            con.execute("INSERT INTO invoice_lines VALUES (?,?,?,?,?,?,?,?,?,?)", [fields[4][:10], number, *fields])
        for made in dict.fromkeys(("lines", name)):
            sql = (resources.files("sql") / "sources" / "online_retail" / f"{made}.sql").read_text(encoding="utf-8")
            con.execute(f"CREATE TABLE {made} AS {sql}")
        result = con.execute(f"FROM {name} ORDER BY rowid")
        names = [c[0] for c in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_every_line_is_an_event_with_its_place_in_the_invoice() -> None:
    # given two equal lines and another in one invoice, with a second invoice in between
    events = table("events", [line(), line(), line("2"), line(code="10002")])

    assert [e["event_id"] for e in events] == ["1-1", "1-2", "2-1", "1-3"]
    assert {e["session_id"] for e in events} == {"1", "2"}


def test_an_invoice_over_two_days_goes_on_counting() -> None:
    events = table("events", [line(), line(at="2011-01-11 09:00:00")])

    assert [(e["landed_on"], e["event_id"]) for e in events] == [(date(2011, 1, 10), "1-1"), (date(2011, 1, 11), "1-2")]


@pytest.mark.parametrize(
    ("given", "kind"),
    [(line(), "purchase"), (line("C1", pieces="-2"), "return"), (line(pieces="-2"), "return"), (line("C1"), "return")],
)
def test_negative_or_cancelled_is_a_return_and_amounts_have_no_sign(given: Line, kind: str) -> None:
    (event,) = table("events", [given])

    assert event["event_type"] == kind
    assert (event["quantity"], event["amount"], event["currency"]) == (Decimal(2), Decimal(3), "GBP")


def test_a_customer_loses_the_decimals_and_a_missing_one_is_anonymous() -> None:
    events = table("events", [line(), line(customer=None), line(customer="17850")])

    assert [e["user_id"] for e in events] == ["17850", None, "17850"]


def test_stock_codes_are_upper_case_everywhere() -> None:
    given = [line(code="85123a"), line(code="85123A")]

    assert {e["item_id"] for e in table("events", given)} == {"85123A"}
    assert [i["item_id"] for i in table("items", given)] == ["85123A"]


@pytest.mark.parametrize(("local", "hour"), [("2011-01-10 09:00:00", 9), ("2011-07-10 09:00:00", 8)])
def test_time_is_read_on_the_wall_clock_of_london(local: str, hour: int) -> None:
    (event,) = table("events", [line(at=local)])

    assert event["occurred_at"] == datetime(2011, int(local[5:7]), 10, hour, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "read"),
    [("EIRE", "IE"), ("RSA", "ZA"), ("Channel Islands", None), ("Unspecified", None), ("European Community", None),
     ("Germany", "Germany")],
)  # fmt: skip
def test_countries_only_this_source_spells_are_mapped(written: str, read: str | None) -> None:
    (event,), (user,) = table("events", [line(country=written)]), table("users", [line(country=written)])

    assert event["country"] == user["country"] == read


@pytest.mark.parametrize(
    "code", ["POST", "DOT", "M", "D", "S", "C2", "B", "BANK CHARGES", "AMAZONFEE", "CRUK", "PADS", "gift_0001_20"]
)
def test_what_is_no_product_is_an_event_but_no_item(code: str) -> None:
    given = [line(code=code), line(code="DCGS0003"), line(code="85123A")]

    assert len(table("events", given)) == 3
    assert [i["item_id"] for i in table("items", given)] == ["85123A", "DCGS0003"]


def test_an_item_is_described_by_its_first_day_alone() -> None:
    # given a day with three prices and two titles, and another price and title later
    (item,) = table("items", [
        line(price="3", title="B CUP"), line(price="1", title="A CUP"), line(price="1", title="B CUP"),
        line(at="2011-01-11 08:00:00", price="9", title="NEW CUP"),
    ])  # fmt: skip

    assert (item["landed_on"], item["title"], item["price"]) == (date(2011, 1, 10), "B CUP", Decimal(1))
    assert item["created_at"] == datetime(2011, 1, 10, 9, tzinfo=UTC)
    assert (item["currency"], item["review_status"]) == ("GBP", "approved")


def test_a_clerks_remark_is_no_title_and_the_first_sale_lands_a_second_version() -> None:
    first, second = table("items", [
        line(title="damaged", pieces="-5", price="0", customer=None), line(at="2011-01-11 08:00:00", title="RED CUP"),
        line(at="2011-01-12 08:00:00", title="LATER"),
    ])  # fmt: skip

    assert (first["title"], first["price"], first["currency"]) == (None, None, None)
    assert (second["landed_on"], second["title"], second["price"]) == (date(2011, 1, 11), "RED CUP", Decimal("1.5"))
    assert first["created_at"] == second["created_at"] == datetime(2011, 1, 10, 9, tzinfo=UTC)


def test_a_profile_lands_first_and_whenever_the_country_changes() -> None:
    days = [("10", "Cyprus"), ("11", "Cyprus"), ("12", "Unspecified"), ("13", "Austria"), ("14", "Cyprus")]
    users = table("users", [line(at=f"2011-01-{day} 09:00:00", country=country) for day, country in days])

    assert [(u["landed_on"].day, u["country"]) for u in users] == [(10, "Cyprus"), (13, "Austria"), (14, "Cyprus")]
