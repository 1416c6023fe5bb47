"""The promises of the checks: each severity takes its path, nothing unchecked passes, and no value ever comes out."""

import logging
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks import contracts, drift, lake, quality, settings
from tasks.contracts import Check, Column, Contract, Layer
from tasks.errors import BlockedError, ConfigurationError
from tasks.quality import CheckReport, Finding
from tasks.settings import Config, Run

CANARY = "canary-4711"
CUT = datetime(2011, 11, 11, tzinfo=UTC)

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
def run(tmp_path: Path) -> Run:
    empty = tmp_path / "tailorbird.toml"
    empty.touch()
    return settings.open_run(landing=str(tmp_path), lake=tmp_path, as_of="2011-11-10", config=empty)


@pytest.fixture
def db(tmp_path: Path) -> Path:
    return tmp_path / "night.duckdb"


@pytest.fixture
def con(db: Path, run: Run) -> Iterator[duckdb.DuckDBPyConnection]:
    """The night's database, held open by somebody else while it is checked."""
    with lake.connect(db, run.config) as connection:
        connection.execute("CREATE SCHEMA history; CREATE SCHEMA features; CREATE SCHEMA marts")
        yield connection


@pytest.fixture
def check_offers(
    con: duckdb.DuckDBPyConnection, db: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., CheckReport]:
    def check(rows: str, *checks: Check) -> CheckReport:
        law = contract(*OFFERS, checks=checks)
        monkeypatch.setattr(contracts, "all_of", lambda _layer: (law,))
        con.execute("DROP TABLE IF EXISTS features.offers")
        con.execute(law.ddl("features.offers"))
        con.execute(f"INSERT INTO features.offers {rows}")
        return quality.check(db, run, "features")

    return check


@pytest.fixture
def landed(con: duckdb.DuckDBPyConnection) -> Callable[..., None]:
    """`history.*` as ingest leaves it, filled with what the test needs."""
    for law in contracts.all_of("landing"):
        con.execute(law.ddl(f"history.{law.name}"))
        for name, kind in lake.HISTORY_COLUMNS.items():
            con.execute(f'ALTER TABLE history.{law.name} ADD COLUMN "{name}" {kind}')

    def land(table: str, rows: str) -> None:
        con.execute(f"INSERT INTO history.{table} BY NAME {rows}")

    return land


def failed(report: CheckReport) -> dict[str, str]:
    return {f.check: f.severity for f in report.findings if not f.passed}


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
    assert quality.summarize([warned]) == {
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
    db: Path,
    run: Run,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    # given a table that turns out to be a view whose reading raises with a value in the message
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(contracts, "all_of", lambda _layer: (contract(*OFFERS),))
    con.execute(f"CREATE VIEW features.offers AS SELECT error('{CANARY}') AS offer_id, 1 AS shop_id")

    # when it is checked, then nothing passes
    report = quality.check(db, run, "features")
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
    con: duckdb.DuckDBPyConnection, db: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contracts, "all_of", lambda _layer: (contract(*OFFERS),))

    assert failed(quality.check(db, run, "features")) == {"table_exists": "error"}


def test_every_contract_compiles_to_checks_that_great_expectations_knows() -> None:
    laws = [law for layer in quality.SCHEMAS for law in contracts.all_of(layer)]

    assert len(laws) >= 5
    for law in laws:
        assert "key_is_unique" in {rule.name for rule in quality.rules(law)}
        for rule in quality.rules(law):
            quality._expectation(rule)


def test_landed_tables_keep_versions_and_anonymous_events(
    landed: Callable[..., None], db: Path, run: Run, con: duckdb.DuckDBPyConnection
) -> None:
    # given two versions of an item, and one event id used by a person and by an anonymous visitor
    landed("items", "SELECT 'i' AS item_id, 't' AS title, TIMESTAMPTZ '2011-11-09' AS landed_on, 'f' AS landed_file, "
           "n AS landed_row FROM range(2) t(n)")  # fmt: skip
    landed("events", event("e", "NULL", "2011-11-10") + " UNION ALL BY NAME " + event("e", "'u'", "2011-11-10"))

    # then nothing fails
    assert failed(quality.check(db, run, "landing")) == {}

    # but when the anonymous one stands twice, the key does
    landed("events", event("e", "NULL", "2011-11-10"))
    assert failed(quality.check(db, run, "landing")) == {"key_is_unique": "error"}


def test_no_events_at_all_is_a_warning_and_never_a_stop(landed: Callable[..., None], db: Path, run: Run) -> None:
    report = quality.check(db, run, "landing")

    assert failed(report) == {"some_events": "warning"}
    report.raise_for_errors("landing")


