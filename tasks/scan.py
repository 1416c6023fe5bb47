"""Scan: is there any trace of these people, anywhere? Counts hits per place and never says whose.

Raw and unpacked bytes are searched for an id in every encoding that a tool may have left it in, Parquet also value by
value and in its statistics, because packed columns hide what they hold. Ids under 12 characters occur by chance: they
are compared as whole values of columns and fields that can name a person.
"""

from __future__ import annotations

import csv
import glob
import io
import json
import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import duckdb
import polars as pl

from tasks import contracts, needles, places, tombstones
from tasks.needles import Files
from tasks.suppression import BETWEEN, tokens

VERSION = "1"
LONG = 12
"""Characters from which an id does not occur by chance."""
AT_ONCE = 1000
"""Parquet files of one query."""
LAYERS: tuple[contracts.Layer, ...] = ("landing", "marts")
NAMING = ("identifier", "pseudonymous", "free_text")
BETWEEN_SQL = contracts.quote(BETWEEN.pattern)
PREFIX = 8
"""Bytes of a value that a DuckDB zone map keeps."""


def scan(landing_root: Path, lake: Path, ids: Iterable[str], others: Sequence[tuple[str, Path]] = (),
         *, with_ledger: bool = True) -> dict[str, int]:  # fmt: skip
    """Place → hits, for every place that was looked at, also those without any.

    Args:
        landing_root: folder of the landed files.
        lake: folder of the lake; its ledger is found beside it.
        ids: of people.
        with_ledger: also where an open request still names its person.
        others: (place, folder) of what else may remember: Prefect's home, temporary folders.
    """
    wanted = _wanted(ids)
    found: Counter[str] = Counter()
    ledger = [("ledger", tombstones.folder_of(lake))] if with_ledger else []
    roots = [("landing", landing_root), ("lake", lake), *ledger, *others]
    with duckdb.connect(":memory:") as con:
        con.execute("CREATE TABLE people AS SELECT unnest($people::VARCHAR[]) AS id", {"people": list(wanted.people)})
        for root, folder in roots:
            there = sorted(f for f in folder.rglob("*") if f.is_file() and not f.is_symlink())
            files = [(places.of(root, file.relative_to(folder)), file) for file in there]
            found.update(dict.fromkeys([root, *(place for place, _ in files)], 0))
            found.update(examine(con, files, wanted))
    return dict(sorted(found.items()))


def present(found: dict[str, int]) -> bool:
    """Whether people were found wherever they should be: in landing, and in the lake for each table they landed in."""
    landed = [place.split("/")[-1] for place, hits in found.items() if place.startswith("landing/") and hits]
    stored = {p.split("/")[-1] for p, hits in found.items() if p.startswith(("history/", "quarantine/")) and hits}
    return bool(landed) and set(landed) <= stored


@dataclass(frozen=True)
class Wanted:
    """Whom a scan looks for, made ready once for all files."""

    people: frozenset[str]
    pattern: str
    """Of any of the long ids; nothing if there is none."""
    long: frozenset[bytes]
    """Every form of those."""
    cut: frozenset[bytes]
    """What a zone map keeps of them."""
    short: frozenset[str]


def _wanted(ids: Iterable[str]) -> Wanted:
    people = frozenset(ids)
    long = sorted(name for name in people if len(name) >= LONG)
    return Wanted(
        people,
        "|".join(re.escape(name) for name in long),
        frozenset(form for name in long for form in needles.forms(name).values()),
        frozenset(name.encode()[:PREFIX] for name in long),
        people - frozenset(long),
    )


def examine(con: duckdb.DuckDBPyConnection, files: Sequence[tuple[str, Path]], wanted: Wanted) -> Counter[str]:
    """Place → hits in its files.

    Args:
        con: with the table `people` (id).
        files: each with its place, whose last part is the table.
        wanted: the same people.
    """
    zoned, parquet, others = list[tuple[str, Path]](), list[tuple[str, Path]](), list[tuple[str, Path]]()
    for place, file in files:
        kind = {".duckdb": zoned, ".parquet": parquet}.get(file.suffix, others)
        kind.append((place, file))
    found = needles.search(parquet + others, wanted.long)
    found.update(needles.search(zoned, wanted.long | wanted.cut))
    found.update(_decoded(con, parquet, wanted))
    for place, file in others:
        found[place] += _short(file, wanted.short, _table(place))
    return found


