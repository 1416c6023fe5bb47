"""Cleaning one row by itself: the contract's rules as SQL, each change counted, each fill flagged.

Text as delivered → standardized text → typed → fixed → filled. What cannot become its type is a fault: the row goes to
quarantine, no value is silently coerced.
"""

from __future__ import annotations

from functools import cache

import duckdb
import pycountry

from tasks.contracts import Column, Contract, quote
from tasks.errors import ConfigurationError

# Zero-width and direction marks, soft hyphen, byte order mark, control characters: no eye can tell two such ids apart.
INVISIBLE = r"[\x{00AD}\x{200B}-\x{200F}\x{202A}-\x{202E}\x{2060}-\x{206F}\x{FEFF}\p{Cc}]"
SPACE = r"[\s\p{Z}]+"
NUMBER = r"[+-]?\d{1,30}(\.\d{1,30})?"
TIME = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?( ?(Z|UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?))?)?"
ZONED = r"\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)? ?(Z|UTC|[+-](0\d|1[0-4])(:?[0-5]\d)?)"
"""A TIME that says from which zone it is."""
MICROSECONDS_A_DAY = 86_400_000_000
BOOLEANS = {"true": ("true", "t", "yes", "y", "1"), "false": ("false", "f", "no", "n", "0")}
EARLIEST_BIRTH_YEAR = 1900  # nobody alive was born before it

# Names in daily use that ISO 3166 does not list.
COUNTRY_ALIASES = {"UK": "GB", "ENGLAND": "GB", "SCOTLAND": "GB", "WALES": "GB", "GREAT BRITAIN": "GB", "HOLLAND": "NL"}

# A line break or a tab parts words, so spaces are made before what nobody sees is taken out.
TIDIED = (
    f"trim(nfc_normalize(regexp_replace(regexp_replace(regexp_replace({{c}}, '{SPACE}', ' ', 'g'), "
    f"'{INVISIBLE}', '', 'g'), ' +', ' ', 'g')))"
)
# ASCII words with one space between them stay as they are, which is cheaper to see than to do.
TEXT = f"CASE WHEN regexp_full_match({{c}}, '[!-~]+( [!-~]+)*') THEN {{c}} ELSE {TIDIED} END"
STANDARDIZE = {
    "lower": "lower(trim({c}))",
    "upper": "upper(trim({c}))",
    "text": TEXT,
    "path": f"array_to_string(list_filter(list_transform(string_split_regex({TEXT}, '[>/]'),"
    " lambda part: trim(part)), lambda part: part <> ''), ' > ')",
    "country": "CASE WHEN {c} IS NOT NULL THEN coalesce({code}, 'ZZ') END",
    "language": "{code}",
}
CODES = {
    "country": ("ingest.countries", "upper(trim({c}))"),
    "language": ("ingest.languages", "lower(split_part(replace(trim({c}), '_', '-'), '-', 1))"),
}
"""Where a rule finds its `{code}`, and under which name. A join, because a subquery costs each row, and twice."""
FIX = {
    "negative_to_null": "CASE WHEN {c} >= 0 THEN {c} END",
    "impossible_year_to_null": f"CASE WHEN {{c}} BETWEEN {EARLIEST_BIRTH_YEAR} AND year(landed_on) THEN {{c}} END",
}
RULES = ("standardize", "fix", "fill")


def code_tables(connection: duckdb.DuckDBPyConnection) -> None:
    """`ingest.countries` and `ingest.languages`: every ISO name and code, upper and lower case, to its two letters."""
    for table, codes in (("countries", _countries()), ("languages", _languages())):
        connection.execute(
            f"CREATE OR REPLACE TABLE ingest.{table} AS SELECT unnest($names) AS name, unnest($codes) AS code",
            {"names": list(codes), "codes": list(codes.values())},
        )


@cache
def _countries() -> dict[str, str]:
    return {
        str(name).upper(): country.alpha_2
        for country in pycountry.countries
        for field in ("alpha_2", "alpha_3", "name", "official_name", "common_name")
        if (name := getattr(country, field, None))
    } | COUNTRY_ALIASES


@cache
def _languages() -> dict[str, str]:
    return {
        str(name).lower(): language.alpha_2
        for language in pycountry.languages
        if hasattr(language, "alpha_2")
        for field in ("alpha_2", "alpha_3", "bibliographic", "name")
        if (name := getattr(language, field, None))
    }


