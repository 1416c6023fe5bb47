"""Quality: what the contracts promise, asked of the tables by Great Expectations inside DuckDB.

A contract says a fact once: required columns, keys, closed lists and bounds become checks here and are not repeated as
rules. Only counts come back, never a value: results are kept without samples, and what an exception says is dropped.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import duckdb

from tasks import contracts, drift, owners
from tasks.contracts import Check, Contract, Layer, Severity
from tasks.errors import BlockedError, ConfigurationError
from tasks.findings import CheckReport, Finding
from tasks.settings import Run

SCHEMAS: dict[Layer, str] = {"landing": "history", "features": "features", "marts": "marts"}
"""Where the night's database keeps the tables of a layer."""

WRITTEN_AFTERWARDS = {"quality_checks"}
"""The table that these checks fill cannot be among the checked."""

# Verdicts first, at half the price; then counts of what failed. No format that holds samples of values.
VERDICTS_ONLY = {"result_format": "BOOLEAN_ONLY"}
COUNTS_ONLY = {"result_format": "SUMMARY", "partial_unexpected_count": 0}

# Great Expectations runs a suite's own relation bare only to learn its columns: its rows are not fetched.
BARE = re.compile(r'SELECT \* FROM \w+\."\w+"\s*')

# How a rule of ours asks for the rows that break it. They are samples of data and nobody reads them; to find them takes
# as long as to count them, which Great Expectations does besides.
SAMPLED = re.compile(r"SELECT 1 FROM\b.*", re.DOTALL)

# How a rule asks for what is there more than once; `repeated` says how it is asked.
REPEATED = re.compile(r"SELECT 1 FROM \{batch\} GROUP BY (?P<same>[^()]+) HAVING count\(\*\) > 1")

ROWS = "unexpected_rows_expectation"


def check(con: duckdb.DuckDBPyConnection, run: Run, layer: Layer) -> CheckReport:
    """Every contract of `layer` against its table; for landing also volume, freshness, drift and references.

    Raises:
        BlockedError: not every check of a contract ran, so that nobody can say whether it holds.
    """
    findings: list[Finding] = []
    with _source(con) as source:
        held = con.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = ?", [SCHEMAS[layer]])
        present = {str(name) for (name,) in held.fetchall()}
        for contract in contracts.all_of(layer):
            if contract.name in present:
                findings += _validate(con, source, contract)
            elif contract.name not in WRITTEN_AFTERWARDS:
                findings.append(Finding(layer, contract.name, "table_exists", "error", passed=False, ran=False))
        if layer == "landing" and {"events", "items"} <= present:
            findings += [
                Finding(layer, "events", name, "warning", figure.passed, figure.value, figure.rows)
                for name, figure in drift.watch(con, run).items()
            ]
    return CheckReport(tuple(sorted(findings, key=lambda f: (f.table, f.check))))


def warm_up() -> None:
    """Import Great Expectations, so that the first check need not wait for it."""
    _great_expectations()


def repeated(relation: str, same: str) -> str:
    """SQL from FROM on for a group of each thing that is there more than once: rows that share the columns `same`.

    Rows that are the same have the same hash, a number, by which they are found in a third of the time; which of those
    found are the same their columns say.
    """
    suspects = f"SELECT hash({same}) FROM {relation} GROUP BY 1 HAVING count(*) > 1"
    return f"FROM {relation} WHERE hash({same}) IN ({suspects}) GROUP BY {same} HAVING count(*) > 1"


def rules(contract: Contract) -> tuple[Check, ...]:
    """The checks of one contract: what follows from its columns and key, then its own rules.

    Raises:
        ConfigurationError: two checks have one name.
    """
    derived = []
    for column in contract.columns:
        of = {"column": column.name}
        if column.required:
            derived.append(Check(f"{column.name}_is_given", "error", "expect_column_values_to_not_be_null", of))
        if column.one_of:
            values = of | {"value_set": list(column.one_of)}
            derived.append(Check(f"{column.name}_is_listed", "error", "expect_column_values_to_be_in_set", values))
        if column.minimum is not None or column.maximum is not None:
            bounds = of | {"min_value": column.minimum, "max_value": column.maximum}
            derived.append(Check(f"{column.name}_is_in_bounds", "error", "expect_column_values_to_be_between", bounds))
    # NaN and infinity are greater than every minimum: the bounds alone would let them pass.
    floats = [f'NOT isfinite("{c.name}")' for c in contract.columns if c.type.upper() in {"DOUBLE", "FLOAT", "REAL"}]
    if floats:
        query = f"SELECT 1 FROM {{batch}} WHERE {' OR '.join(floats)}"
        derived.append(Check("numbers_are_finite", "error", ROWS, {"unexpected_rows_query": query}))
    # GROUP BY takes two NULLs for equal, as the key of anonymous events needs it.
    key = ", ".join(_identity(contract))
    query = f"SELECT 1 FROM {{batch}} GROUP BY {key} HAVING count(*) > 1"
    derived.append(Check("key_is_unique", "error", ROWS, {"unexpected_rows_query": query}))
    found = (*derived, *contract.checks)
    if len({c.name for c in found}) < len(found):
        raise ConfigurationError(f"expectations/{contract.layer}/{contract.name}.yaml: two checks have one name")
    return found