def event(name: str, user: str, day: str, *, item: str = "i", device: str = "phone", copies: int = 1) -> str:
    """`copies` views at noon of `day`, landed at its end."""
    return (
        f"SELECT '{name}' || CASE WHEN n > 0 THEN n::VARCHAR ELSE '' END AS event_id, {user} AS user_id, "
        f"'view' AS event_type, '{item}' AS item_id, '{device}' AS device, "
        f"TIMESTAMPTZ '{day} 12:00+00' AS occurred_at, "
        f"TIMESTAMPTZ '{day} 00:00+00' + INTERVAL 1 DAY AS landed_on FROM range({copies}) t(n)"
    )


@pytest.mark.parametrize(
    ("landings", "ratio", "passed"),
    [
        ({}, None, True),
        ({0: 5}, None, True),
        ({0: 6, 7: 2, 14: 2}, 3.0, True),
        ({0: 7, 7: 2, 14: 2}, 3.5, False),
        ({0: 1, 7: 3}, 1 / 3, True),
        ({0: 1, 7: 4}, 1 / 4, False),
        # Other weekdays, a fifth week and a closed day say nothing about an ordinary day.
        ({0: 2, 1: 99, 6: 99, 7: 1, 28: 3, 35: 99}, 1.0, True),
    ],
)
def test_volume_compares_the_newest_day_with_its_weekday(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, landings: dict[int, int], ratio: float, passed: bool
) -> None:
    for ago, rows in landings.items():
        landed("events", event(f"e{ago}-", "'u'", f"{CUT - timedelta(days=ago + 1):%Y-%m-%d}", copies=rows))

    figure = drift.volume(con, CUT, "UTC", 3.0)

    assert (figure.value, figure.passed) == (ratio, passed)


@pytest.mark.parametrize(("day", "days", "passed"), [("2011-11-08", 2.5, True), ("2011-11-06", 4.5, False)])
def test_freshness_is_the_age_of_the_newest_event_before_the_cut(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, day: str, days: float, passed: bool
) -> None:
    # given an event of that day, an older one, and one of the future, which does not count
    for moment in (day, "2011-10-01", "2011-11-12"):
        landed("events", event(moment, "'u'", moment))

    figure = drift.staleness(con, CUT, 3)

    assert (figure.value, figure.rows, figure.passed) == (days, 2, passed)


@pytest.mark.parametrize(("strangers", "passed"), [(1, True), (2, False)])
def test_references_are_the_share_of_events_whose_item_is_known(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, strangers: int, passed: bool
) -> None:
    # given nine or so events about a known item, some about an unknown one, one about none
    landed("items", "SELECT 'i' AS item_id FROM range(2)")
    landed("events", event("e", "'u'", "2011-11-10", copies=9))
    landed("events", event("x", "'u'", "2011-11-10", item="gone", copies=strangers))
    landed("events", "SELECT 'n' AS event_id, TIMESTAMPTZ '2011-11-10' AS occurred_at")

    figure = drift.known_references(con, CUT, 0.9)

    assert (figure.value, figure.rows, figure.passed) == (9 / (9 + strangers), 9 + strangers, passed)


def test_stability_index_by_hand() -> None:
    # given shares 1/2, 1/2 against 3/4, 1/4: -1/4 ln(2/3) + 1/4 ln 2 = 1/4 ln 3
    assert drift.stability_index({"a": 50, "b": 50}, {"a": 75, "b": 25}) == pytest.approx(math.log(3) / 4)
    # given one world, there is none; given a value that is new, it counts as 1 in 10,000 before
    assert drift.stability_index({"a": 5, None: 5}, {"a": 50, None: 50}) == 0
    new = -0.5 * math.log(0.5) + (0.5 - 1e-4) * math.log(0.5 / 1e-4)
    assert drift.stability_index({"a": 1, "b": 1}, {"a": 1}) == pytest.approx(new)


MIX = st.dictionaries(st.sampled_from("abcde"), st.integers(1, 10**6), min_size=1)


@given(one=MIX, other=MIX)
def test_stability_index_is_a_distance(one: dict[object, int], other: dict[object, int]) -> None:
    index = drift.stability_index(one, other)

    assert 0 <= index < 100
    assert index == pytest.approx(drift.stability_index(other, one))
    assert drift.stability_index(one, {kind: 3 * n for kind, n in one.items()}) == 0


@pytest.mark.parametrize(("copies", "passed"), [(200, False), (2, True)])
def test_a_changed_mix_is_drift_unless_there_are_too_few_events_to_tell(
    landed: Callable[..., None], con: duckdb.DuckDBPyConnection, copies: int, passed: bool
) -> None:
    # given half phones last week, a quarter in the four weeks before, and another world before those
    for day, device, n in [("2011-11-09", "phone", 2), ("2011-11-09", "web", 2), ("2011-10-20", "phone", 1),
                           ("2011-10-20", "web", 3), ("2011-09-01", "fax", 99)]:  # fmt: skip
        landed("events", event(f"{day}{device}", "'u'", day, device=device, copies=n * copies))

    figure = drift.shift(con, CUT, "device", 0.25)

    assert figure.value == pytest.approx(math.log(3) / 4)
    assert (figure.rows, figure.passed) == (8 * copies, passed)