def select_clean(contract: Contract, raw: str, zone: str) -> str:
    """The SELECT that cleans `raw`, which is as `parse` numbers it: the contract's columns are text, without NUL.

    Columns of the result: file_no, row, landed_on, the contract's columns typed, `fault` (null, or the first reason for
    quarantine), and `changes`, of which `counted` reads which rules changed the row.
    """
    rules = {kind: _by_column(contract, kind) for kind in RULES}
    columns = contract.columns
    standardized = [f"{_standardized(c, rules['standardize'])} AS {_q('s', c)}" for c in columns]
    standardized += [
        f"regexp_full_match({_standardized(c, rules['standardize'])}, '{ZONED}') AS {_q('z', c)}"
        for c in columns
        if c.type == "TIMESTAMPTZ"
    ]
    typed = [f"{_typed(c, zone)} AS {_q('t', c)}" for c in columns]
    fixed = [
        f"{FIX[rule].replace('{c}', _q('t', c)) if (rule := rules['fix'].get(c.name)) else _q('t', c)} AS {_q('x', c)}"
        for c in columns
    ]
    final = [
        f'coalesce({_q("x", c)}, CAST({quote(str(fill))} AS {c.type})) AS "{c.name}"'
        if (fill := rules["fill"].get(c.name)) is not None
        else f'{_q("x", c)} AS "{c.name}"'
        for c in columns
    ]
    bits = (f"({condition})::BIGINT * {1 << bit}" for bit, condition in enumerate(_conditions(contract).values()))
    return f"""
        WITH standardized AS (SELECT raw.*, {", ".join(standardized)} FROM {raw} AS raw {_codes(contract)}),
        typed AS (SELECT *, {", ".join(typed)} FROM standardized),
        fixed AS (SELECT *, {", ".join(fixed)} FROM typed)
        SELECT file_no, row, landed_on, {", ".join(final)}, {_fault(contract)} AS fault,
        {" + ".join([*bits, "0::BIGINT"])} AS changes
        FROM fixed
    """


def counted(contract: Contract) -> dict[str, str]:
    """`<rule>:<column>` → the condition under which a cleaned row counts as changed by it."""
    return {name: f"changes & {1 << bit} <> 0" for bit, name in enumerate(_conditions(contract))}


def filled(contract: Contract) -> str:
    """SQL for the columns that cleaning filled, of a cleaned row."""
    flags = {name.removeprefix("fill:"): condition for name, condition in counted(contract).items()
             if name.startswith("fill:")}  # fmt: skip
    if not flags:
        return "[]::VARCHAR[]"
    named = ", ".join(f"CASE WHEN {condition} THEN {quote(column)} END" for column, condition in flags.items())
    # Few rows have any.
    return f"CASE WHEN {' OR '.join(flags.values())} THEN list_filter([{named}], lambda c: c IS NOT NULL) ELSE [] END"


def _conditions(contract: Contract) -> dict[str, str]:
    """As `counted`, of a row that is being cleaned."""
    found = {}
    for column in contract.columns:
        raw, standard = f'"{column.name}"', _q("s", column)
        if column.name in _by_column(contract, "standardize"):
            found[f"standardize:{column.name}"] = f"{standard} IS DISTINCT FROM {raw} AND nullif({raw}, '') IS NOT NULL"
        elif column.type.startswith("DECIMAL"):
            scale = column.type.rstrip(")").split(",")[1].strip()
            # Whether there are so many digits is cheaper to see than whether one of them is lost.
            found[f"standardize:{column.name}"] = (
                f"coalesce(CASE WHEN strlen({raw}) > strpos({raw}, '.') + {scale} "
                f"THEN regexp_matches({raw}, '\\.\\d{{{scale}}}\\d*[1-9]') END, false)"
            )
        elif column.type == "TIMESTAMPTZ":
            found[f"standardize:{column.name}"] = f"{raw} IS NOT NULL AND {_q('z', column)} IS NOT TRUE"
    for name in _by_column(contract, "fix"):
        typed, fixed = _q("t", contract.column(name)), _q("x", contract.column(name))
        found[f"fix:{name}"] = f"{fixed} IS DISTINCT FROM {typed}"
    for name in _by_column(contract, "fill"):
        found[f"fill:{name}"] = f"{_q('x', contract.column(name))} IS NULL"
    return found


def _by_column(contract: Contract, kind: str) -> dict[str, str]:
    """Column → rule, for one kind of rule of the contract's `cleaning`."""
    found = {}
    for rule in contract.properties.get("cleaning", []):
        if kind not in rule:
            if not set(rule) & set(RULES):
                raise ConfigurationError(f"{contract.layer}.{contract.name}: a cleaning rule names none of {RULES}")
            continue
        known = {"standardize": STANDARDIZE, "fix": FIX}.get(kind)
        if known is not None and rule[kind] not in known:
            raise ConfigurationError(f"{contract.layer}.{contract.name}: no {kind} rule is called {rule[kind]}")
        found.update(dict.fromkeys(rule["columns"], str(rule[kind])))
    return found


