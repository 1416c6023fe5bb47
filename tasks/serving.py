"""The serving file of one publication: a small DuckDB file of views over that publication's Parquet, and nothing else.

A view names its files by absolute path, so whoever opened the file reads one whole publication however often the
pointer moves meanwhile. The manifest says everything that the file says: a moved lake needs no contract to be mended.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from importlib import resources
from pathlib import Path
from typing import Any

import duckdb

from tasks.contracts import quote
from tasks.errors import ConfigurationError
from tasks.lake import sha256, sync_folder

NAME = "serving.duckdb"

# Older readers than the writer are the rule among BI tools: DuckDB 1.3 and later open this version.
STORAGE_VERSION = "v1.0.0"

# What every view carries besides the columns of its table.
STAMPS = {
    "publication_id": "The publication that the row is part of",
    "as_of": "The day, or instant, as of which the publication was made",
}


def ratio_views() -> dict[str, str]:
    """`sql/marts/views/*.sql`: ratios formed from the published sums, by view name; their tables bear no schema."""
    folder = resources.files("sql") / "marts" / "views"
    if not folder.is_dir():
        return {}
    found = sorted((f for f in folder.iterdir() if f.name.endswith(".sql")), key=lambda f: f.name)
    return {f.name.removesuffix(".sql"): f.read_text(encoding="utf-8") for f in found}


def write(folder: Path) -> None:
    """Write the serving file of the publication in `folder`, which must be where it will stay.

    Raises:
        ConfigurationError: a view asks for a table or column that is not published.
    """
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    fresh = folder / f".{NAME}.{secrets.token_hex(4)}"
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"ATTACH {quote(str(fresh))} AS serving (STORAGE_VERSION '{STORAGE_VERSION}')")
            connection.execute("USE serving")
            for statement in _statements(folder, manifest):
                connection.execute(statement)
            connection.execute("USE memory")
            connection.execute("DETACH serving")
        settle(fresh)
        fresh.replace(folder / NAME)
    except (duckdb.CatalogException, duckdb.BinderException, duckdb.ParserException) as problem:
        raise ConfigurationError(f"{folder.name}: its views cannot be made: {_first_line(problem)}") from None
    finally:
        for leftover in folder.glob(f".{NAME}.*"):
            leftover.unlink()
    sync_folder(folder)


def fits(folder: Path) -> bool:
    """Whether the serving file is there, opens, and says what this folder's manifest says of this folder's files."""
    file = folder / NAME
    if not file.is_file():
        return False
    told = (str(folder.absolute()), sha256(folder / "manifest.json"))
    try:
        with duckdb.connect(str(file), read_only=True) as connection:
            return connection.execute("SELECT folder, manifest_sha256 FROM publication").fetchall() == [told]
    except duckdb.Error:
        return False


def relation(folder: Path, table: dict[str, Any]) -> str:
    """One table of the manifest of the publication in `folder`, as a relation that SQL can read."""
    files = ", ".join(_literal(folder / file["path"]) for file in table["files"])
    # Without hive_partitioning = false the folder `bucket=007` would become a column.
    return f"read_parquet([{files}], hive_partitioning = false)"


def _statements(folder: Path, manifest: dict[str, Any]) -> list[str]:
    tables: dict[str, dict[str, Any]] = manifest["tables"]
    statements = [_publication(folder, manifest)]
    for name, table in tables.items():
        statements += _table_view(folder, manifest, name, table)
    if {"recommendations", "default_recommendations"} <= tables.keys():
        statements.append(_fallback(tables))
    for name, sql in manifest["views"].items():
        statements.append(f'CREATE VIEW "{name}" AS {sql}')
        statements.append(f'COMMENT ON VIEW "{name}" IS {quote(_opening_comment(sql))}')
    return statements


def _publication(folder: Path, manifest: dict[str, Any]) -> str:
    facts = {
        "publication_id": quote(manifest["publication"]),
        "as_of": quote(manifest["as_of"]),
        "cut": f"TIMESTAMPTZ {quote(manifest['cut'])}",
        "content_hash": quote(manifest["content_hash"]),
        "folder": quote(str(folder.absolute())),
        "manifest_sha256": quote(sha256(folder / "manifest.json")),
    }
    return "CREATE VIEW publication AS SELECT " + ", ".join(f"{value} AS {name}" for name, value in facts.items())


def _table_view(folder: Path, manifest: dict[str, Any], name: str, table: dict[str, Any]) -> list[str]:
    stamps = f"{quote(manifest['publication'])} AS publication_id, {quote(manifest['as_of'])} AS as_of"
    described = {column["name"]: column["description"] for column in table["columns"]} | STAMPS
    return [
        f'CREATE VIEW "{name}" AS SELECT *, {stamps} FROM {relation(folder, table)}',
        f'COMMENT ON VIEW "{name}" IS {quote(table["description"])}',
        *(f'COMMENT ON COLUMN "{name}"."{column}" IS {quote(text)}' for column, text in described.items()),
    ]


def _fallback(tables: dict[str, dict[str, Any]]) -> str:
    """`recommendations_for(person, place)`: the person's list for a placement, or else the one for everybody, without
    what the person muted.

    The parameters are not called `user_id` and `placement`: a macro's parameter hides a column of the same name.
    """
    types = {column["name"]: column["type"] for column in tables["recommendations"]["columns"]}
    types |= dict.fromkeys(STAMPS, "VARCHAR")
    shared = {column["name"] for column in tables["default_recommendations"]["columns"]} | STAMPS.keys()
    personal = ", ".join(f'"{c}"' for c in types)
    default = ", ".join(
        'CAST(person AS VARCHAR) AS "user_id"' if c == "user_id"
        else f'"{c}"' if c in shared
        else f'CAST(NULL AS {kind}) AS "{c}"'
        for c, kind in types.items()
    )  # fmt: skip
    own = "FROM recommendations WHERE user_id = person AND placement = place"
    shown = "FROM default_recommendations WHERE placement = place AND segment = 'all'"
    if "muted_items" in tables:
        shown += " AND item_id NOT IN (SELECT item_id FROM muted_items WHERE user_id = person)"
        closed_up = "CAST(row_number() OVER (PARTITION BY context ORDER BY position) AS INTEGER) AS position"
        shown = f"FROM (SELECT * REPLACE ({closed_up}) {shown})"
    return (
        f"CREATE MACRO recommendations_for(person, place) AS TABLE SELECT * FROM (SELECT {personal} {own} "
        f"UNION ALL SELECT {default} {shown} "
        f"{'WHERE' if 'muted_items' in tables else 'AND'} NOT EXISTS ({own})) ORDER BY context, position"
    )


def _literal(path: Path) -> str:
    """The path as a literal that `read_parquet` takes word for word: a folder may be called `lake[1]`."""
    return quote(re.sub(r"([\[*?])", r"[\1]", str(path.absolute())))


def _opening_comment(sql: str) -> str:
    lines = []
    for line in sql.splitlines():
        if not line.startswith("--"):
            break
        lines.append(line.removeprefix("--").strip())
    return " ".join(lines)


def _first_line(problem: Exception) -> str:
    return str(problem).partition("\n")[0]


def settle(file: Path) -> None:
    """Make the file durable, and read-only: nothing writes to a publication."""
    file.chmod(0o444)
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