def _validate(con: duckdb.DuckDBPyConnection, source: Any, contract: Contract) -> list[Finding]:
    """One suite over one relation; a check that raises is an error, whatever its severity."""
    relation = f'{SCHEMAS[contract.layer]}."{contract.name}"'
    compiled = rules(contract)
    try:
        asset = source.add_query_asset(contract.name, query=f"SELECT * FROM {relation}")  # as BARE expects it
        batch = asset.add_batch_definition_whole_table("as of the cut").get_batch()
        results = _ask(batch, contract, compiled, VERDICTS_ONLY)
        failed = [rule for rule in compiled if not results[rule.name].success]
        results |= _ask(batch, contract, failed, COUNTS_ONLY) if failed else {}
        counted = con.execute(f"SELECT count(*) FROM {relation}").fetchone()
    except _great_expectations()[1]:
        raise BlockedError(f"{relation}: its checks cannot run; compare the table with its contract") from None
    rows = counted[0] if counted else 0
    findings = []
    for rule in compiled:
        ran = not _raised((result := results[rule.name]).exception_info)
        failing = result.result.get("observed_value" if rule.type == ROWS else "unexpected_count")
        share = failing / rows if failing is not None and rows else None
        severity: Severity = rule.severity if ran else "error"
        passed = ran and bool(result.success)
        findings.append(Finding(contract.layer, contract.name, rule.name, severity, passed, share, rows, ran))
    return findings


def _ask(batch: Any, contract: Contract, compiled: Sequence[Check], detail: Mapping[str, object]) -> dict[str, Any]:
    gx, _ = _great_expectations()
    suite = gx.ExpectationSuite(contract.name, expectations=[_expectation(rule) for rule in compiled])
    return account(contract, compiled, batch.validate(suite, result_format=dict(detail)).results)


def account(contract: Contract, compiled: Sequence[Check], results: Sequence[Any]) -> dict[str, Any]:
    """Great Expectations' results by check.

    Raises:
        BlockedError: what ran is not exactly what was compiled, or nothing was. An empty suite would pass.
    """
    ran = {r.expectation_config.meta["check"]: r for r in results}
    if not compiled or len(results) != len(compiled) or ran.keys() != {c.name for c in compiled}:
        raise BlockedError(
            f"{contract.layer}.{contract.name}: {len(results)} of {len(compiled)} checks ran; nothing is published "
            "on checks that did not run"
        )
    return ran


def _raised(info: Mapping[str, Any]) -> bool:
    """Whether the expectation raised; its own account is flat, or one entry per metric."""
    entries = [info] if "raised_exception" in info else [v for v in info.values() if isinstance(v, Mapping)]
    return any(entry.get("raised_exception") for entry in entries)


def _identity(contract: Contract) -> list[str]:
    """SQL for what no two rows share: the key; of a landing table also whose the row is, and, where versions are kept,
    where it landed.
    """
    if contract.layer != "landing":
        return [f'"{name}"' for name in contract.key]
    versions = [] if contract.delivery == "append" else ["landed_on", "landed_file", "landed_row"]
    return [*owners.identity(contract), *versions]


def _expectation(rule: Check) -> Any:
    from great_expectations.expectations.registry import get_expectation_impl

    kwargs = dict(rule.kwargs)
    if rule.type == ROWS:
        quick = REPEATED.sub(
            lambda rule: f"SELECT 1 {repeated('{batch}', rule['same'])}", kwargs["unexpected_rows_query"]
        )
        kwargs["unexpected_rows_query"] = quick
    return get_expectation_impl(rule.type)(**kwargs, meta={"check": rule.name})


@cache
def _great_expectations() -> tuple[Any, tuple[type[Exception], ...]]:
    """The library and what it raises; imported at the first check, because it takes seconds."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read at import
    import great_expectations as gx
    from great_expectations.exceptions.exceptions import GreatExpectationsError
    from sqlalchemy.exc import SQLAlchemyError

    # It would tell of each temporary folder, and sets its own level when imported.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)
    return gx, (GreatExpectationsError, SQLAlchemyError, duckdb.Error)


@contextmanager
def _source(con: duckdb.DuckDBPyConnection) -> Iterator[Any]:
    """Great Expectations' view of our own connection: nothing kept on disk."""
    gx, _ = _great_expectations()
    from duckdb_engine import ConnectionWrapper
    from sqlalchemy import event
    from sqlalchemy.engine.cursor import FullyBufferedCursorFetchStrategy
    from sqlalchemy.pool import StaticPool

    def unsampled(_con: Any, _cursor: Any, sql: str, parameters: Any, _execution: Any, _many: Any) -> tuple[str, Any]:
        return (f"SELECT * FROM ({sql}) LIMIT 0" if SAMPLED.fullmatch(sql) else sql), parameters

    def buffer(_con: Any, cursor: Any, sql: str, _parameters: Any, execution: Any, _many: Any) -> None:
        # Great Expectations reads rows after it gave the connection back, when DuckDB has dropped them.
        if cursor.description:
            rows = [] if BARE.fullmatch(sql) else cursor.fetchall()
            execution.cursor_fetch_strategy = FullyBufferedCursorFetchStrategy(cursor, initial_buffer=rows)

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    # Nothing of it is kept, yet with every table all of it would be written as YAML, twice.
    setattr(context.variables, "save", lambda: None)  # noqa: B010  (mypy knows its true type)
    source = context.data_sources.add_sql(
        "night",
        connection_string="duckdb:///:memory:",
        # Every connection that the pool asks for is a cursor of the one that is open already.
        kwargs={"creator": lambda: ConnectionWrapper(con.cursor()), "poolclass": StaticPool},
        create_temp_table=False,
    )
    engine = source.get_execution_engine().engine
    event.listen(engine, "before_cursor_execute", unsampled, retval=True)
    event.listen(engine, "after_cursor_execute", buffer)
    try:
        yield source
    finally:
        engine.dispose()