def _q(stage: str, column: Column) -> str:
    return f'"{stage}:{column.name}"'


def _text(column: Column) -> str:
    return f"nullif(\"{column.name}\", '')"


def _standardized(column: Column, rules: dict[str, str]) -> str:
    if column.name not in rules:
        return _text(column)
    rule = STANDARDIZE[rules[column.name]].replace("{c}", _text(column)).replace("{code}", _q("code", column))
    return f"nullif({rule}, '')"


def _codes(contract: Contract) -> str:
    """SQL that joins what the standardized columns are looked up in: a name is there once at most."""
    joins = []
    for name, rule in _by_column(contract, "standardize").items():
        if rule in CODES:
            column, (table, key) = contract.column(name), CODES[rule]
            known = f"{table} AS {_q('codes', column)} ({_q('known', column)}, {_q('code', column)})"
            joins.append(f"LEFT JOIN {known} ON {_q('known', column)} = {key.replace('{c}', _text(column))}")
    return " ".join(joins)


def _typed(column: Column, zone: str) -> str:
    text = _q("s", column)
    if column.type == "VARCHAR":
        return text
    if column.type == "TIMESTAMPTZ":
        # Of an hour that the clocks repeat, the second pass is meant; of one that they skip, nobody knows what.
        local, instant = f"TRY_CAST({text} AS TIMESTAMP)", f"timezone({quote(zone)}, TRY_CAST({text} AS TIMESTAMP))"
        return (
            f"CASE WHEN {_q('z', column)} THEN TRY_CAST({text} AS TIMESTAMPTZ) "
            f"WHEN NOT regexp_full_match({text}, '{TIME}') THEN NULL "
            f"WHEN timezone({quote(zone)}, {instant}) = {local} THEN {instant} END"
        )
    if column.type == "BOOLEAN":
        yes, no = (", ".join(quote(v) for v in BOOLEANS[k]) for k in ("true", "false"))
        return f"CASE WHEN lower({text}) IN ({yes}) THEN true WHEN lower({text}) IN ({no}) THEN false END"
    whole = r"[+-]?\d{1,19}(\.0+)?" if "INT" in column.type else NUMBER
    return f"CASE WHEN regexp_full_match({text}, '{whole}') THEN TRY_CAST({text} AS {column.type}) END"


def _fault(contract: Contract) -> str:
    """The first reason for which a row goes to quarantine, in column order."""
    cases = [("fault IS NOT NULL", "fault")]
    fills = _by_column(contract, "fill")
    occurred = contract.properties.get("occurred", {})
    for column in contract.columns:
        name, text, typed, fixed = column.name, *(_q(stage, column) for stage in ("s", "t", "x"))
        if column.type != "VARCHAR":
            cases.append((f"{text} IS NOT NULL AND {typed} IS NULL", quote(f"{name}_not_{_kind(column)}")))
        elif column.opaque:
            hidden = f"(control OR strlen({text}) <> length({text})) AND regexp_matches({text}, '{INVISIBLE}')"
            cases.append((hidden, quote(f"{name}_invisible_character")))
        if column.required and name not in fills:
            cases.append((f"{fixed} IS NULL", quote(f"{name}_missing")))
        if column.one_of:
            allowed = ", ".join(quote(v) for v in column.one_of)
            cases.append((f"{fixed} NOT IN ({allowed})", quote(f"{name}_unknown")))
        bounds = [f"{fixed} {sign} {bound}" for sign, bound in (("<", column.minimum), (">", column.maximum))
                  if bound is not None]  # fmt: skip
        if bounds:
            cases.append((" OR ".join(bounds), quote(f"{name}_out_of_range")))
        if occurred.get("column") == name:
            latest, earliest = occurred["latest_days_after_landing"], occurred["earliest_days_before_landing"]
            # In microseconds: the calendar of intervals takes ten times as long and says the same, in UTC.
            late, early = (f"epoch_us(landed_on) {d:+} * {MICROSECONDS_A_DAY}" for d in (latest, -earliest))
            cases.append((f"epoch_us({fixed}) > {late}", quote(f"{name}_in_the_future")))
            cases.append((f"epoch_us({fixed}) < {early}", quote(f"{name}_too_old")))
    return "CASE " + " ".join(f"WHEN {condition} THEN {reason}" for condition, reason in cases) + " END"


def _kind(column: Column) -> str:
    return {"TIMESTAMPTZ": "a_time", "BOOLEAN": "a_boolean"}.get(column.type, "a_number")