def test_what_watches_the_history_only_warns(landed: Callable[..., None], db: Path, run: Run) -> None:
    # given a history in which volume, freshness, references and the mix of devices are all off
    landed("events", event("old", "'u'", "2011-10-26", device="fax", copies=400))
    landed("events", event("new", "'u'", "2011-11-05", item="gone", copies=50))
    landed("events", event("week", "'u'", "2011-10-29", copies=2))

    report = quality.check(db, run, "landing")

    assert failed(report) == dict.fromkeys(
        ["device_is_stable", "events_are_fresh", "items_are_known", "volume_is_ordinary"], "warning"
    )
    report.raise_for_errors("landing")


def ledger_row(table: str = "events", landing: str = "2011-11-10", **given: Any) -> dict[str, Any]:
    counts = {"rows_in": 0, "accepted": 0, "quarantined": 0, "duplicates": 0, "suppressed": 0, "reasons": {}}
    return {"table": table, "landing": landing, "file": CANARY, "status": "accepted"} | counts | given


@pytest.mark.parametrize(
    ("rows", "failing"),
    [
        ([], {}),
        ([ledger_row(rows_in=100, accepted=95, quarantined=5)], {}),
        ([ledger_row(rows_in=100, accepted=94, quarantined=6)], {"few_rows_quarantined": "error"}),
        ([ledger_row(rows_in=10, quarantined=10)], {"few_rows_quarantined": "error"}),
        # The share is of the table, not of one file.
        ([ledger_row(rows_in=10, quarantined=10), ledger_row(rows_in=190, accepted=190)], {}),
        ([ledger_row("users", rows_in=10, quarantined=10)], {"few_rows_quarantined": "warning"}),
        (
            [ledger_row(status="rejected"), ledger_row(rows_in=1, accepted=1)],
            {"no_file_rejected": "warning"},
        ),
        (
            [ledger_row(status="rejected"), ledger_row(landing="2011-11-09", rows_in=1, accepted=1)],
            {"no_file_rejected": "warning", "no_landing_lost": "error"},
        ),
        ([ledger_row("users", status="rejected")], {"no_file_rejected": "warning"}),
        # Of a rejected file nothing is counted, so its numbers may be missing.
        (
            [ledger_row(status="rejected", rows_in=None, accepted=None, quarantined=None)],
            {"no_file_rejected": "warning", "no_landing_lost": "error"},
        ),
    ],
)
def test_the_ledger_is_judged_per_required_table(run: Run, rows: list[dict[str, Any]], failing: dict[str, str]) -> None:
    report = quality.judge_ingest(rows, {"events", "items"}, run.config)

    assert failed(report) == failing
    assert CANARY not in repr(report)


def test_the_share_that_may_be_quarantined_is_configured(run: Run) -> None:
    rows = [ledger_row(rows_in=10, accepted=5, quarantined=5)]
    lenient = run.config.model_copy(
        update={"gates": run.config.gates.model_copy(update={"max_quarantined_share": 0.5})}
    )
    assert isinstance(lenient, Config)

    assert failed(quality.judge_ingest(rows, {"events"}, run.config)) == {"few_rows_quarantined": "error"}
    assert failed(quality.judge_ingest(rows, {"events"}, lenient)) == {}


def test_quality_checks_are_written_in_key_order_and_keep_their_own_contract(
    con: duckdb.DuckDBPyConnection, db: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # given two reports, not in order
    late = CheckReport((Finding("marts", "t", "b", "warning", passed=False, observed=0.5, rows=2),))
    early = CheckReport((Finding("landing", "t", "a", "error", passed=True, rows=3),))

    # when they are written
    assert quality.write(con, [late, early]) == 2

    # then they stand in the order of their key, as their contract says
    assert con.execute("FROM marts.quality_checks").fetchall() == [
        ("landing", "t", "a", "error", True, None, 3),
        ("marts", "t", "b", "warning", False, 0.5, 2),
    ]
    monkeypatch.setattr(contracts, "all_of", lambda layer: (contracts.load(layer, "quality_checks"),))
    assert len(quality.check(db, run, "marts").findings) > 5
    assert failed(quality.check(db, run, "marts")) == {}


def test_checks_leave_nothing_behind_in_the_database(
    check_offers: Callable[..., CheckReport], con: duckdb.DuckDBPyConnection
) -> None:
    check_offers(GOOD)

    assert con.execute("SELECT table_name FROM information_schema.tables").fetchall() == [("offers",)]
