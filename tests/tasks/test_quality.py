"""The promises of the checks: each severity takes its path, nothing unchecked passes, and no value ever comes out."""

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from tasks import contracts, findings, quality
from tasks.contracts import Check, Column, Contract, Layer
from tasks.errors import BlockedError, ConfigurationError
from tasks.findings import CheckReport, Finding
from tasks.settings import Run
from tests.tasks.checked import event, failed

CANARY = "canary-4711"

ROWS_COUNTED = Check("some_rows", "warning", "expect_table_row_count_to_be_between", {"min_value": 1})
ONLY_CHEAP = Check(
    "only_cheap", "warning", quality.ROWS, {"unexpected_rows_query": "SELECT 1 FROM {batch} WHERE price > 100"}
)


def column(name: str, kind: str = "VARCHAR", **given: Any) -> Column:
    facts: dict[str, Any] = {"required": False, "key": None, "one_of": (), "minimum": None, "maximum": None}
    return Column(name=name, type=kind, description=name, classification="catalogue", **(facts | given))


OFFERS = (
    column("shop_id", key=1),
    column("offer_id", required=True, key=2),
    column("state", one_of=("open", "closed")),
    column("price", "DOUBLE", minimum=0, maximum=1000),
)


def contract(*columns: Column, checks: tuple[Check, ...] = (), layer: Layer = "features") -> Contract:
    return Contract(
        layer=layer,
        name="offers",
        version="1.0.0",
        description="Offers.",
        grain="one offer",
        columns=columns,
        checks=checks,
        properties={"subject": "none"},
        fingerprint="",
    )


@pytest.fixture
def check_offers(
    con: duckdb.DuckDBPyConnection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CheckReport]:
    def check(rows: str, *checks: Check) -> CheckReport:
        law = contract(*OFFERS, checks=checks)
        monkeypatch.setattr(contracts, "all_of", lambda _layer: (law,))
        con.execute("DROP TABLE IF EXISTS features.offers")
        con.execute(law.ddl("features.offers"))
        con.execute(f"INSERT INTO features.offers {rows}")
        return quality.check(con, run, "features")

    return check


GOOD = "VALUES ('s', 'a', 'open', 1.0), ('s', 'b', 'closed', 1000.0), (NULL, 'a', NULL, NULL)"


def test_a_table_that_keeps_its_contract_passes_every_check_in_silence(
    check_offers: Callable[..., CheckReport], capfd: pytest.CaptureFixture[str]
) -> None:
    # when the same offer id stands once in a shop and once without a shop
    report = check_offers(GOOD, ROWS_COUNTED, Check("twin", "error", ROWS_COUNTED.type, {"max_value": 3}))

    # then nothing fails, and what ran is what the columns and the rules say
    assert failed(report) == {}
    assert [f.check for f in report.findings] == [
        "key_is_unique",
        "numbers_are_finite",
        "offer_id_is_given",
        "price_is_in_bounds",
        "some_rows",
        "state_is_listed",
        "twin",
    ]
    assert {f.rows for f in report.findings} == {3}
    report.raise_for_errors("features")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("row", "failing"),
    [
        ("('t', NULL, 'open', 1.0)", {"offer_id_is_given": "error"}),
        ("('t', 'a', 'lost', 1.0)", {"state_is_listed": "error"}),
        ("('t', 'a', 'open', -1.0)", {"price_is_in_bounds": "error"}),
        ("('t', 'a', 'open', 1001.0)", {"price_is_in_bounds": "error", "only_cheap": "warning"}),
        ("('t', 'a', 'open', 101.0)", {"only_cheap": "warning"}),
        ("('s', 'a', 'open', 1.0)", {"key_is_unique": "error"}),
        ("(NULL, 'a', 'open', 1.0)", {"key_is_unique": "error"}),
    ],
)
def test_each_broken_promise_fails_its_own_check(
    check_offers: Callable[..., CheckReport], row: str, failing: dict[str, str]
) -> None:
    # given a good table, when one bad row joins it
    report = check_offers(f"VALUES ('s', 'a', 'open', 1.0), (NULL, 'a', 'open', 1.0), {row}", ONLY_CHEAP)

    # then exactly its checks fail, with one row in three
    assert failed(report) == failing
    assert {f.observed for f in report.findings} == {None, 1 / 3}


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_none_are_caught(check_offers: Callable[..., CheckReport], number: str) -> None:
    report = check_offers(f"VALUES ('s', 'a', 'open', '{number}'::DOUBLE)")

    assert failed(report)["numbers_are_finite"] == "error"


