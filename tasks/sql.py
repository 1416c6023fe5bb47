"""One SELECT per file under `sql/<layer>/` becomes one table, in the order that the SQL itself implies.

A SELECT that orders its rows is kept as a table. One that does not is only ever summed, and is a view: writing all
events down a second time costs more than reading them again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import resources

import duckdb
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from tasks import contracts
from tasks.contracts import quote
from tasks.errors import ConfigurationError, TailorbirdError

# Data flows this way only; a file that reads from a layer to its right is a mistake.
LAYERS = ("history", "staging", "features", "marts")

MACROS = (resources.files("sql") / "macros.sql").read_text(encoding="utf-8")
"""What files of several layers call by name."""

# These quote our own SQL, never a row: what they say helps and harms nobody.
_SAYS_NO_VALUE = (duckdb.CatalogException, duckdb.ParserException)


def build(
    con: duckdb.DuckDBPyConnection, layer: str, params: Mapping[str, object], only: Collection[str] | None = None
) -> dict[str, int]:
    """Create `<layer>.<name>` for each `sql/<layer>/<name>.sql`; `only` these and what they read within the layer.

    Returns:
        Rows per table, in the order in which they were built.

    Raises:
        ConfigurationError: the files of the layer do not fit together, or a parameter is not given.
        TailorbirdError: DuckDB refused a statement.
    """
    wanted = _with_inputs(layer, only) if only is not None else None
    return {name: build_one(con, layer, name, params) for name in order(layer) if wanted is None or name in wanted}


def build_one(con: duckdb.DuckDBPyConnection, layer: str, name: str, params: Mapping[str, object]) -> int:
    """Create `<layer>.<name>` in the current catalogue, rows in the order of the file's ORDER BY; returns the rows.

    Raises:
        ConfigurationError: there is no such file, it is not one statement, a parameter is not given, or a view asks for
            one that has no literal.
        TailorbirdError: DuckDB refused the statement. Its own words may quote a person's data and are not passed on.
    """
    select = text(layer, name)
    try:
        statements = con.extract_statements(select)
        if len(statements) != 1:
            raise ConfigurationError(f"sql/{layer}/{name}.sql must hold exactly one SELECT")
        statement = statements[0]
        missing = sorted(statement.named_parameters - params.keys())
        if missing:
            raise ConfigurationError(f"sql/{layer}/{name}.sql needs a value for ${', $'.join(missing)}")
        given = {key: params[key] for key in statement.named_parameters}
        con.execute(MACROS)
        con.execute(f'CREATE SCHEMA IF NOT EXISTS "{layer}"')
        if ordered(layer, name):
            con.execute(f'CREATE OR REPLACE TABLE "{layer}"."{name}" AS {statement.query}', given)
        else:
            con.execute(f'CREATE OR REPLACE VIEW "{layer}"."{name}" AS {_spelled_out(statement.query, given)}')
        # fetchall, not fetchone: a result that is not read to its end occupies the connection.
        ((rows,),) = con.execute(f'SELECT count(*) FROM "{layer}"."{name}"').fetchall()
    except duckdb.Error as problem:
        said = f": {str(problem).splitlines()[0]}" if isinstance(problem, _SAYS_NO_VALUE) else ""
        raise TailorbirdError(f"{layer}.{name}: DuckDB stopped with {type(problem).__name__}{said}") from None
    return int(rows)


@cache
def order(layer: str) -> tuple[str, ...]:
    """The tables of a layer, each after those that it reads; otherwise by name.

    Raises:
        ConfigurationError: they read each other in a circle, or one reads a table of ours that nobody makes.
    """
    sorter = TopologicalSorter({name: sorted(inputs(layer, name)) for name in names(layer)})
    try:
        sorter.prepare()
    except CycleError as problem:
        raise ConfigurationError(f"sql/{layer}: tables read each other: {' ← '.join(problem.args[1])}") from None
    ordered: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())
        ordered += ready
        sorter.done(*ready)
    return tuple(ordered)


@cache
def names(layer: str) -> tuple[str, ...]:
    """The tables that `sql/<layer>/` defines, by name."""
    folder = resources.files("sql") / layer
    if not folder.is_dir():
        raise ConfigurationError(f"sql/{layer}: no such layer")
    return tuple(sorted(f.name.removesuffix(".sql") for f in folder.iterdir() if f.name.endswith(".sql")))


@cache
def inputs(layer: str, name: str) -> frozenset[str]:
    """The tables of the same layer that a file reads.

    Raises:
        ConfigurationError: the file is no SQL, or reads a table of ours that nobody makes or that is made later.
    """
    read = {(table.db, table.name) for table in _tree(layer, name).find_all(exp.Table) if table.db in LAYERS}
    for schema, table in sorted(read):
        if LAYERS.index(schema) > LAYERS.index(layer) or table not in _known(schema):
            raise ConfigurationError(f"sql/{layer}/{name}.sql reads {schema}.{table}, which nobody has made by then")
    return frozenset(table for schema, table in read if schema == layer)


def _known(schema: str) -> frozenset[str]:
    return frozenset(contracts.names("landing") if schema == "history" else names(schema))


def _with_inputs(layer: str, only: Collection[str]) -> set[str]:
    unknown = sorted(set(only) - set(names(layer)))
    if unknown:
        raise ConfigurationError(f"sql/{layer} has no {', '.join(unknown)}")
    wanted: set[str] = set()
    waiting = list(only)
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting += inputs(layer, name)
    return wanted


def _spelled_out(select: str, given: Mapping[str, object]) -> str:
    """The SELECT with its parameters as literals: a view can bind none."""
    literals = {key: _literal(value) for key, value in given.items()}
    return re.sub(r"\$(\w+)", lambda found: literals.get(found[1], found[0]), select)


def _literal(value: object) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ {quote(value.astimezone(UTC).isoformat())}"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, bool | int):
        return str(value).lower()
    raise ConfigurationError(f"a view takes no parameter that is a {type(value).__name__}; order its rows")


@cache
def ordered(layer: str, name: str) -> bool:
    """Whether a file orders its rows, and so is kept as a table."""
    return _tree(layer, name).args.get("order") is not None


def _tree(layer: str, name: str) -> exp.Expr:
    try:
        return sqlglot.parse_one(text(layer, name), dialect="duckdb")
    except SqlglotError:
        raise ConfigurationError(f"sql/{layer}/{name}.sql cannot be read as SQL") from None


@cache
def text(layer: str, name: str) -> str:
    """The SELECT of one file, as written."""
    file = resources.files("sql") / layer / f"{name}.sql"
    if not file.is_file():
        raise ConfigurationError(f"sql/{layer}/{name}.sql: no such file")
    return file.read_text(encoding="utf-8")