def _decoded(con: duckdb.DuckDBPyConnection, files: Files, wanted: Wanted) -> Counter[str]:
    """Place → rows and statistics of Parquet files that hold an id; files with the same columns are read together."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    found: Counter[str] = Counter()
    alike = defaultdict[tuple[str, tuple[tuple[str, str], ...]], list[Path]](list)
    for place, file in files:
        try:
            footer = pq.ParquetFile(file)
        except (OSError, pa.ArrowException):
            continue
        with footer:
            columns = tuple((column.name, str(column.type)) for column in footer.schema_arrow)
            alike[place, columns].append(file)
            found[place] += _told(footer.metadata, _naming(_table(place)), wanted.people)
    for (place, columns), paths in alike.items():
        condition = _names([name for name, _ in columns], _naming(_table(place)), wanted)
        query = f"SELECT count(*) FROM read_parquet($paths, hive_partitioning = false) WHERE {condition}"
        given = {"people": list(wanted.people), "long": wanted.pattern}
        used: dict[str, object] = {name: value for name, value in given.items() if f"${name}" in query}
        for start in range(0, len(paths), AT_ONCE):
            used["paths"] = [glob.escape(str(path)) for path in paths[start : start + AT_ONCE]]
            ((rows,),) = con.execute(query, used).fetchall()
            found[place] += rows
    return found


def _told(footer: Any, naming: Set[str], people: Set[str]) -> int:
    """Ids that statistics tell, of columns that can name a person."""
    hits = 0
    for group in range(footer.num_row_groups):
        for index in range(footer.num_columns):
            column = footer.row_group(group).column(index)
            told = column.statistics
            if column.path_in_schema in naming and told is not None and told.has_min_max:
                hits += len({str(told.min), str(told.max)} & people)
    return hits


def _names(columns: Sequence[str], naming: Set[str], wanted: Wanted) -> str:
    """SQL for whether a row names one of `people`, `$people` or `$long`."""
    texts = {name: f"CAST({_quoted(name)} AS VARCHAR)" for name in columns}
    conditions = [f"{texts[name]} IN (FROM people)" for name in columns if name in naming]
    if {"record", "subject"} <= texts.keys():
        # What could not be read may name anybody; what could be has its subject.
        conditions.append(f"(subject IS NULL AND list_has_any($people, string_split_regex(record, {BETWEEN_SQL})))")
    if wanted.pattern:
        conditions.append(f"regexp_matches(concat_ws(chr(10), {', '.join(texts.values())}), $long)")
    return " OR ".join(f"coalesce({condition}, false)" for condition in conditions) or "false"


def _short(file: Path, people: Set[str], table: str) -> int:
    """Fields of a text, a JSON document or an SQLite database that are a short id."""
    if not people:
        return 0
    if file.suffix == ".sqlite" or file.name.endswith(".db"):
        return _sqlite(file, people)
    name = file.name.removesuffix(".gz")
    if not name.endswith((".csv", ".json", ".jsonl")):
        return 0
    *_, unpacked = (b"".join(blocks) for blocks in needles.layers(file))
    text = unpacked.decode("utf-8", "replace")
    if name.endswith(".json"):
        try:
            return sum(value in people for value in _strings(json.loads(text)))
        except ValueError:
            return bool(tokens(text) & people)
    naming = _naming(table)
    return _csv(text, people, naming) if name.endswith(".csv") else _jsonl(text, people, naming)


def _csv(text: str, people: Set[str], naming: set[str]) -> int:
    lines = pl.Series(text.splitlines(), dtype=pl.String)
    header = next(csv.reader(lines[:1]), [])
    places = [i for i, name in enumerate(header) if name in naming]
    hits = 0
    # Few lines hold an id at all, however it is quoted: only those are read as CSV.
    written = sorted(people | {name.replace('"', '""') for name in people})
    for line in lines[1:].filter(lines[1:].str.contains_any(written)):
        cells = next(csv.reader(io.StringIO(line)), [])
        if len(cells) == len(header) and places:
            hits += any(cells[i] in people for i in places)
        else:
            hits += bool(tokens(line) & people)
    return hits


def _jsonl(text: str, people: Set[str], naming: set[str]) -> int:
    hits = 0
    for line in text.splitlines():
        try:
            record = json.loads(line)
            hits += any(str(record.get(name)) in people for name in naming)
        except (ValueError, AttributeError):
            hits += bool(tokens(line) & people)
    return hits


def _sqlite(file: Path, people: Set[str]) -> int:
    hits = 0
    db = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for row in db.execute(f'SELECT * FROM "{table}"'):
                hits += any(str(value) in people for value in row)
    except sqlite3.DatabaseError:
        return hits
    finally:
        db.close()
    return hits


def _strings(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            yield from _strings(value)
    elif isinstance(content, list):
        for value in content:
            yield from _strings(value)
    elif isinstance(content, str):
        yield content


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _table(place: str) -> str:
    return place.rsplit("/", 1)[-1]


@cache
def _naming(table: str) -> set[str]:
    """The columns of a table that can name a person."""
    for layer in LAYERS:
        if table in contracts.names(layer):
            law = contracts.load(layer, table)
            return {c.name for c in law.columns if c.classification in NAMING} | {"subject"}
    return {"user_id", "subject"}
