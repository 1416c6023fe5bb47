"""Scan: is there any trace of these people, anywhere? Counts hits per place and never says whose.

Raw and unpacked bytes are searched for an id in every encoding that a tool may have left it in, Parquet also value by
value and in its statistics, because packed columns hide what they hold. Ids under 12 characters occur by chance: they
are compared as whole values of columns and fields that can name a person.
"""

from __future__ import annotations

import base64
import csv
import gzip
import hashlib
import io
import json
import re
import sqlite3
import struct
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import duckdb
import polars as pl

from tasks import contracts, places, tombstones
from tasks.suppression import BETWEEN, tokens

VERSION = "1"
LONG = 12
"""Characters from which an id does not occur by chance."""
BLOCK = 1 << 24
MANY = 32
"""Needles from which one pass for all of them is quicker than one for each."""
LAYERS: tuple[contracts.Layer, ...] = ("landing", "marts")
NAMING = ("identifier", "pseudonymous", "free_text")
BETWEEN_SQL = contracts.quote(BETWEEN.pattern)
PREFIX = 8
"""Bytes of a value that a DuckDB zone map keeps."""


def forms(name: str) -> dict[str, bytes]:
    """An id as tools write it."""
    raw = name.encode()
    found = {
        "text": raw,
        "utf16_le": name.encode("utf-16-le"),
        "utf16_be": name.encode("utf-16-be"),
        "hex": raw.hex().encode(),
        "hex_upper": raw.hex().upper().encode(),
        "url": quote(name, safe="").encode(),
        "json": json.dumps(name)[1:-1].encode(),
        **{kind: hashlib.new(kind, raw).hexdigest().encode() for kind in ("md5", "sha1", "sha256")},
    }
    for shift in range(3):
        # What stands before and after decides the first and the last letter; those between are the id's alone.
        packed = base64.b64encode(b"\0" * shift + raw)
        found[f"base64_{shift}"] = packed[-(-shift * 8 // 6) : len(b"\0" * shift + raw) * 8 // 6]
    if re.fullmatch(r"[1-9]\d{11,17}", name):
        found |= {"int64_le": struct.pack("<q", int(name)), "int64_be": struct.pack(">q", int(name))}
    return found


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
        for root, folder in roots:
            found[root] += 0
            for file in sorted(f for f in folder.rglob("*") if f.is_file() and not f.is_symlink()):
                place = places.of(root, file.relative_to(folder))
                found[place] += examine(con, file, wanted, place.split("/")[-1])
    return dict(sorted(found.items()))


def present(found: dict[str, int]) -> bool:
    """Whether people were found wherever they should be: in landing, and in the lake for each table they landed in."""
    landed = [place.split("/")[-1] for place, hits in found.items() if place.startswith("landing/") and hits]
    stored = {p.split("/")[-1] for p, hits in found.items() if p.startswith(("history/", "quarantine/")) and hits}
    return bool(landed) and set(landed) <= stored


@dataclass(frozen=True)
class Wanted:
    """Whom a scan looks for, made ready once for all files."""

    people: tuple[str, ...]
    """In order."""
    long: frozenset[bytes]
    """Every form of the long ids."""
    cut: frozenset[bytes]
    """What a zone map keeps of them."""
    short: frozenset[str]


def _wanted(ids: Iterable[str]) -> Wanted:
    people = tuple(sorted(set(ids)))
    long = [name for name in people if len(name) >= LONG]
    return Wanted(
        people,
        frozenset(form for name in long for form in forms(name).values()),
        frozenset(name.encode()[:PREFIX] for name in long),
        frozenset(people) - frozenset(long),
    )


def examine(con: duckdb.DuckDBPyConnection, file: Path, wanted: Wanted, table: str) -> int:
    """Hits in one file."""
    long = wanted.long | wanted.cut if file.suffix == ".duckdb" else wanted.long
    hits = sum(_count(blocks, long) for blocks in _layers(file)) if long else 0
    if file.suffix == ".parquet":
        return hits + _decoded(con, file, wanted.people, table)
    return hits + _short(file, wanted.short, table)


def _count(blocks: Iterator[bytes], needles: frozenset[bytes]) -> int:
    overlap = max(len(needle) for needle in needles) - 1
    hits, rest = 0, b""
    for block in blocks:
        window = rest + block
        rest, before = window[-overlap:], rest
        if len(needles) > MANY and not _holds_any(window, needles):
            continue
        hits += sum(window.count(needle) - before.count(needle) for needle in needles)
    return hits


def _holds_any(window: bytes, needles: frozenset[bytes]) -> bool:
    """All needles in one pass: each of a hundred people's encodings looked for by itself takes minutes per gigabyte."""
    return bool(pl.Series([window.decode("latin-1")]).str.contains_any(_patterns(needles)).item())


@lru_cache(maxsize=2)
def _patterns(needles: frozenset[bytes]) -> pl.Series:
    return pl.Series([[needle.decode("latin-1") for needle in sorted(needles)]])


def _layers(file: Path) -> Iterator[Iterator[bytes]]:
    """The file's bytes, and what they unpack to."""
    yield _blocks(file.open("rb"))  # whoever reads the blocks closes it
    if file.suffix == ".gz":
        yield _blocks(gzip.open(file))  # noqa: SIM115 # whoever reads the blocks closes it
    elif file.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(file) as archive:
            for member in archive.namelist():
                yield _blocks(archive.open(member))


def _blocks(handle: Any) -> Iterator[bytes]:
    with handle:
        try:
            while block := handle.read(BLOCK):
                yield block
        except (OSError, EOFError, zlib.error):
            return


def _decoded(con: duckdb.DuckDBPyConnection, file: Path, people: Sequence[str], table: str) -> int:
    """Rows and statistics of a Parquet file that hold an id."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.ParquetFile(file)
    except (OSError, pa.ArrowException):
        return 0
    naming, names, known = _naming(table), footer.schema_arrow.names, set(people)
    long = "|".join(re.escape(name) for name in people if len(name) >= LONG)
    texts = {name: f"CAST({_quoted(name)} AS VARCHAR)" for name in names}
    conditions = [f"list_contains($people, {texts[name]})" for name in names if name in naming]
    if "record" in names:
        # What could not be read may name anybody; what could be has its subject.
        conditions.append(f"(subject IS NULL AND list_has_any($people, string_split_regex(record, {BETWEEN_SQL})))")
    if long:
        conditions.append(f"regexp_matches(concat_ws(chr(10), {', '.join(texts.values())}), $long)")
    hits = 0
    if conditions:
        query = (
            "SELECT count(*) FROM read_parquet($path, hive_partitioning = false) "
            f"WHERE coalesce({' OR '.join(f'coalesce({c}, false)' for c in conditions)}, false)"
        )
        given: dict[str, object] = {"path": str(file).replace("[", "[[]"), "people": list(people), "long": long}
        used = {name: value for name, value in given.items() if f"${name}" in query}
        ((hits,),) = con.execute(query, used).fetchall()
    for group in range(footer.metadata.num_row_groups):
        for index in range(footer.metadata.num_columns):
            column = footer.metadata.row_group(group).column(index)
            told = column.statistics
            if column.path_in_schema in naming and told is not None and told.has_min_max:
                hits += len({str(told.min), str(told.max)} & known)
    return hits


def _short(file: Path, people: Set[str], table: str) -> int:
    """Fields of a text, a JSON document or an SQLite database that are a short id."""
    if not people:
        return 0
    if file.suffix == ".sqlite" or file.name.endswith(".db"):
        return _sqlite(file, people)
    name = file.name.removesuffix(".gz")
    if not name.endswith((".csv", ".json", ".jsonl")):
        return 0
    *_, unpacked = (b"".join(blocks) for blocks in _layers(file))
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


def _naming(table: str) -> set[str]:
    """The columns of a table that can name a person."""
    for layer in LAYERS:
        if table in contracts.names(layer):
            law = contracts.load(layer, table)
            return {c.name for c in law.columns if c.classification in NAMING} | {"subject"}
    return {"user_id", "subject"}