def test_an_error_stops_and_names_table_and_check_while_a_warning_is_only_reported(
    check_offers: Callable[..., CheckReport],
) -> None:
    # given a failing warning, then the run goes on and the summary counts it
    warned = check_offers("VALUES ('s', 'a', 'open', 101.0)", ONLY_CHEAP)
    warned.raise_for_errors("features")
    assert findings.summarize([warned]) == {
        "ran": 6,
        "errors": 0,
        "warnings": 1,
        "failed": {"errors": [], "warnings": ["features.offers: only_cheap"]},
    }

    # given failing errors, then the first is named and the others are counted
    broken = CheckReport(
        tuple(Finding("features", "offers", name, "error", passed=False) for name in ("a_is_given", "b_is_given"))
    )
    with pytest.raises(BlockedError, match=r"^features: features\.offers: a_is_given failed and 1 more; "):
        broken.raise_for_errors("features")


def test_a_check_that_raises_is_an_error_whatever_its_severity(check_offers: Callable[..., CheckReport]) -> None:
    # given a warning on a column that does not exist
    misspelt = Check("misspelt", "warning", quality.ROWS, {"unexpected_rows_query": "SELECT nope FROM {batch}"})

    # then it fails as an error and the others are judged all the same
    assert failed(check_offers(GOOD, misspelt)) == {"misspelt": "error"}


