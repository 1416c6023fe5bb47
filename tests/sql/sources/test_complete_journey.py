"""What each SELECT of the Complete Journey import makes of a handful of receipts, products and households."""

from datetime import UTC, date, datetime
from decimal import Decimal
from importlib import resources
from typing import Any

import duckdb
import pytest

from tasks.sources import COMPLETE_JOURNEY_FILES, IMPORTERS

Row = tuple[object, ...]
ICE = ("10", "2", "GROCERY", "National", "FRZN ICE", "ICE - CRUSHED", "22 LB")


def sale(
    when: str = "2017-01-02 20:00:00+00",
    *,
    household: str = "1",
    basket: str = "500",
    product: str = "10",
    quantity: float = 2,
    received: float = 5,
    discount: float = 0,
    match: float = 0,
) -> Row:
    return household, basket, product, quantity, received, discount, match, when


def table(name: str, **given: list[Row]) -> list[dict[str, Any]]:
    with duckdb.connect(":memory:") as con:
        con.execute("SET TimeZone = 'UTC'")
        for file, columns in COMPLETE_JOURNEY_FILES.items():
            con.execute(f"CREATE TABLE {file} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
            for row in given.get(file, []):
                con.execute(f"INSERT INTO {file} VALUES ({', '.join('?' * len(columns))})", row)
        for made in IMPORTERS["complete-journey"].statements:
            sql = (resources.files("sql") / "sources" / "complete_journey" / f"{made}.sql").read_text(encoding="utf-8")
            con.execute(f"CREATE TABLE {made} AS {sql}")
        result = con.execute(f"FROM {name} ORDER BY rowid")
        names = [c[0] for c in result.description or []]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def test_a_line_of_a_receipt_is_a_purchase_within_its_basket() -> None:
    (event,) = table("events", transactions=[sale(received=3.86, discount=0.43)])

    assert (event["event_id"], event["session_id"], event["event_type"]) == ("500-10", "500", "purchase")
    assert (event["quantity"], event["amount"], event["currency"]) == (Decimal(2), Decimal("3.86"), "USD")


@pytest.mark.parametrize("when", ["2017-01-02 23:59:59+00", "2017-01-02 19:59:59-04", "2017-01-02 00:00:00+00"])
def test_a_day_is_one_of_utc(when: str) -> None:
    (event,) = table("events", transactions=[sale(when)])

    assert event["landed_on"] == date(2017, 1, 2)
    assert event["occurred_at"] == datetime.fromisoformat(when.replace("-04", "-04:00")).astimezone(UTC)


@pytest.mark.parametrize(("quantity", "received", "kept"), [(0, 0, 0), (0, 1, 1), (1, 0, 1)])
def test_a_line_without_goods_and_money_is_no_purchase(quantity: float, received: float, kept: int) -> None:
    events = table("events", transactions=[sale(quantity=quantity, received=received), sale(basket="501")])

    assert len(events) == kept + 1


def test_a_product_lands_on_the_first_day_and_its_price_on_the_day_of_the_first_sale() -> None:
    # given one product sold on the first day, one sold later at three prices, one never
    others: list[Row] = [("11", *ICE[1:]), ("12", *ICE[1:])]
    items = table("items", products=[ICE, *others], transactions=[
        sale(), sale("2017-01-05 09:00:00+00", received=99),
        *(sale("2017-01-05 10:00:00+00", product="11", basket=str(r), received=r) for r in (2, 4, 8)),
        sale("2017-01-06 10:00:00+00", product="11", received=100),
    ])  # fmt: skip

    assert [(i["item_id"], i["landed_on"].day, i["price"], i["currency"]) for i in items] == [
        ("10", 2, Decimal("2.5"), "USD"), ("11", 2, None, None), ("12", 2, None, None), ("11", 5, Decimal(2), "USD"),
    ]  # fmt: skip


def test_the_price_is_the_one_on_the_shelf() -> None:
    (item,) = table("items", products=[ICE], transactions=[sale(received=3, discount=0.6, match=0.4)])

    assert item["price"] == Decimal(2)


def test_a_product_is_described_from_department_to_size() -> None:
    bare = ("11", "3", "PRODUCE", "Private", None, "APPLES", None)
    first, second = table("items", products=[ICE, bare], transactions=[sale()])

    assert (first["title"], first["brand"], first["provider_id"]) == ("ICE - CRUSHED 22 LB", "National", "2")
    assert first["category"] == "GROCERY > FRZN ICE > ICE - CRUSHED"
    assert (second["title"], second["category"]) == ("APPLES", "PRODUCE > APPLES")


@pytest.mark.parametrize(
    ("department", "category", "kind"),
    [("FUEL", "FUEL", "GASOLINE"), ("MISCELLANEOUS", "COUPON/MISC ITEMS", "GIFT CARD"),
     ("COUPON", "COUPONS/STORE & MFG", "COUPONS"), ("MISCELLANEOUS", None, None)],
)  # fmt: skip
def test_what_is_no_product_is_an_event_but_no_item(department: str, category: str | None, kind: str | None) -> None:
    given: dict[str, list[Row]] = {
        "products": [ICE, ("11", "1", department, "National", category, kind, None)],
        "transactions": [sale(), sale(product="11")],
    }

    assert [e["item_id"] for e in table("events", **given)] == ["10", "11"]
    assert [i["item_id"] for i in table("items", **given)] == ["10"]


def test_profiles_land_on_the_first_day_whoever_buys_and_when() -> None:
    households: list[Row] = [("1", "45-54", "50-74K"), ("2", "65+", "Under 15K"), ("3", None, None)]
    users = table("users", demographics=households, transactions=[sale(household="9"), sale("2017-02-01", basket="7")])

    assert {u["landed_on"] for u in users} == {date(2017, 1, 2)}
    assert [(u["user_id"], u["birth_year"], u["income_band"]) for u in users] == [
        ("1", 1967, "50-74K"), ("2", 1947, "Under 15K"), ("3", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize("band", ["19-24", "25-34", "35-44", "45-54", "55-64"])
def test_a_birth_year_falls_into_its_band_in_2017(band: str) -> None:
    (user,) = table("users", demographics=[("1", band, None)], transactions=[sale()])

    youngest, oldest = (int(age) for age in band.split("-"))
    assert youngest < 2017 - user["birth_year"] <= oldest
