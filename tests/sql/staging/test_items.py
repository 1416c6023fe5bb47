from dataclasses import replace
from datetime import UTC, datetime

from tests.sql.spec import Night


def test_the_newest_landed_version_is_the_item(night: Night) -> None:
    night.landed(
        items="""
        item_id | title | price | landed_on              | landed_file | landed_row
        cup     | old   | 1     | 2026-02-01 00:00:00+00 | a.csv       | 1
        cup     | new   | 2     | 2026-02-03 00:00:00+00 | a.csv       | 1
        jar     | row 1 | 1     | 2026-02-03 00:00:00+00 | b.csv       | 1
        jar     | row 2 | 2     | 2026-02-03 00:00:00+00 | b.csv       | 2
        jar     | row 9 | 3     | 2026-02-03 00:00:00+00 | a.csv       | 9
        """
    )

    night.open()

    night.shows(
        "staging.items",
        """
        item_id | title | price | first_landed_on        | price_filled
        cup     | new   | 2     | 2026-02-01 00:00:00+00 | false
        jar     | row 2 | 2     | 2026-02-03 00:00:00+00 | false
        """,
    )


def test_a_version_that_lands_after_the_run_is_not_there(night: Night) -> None:
    night.run = replace(night.run, as_of=datetime(2026, 2, 2, tzinfo=UTC))
    night.landed(
        items="""
        item_id | title | landed_on
        cup     | old   | 2026-02-02 00:00:00+00
        cup     | new   | 2026-02-02 00:00:01+00
        pot     | new   | 2026-02-02 00:00:01+00
        """
    )

    night.open()

    night.shows("staging.items", "item_id | title\ncup | old")


def test_an_item_may_be_shown_if_approved_available_and_in_stock(night: Night) -> None:
    night.landed(
        items="""
        item_id | review_status | available_from         | available_until        | stock
        a       | approved      | -                      | -                      | -
        b       | approved      | 2026-03-01 00:00:00+00 | 2026-03-01 00:00:01+00 | 1
        c       | approved      | 2026-03-01 00:00:01+00 | -                      | -
        d       | approved      | -                      | 2026-03-01 00:00:00+00 | -
        e       | approved      | -                      | -                      | 0
        f       | pending       | -                      | -                      | -
        g       | blocked       | -                      | -                      | -
        h       | -             | -                      | -                      | -
        """
    )

    night.open()

    night.shows(
        "staging.items",
        """
        item_id | recommendable
        a       | true
        b       | true
        c       | false
        d       | false
        e       | false
        f       | false
        g       | false
        h       | false
        """,
    )


def test_a_missing_price_is_the_median_of_its_category_and_is_flagged(night: Night) -> None:
    night.landed(
        items="""
        item_id | category    | price | currency
        a       | Tea > Cups  | 1     | EUR
        b       | Tea > Cups  | 2     | EUR
        c       | Tea > Cups  | 9     | EUR
        d       | Tea > Cups  | 700   | JPY
        e       | Tea > Cups  | -     | EUR
        f       | Tea > Cups  | -     | JPY
        g       | Tea > Cups  | -     | -
        h       | Tea > Pots  | -     | EUR
        i       | Tea > Cups  | -     | USD
        j       | -           | -     | EUR
        k       | -           | 5     | EUR
        """
    )

    night.open()

    # the middle of 1, 2, 9 is 2; the yen's own is 700; without a currency the commonest speaks;
    # pots have no price, but tea has; nothing costs dollars, and without a category there is nothing to compare with
    night.shows(
        "staging.items",
        """
        item_id | price | currency | price_filled | category_top
        a       | 1     | EUR      | false        | Tea
        b       | 2     | EUR      | false        | Tea
        c       | 9     | EUR      | false        | Tea
        d       | 700   | JPY      | false        | Tea
        e       | 2     | EUR      | true         | Tea
        f       | 700   | JPY      | true         | Tea
        g       | 2     | EUR      | true         | Tea
        h       | 2     | EUR      | true         | Tea
        i       | -     | USD      | false        | Tea
        j       | -     | EUR      | false        | -
        k       | 5     | EUR      | false        | -
        """,
    )