def test_no_value_of_a_failing_row_comes_out(
    check_offers: Callable[..., CheckReport], caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # given a row whose every text is a canary, that breaks a check of each kind, one of which raises with the value
    caplog.set_level(logging.DEBUG)
    cast = "SELECT CAST(shop_id AS INTEGER) FROM {batch} WHERE CAST(shop_id AS INTEGER) > 0"
    raising = Check("raising", "warning", quality.ROWS, {"unexpected_rows_query": cast})
    rows = f"SELECT '{CANARY}', '{CANARY}', '{CANARY}', 'nan' FROM range(2)"

    # when it is checked
    report = check_offers(rows, raising, ONLY_CHEAP)

    # then the checks did fail, and the canary is neither in the findings, nor the exception, the log or the output
    assert {"raising", "key_is_unique", "state_is_listed", "numbers_are_finite"} <= failed(report).keys()
    with pytest.raises(BlockedError) as stopped:
        report.raise_for_errors("features")
    spoken = "".join(capfd.readouterr()) + caplog.text + "".join(str(r.__dict__) for r in caplog.records)
    assert CANARY not in f"{report} {stopped.value!r} {spoken}"


def test_a_relation_that_cannot_be_read_fails_every_check_without_its_values(
    con: duckdb.DuckDBPyConnection,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given a table that turns out to be a view whose reading raises with a value in the message
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(contracts, "all_of", lambda _layer: (contract(*OFFERS),))
    con.execute(f"CREATE VIEW features.offers AS SELECT error('{CANARY}') AS offer_id, 1 AS shop_id")

    # when it is checked, then nothing passes
    report = quality.check(con, run, "features")
    assert set(failed(report).values()) == {"error"}
    assert not any(f.passed or f.ran for f in report.findings)
    with pytest.raises(BlockedError, match=r"\(could not run\)") as stopped:
        report.raise_for_errors("features")
    assert CANARY not in f"{report} {stopped.value!r} {caplog.text}"


def test_a_silently_empty_suite_blocks(
    check_offers: Callable[..., CheckReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    # given a Great Expectations that forgets what it is told
    import great_expectations as gx

    whole = gx.ExpectationSuite
    monkeypatch.setattr(gx, "ExpectationSuite", lambda name, expectations: whole(name))

    with pytest.raises(BlockedError, match="0 of 5 checks ran"):
        check_offers(GOOD)


def test_a_check_may_look_at_many_distinct_values(check_offers: Callable[..., CheckReport]) -> None:
    # given a rule that makes Great Expectations fetch thousands of values, the last of which breaks it
    known = [f"a{n}" for n in range(3000)]
    listed = Check("listed", "error", "expect_column_distinct_values_to_be_in_set",
                   {"column": "offer_id", "value_set": known})  # fmt: skip

    rows = "SELECT 's', 'a' || n, 'open', 1.0 FROM range({}) t(n)"
    assert failed(check_offers(rows.format(3000), listed)) == {}
    assert failed(check_offers(rows.format(3001), listed)) == {"listed": "error"}


@pytest.mark.parametrize(
    ("compiled", "ran"), [([], []), (["a"], []), (["a", "b"], ["a"]), (["a", "b"], ["a", "c"]), (["a"], ["a", "a"])]
)
def test_what_ran_must_be_what_was_compiled(compiled: list[str], ran: list[str]) -> None:
    checks = [Check(name, "warning", "any", {}) for name in compiled]
    results = [SimpleNamespace(expectation_config=SimpleNamespace(meta={"check": name})) for name in ran]

    with pytest.raises(BlockedError, match=f"{len(ran)} of {len(compiled)} checks ran"):
        quality.account(contract(*OFFERS), checks, results)


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="two checks have one name"):
        quality.rules(contract(*OFFERS, checks=(Check("key_is_unique", "warning", quality.ROWS, {}),)))


def test_an_empty_table_is_judged_by_its_row_count_rules_alone(check_offers: Callable[..., CheckReport]) -> None:
    assert failed(check_offers("SELECT * FROM features.offers", ROWS_COUNTED, ONLY_CHEAP)) == {"some_rows": "warning"}


def test_a_table_that_was_not_built_is_an_error(
    con: duckdb.DuckDBPyConnection, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "all_of", lambda _layer: (contract(*OFFERS),))

    assert failed(quality.check(con, run, "features")) == {"table_exists": "error"}


def test_every_contract_compiles_to_checks_that_great_expectations_knows() -> None:
    laws = [law for layer in quality.SCHEMAS for law in contracts.all_of(layer)]

    assert len(laws) >= 5
    for law in laws:
        assert "key_is_unique" in {rule.name for rule in quality.rules(law)}
        for rule in quality.rules(law):
            quality._expectation(rule)


def test_whatever_must_be_there_once_is_looked_for_by_its_hash() -> None:
    every = [rule for layer in quality.SCHEMAS for law in contracts.all_of(layer) for rule in quality.rules(law)]
    asked = [rule.kwargs["unexpected_rows_query"] for rule in every if rule.type == quality.ROWS]
    once = [query for query in asked if query.endswith("HAVING count(*) > 1")]

    assert len(once) > len(quality.SCHEMAS)
    assert [query for query in once if not quality.REPEATED.fullmatch(query)] == []


def test_landed_tables_keep_versions_and_anonymous_events(
    landed: Callable[..., None], run: Run, con: duckdb.DuckDBPyConnection
) -> None:
    # given two versions of an item, and one event id used by a person and by an anonymous visitor
    landed("items", "SELECT 'i' AS item_id, 't' AS title, TIMESTAMPTZ '2011-11-09' AS landed_on, 'f' AS landed_file, "
           "n AS landed_row FROM range(2) t(n)")  # fmt: skip
    landed("events", event("e", "NULL", "2011-11-10") + " UNION ALL BY NAME " + event("e", "'u'", "2011-11-10"))

    # then nothing fails
    assert failed(quality.check(con, run, "landing")) == {}

    # but when the anonymous one stands twice, the key does
    landed("events", event("e", "NULL", "2011-11-10"))
    assert failed(quality.check(con, run, "landing")) == {"key_is_unique": "error"}


def test_no_events_at_all_is_a_warning_and_never_a_stop(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, run: Run
) -> None:
    report = quality.check(con, run, "landing")

    assert failed(report) == {"some_events": "warning"}
    report.raise_for_errors("landing")


def test_checks_leave_nothing_behind_in_the_database(
    check_offers: Callable[..., CheckReport], con: duckdb.DuckDBPyConnection
) -> None:
    check_offers(GOOD)

    assert con.execute("SELECT table_name FROM information_schema.tables").fetchall() == [("offers",)]
