"""Contracts: one Open Data Contract Standard v3.1 file is the law of one table.

Everything that is said about a table in two places is derived here from one: DDL and comments, the parser's types,
the checks, the data dictionary and the map of personal data.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

import yaml
from open_data_contract_standard.model import (
    CustomProperty,
    DataQuality,
    OpenDataContractStandard,
    SchemaProperty,
)

from tasks.errors import ConfigurationError

Layer = Literal["landing", "features", "marts"]
Severity = Literal["error", "warning"]

# Ten times as quick as the one in Python: whoever reads thirty contracts starts half a second sooner.
LOADER: type[yaml.SafeLoader | yaml.CSafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

# Without all of these nobody could say where a person's data lives, for how long, and how it goes.
PRIVACY_PROPERTIES = ("subject", "purpose", "retention", "erase", "prove")


@dataclass(frozen=True)
class Column:
    name: str
    type: str
    """DuckDB type, as in DDL."""
    description: str
    classification: str
    required: bool
    key: int | None
    """Position in the primary key, from 1."""
    one_of: tuple[str, ...]
    """The closed list of values, or nothing."""
    minimum: float | None
    maximum: float | None

    @property
    def opaque(self) -> bool:
        """Whether the column names something, so that a single lost or hidden character would name something else."""
        return self.type == "VARCHAR" and (
            self.classification in ("identifier", "pseudonymous") or self.name.endswith("_id")
        )


@dataclass(frozen=True)
class Check:
    """One expectation: the name, how bad a failure is, and Great Expectations' own words."""

    name: str
    severity: Severity
    type: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class Contract:
    layer: Layer
    name: str
    version: str
    description: str
    grain: str
    columns: tuple[Column, ...]
    checks: tuple[Check, ...]
    properties: dict[str, Any]
    fingerprint: str
    """sha256 of the file: another contract makes another table."""

    @property
    def key(self) -> tuple[str, ...]:
        keyed = sorted((c.key, c.name) for c in self.columns if c.key is not None)
        return tuple(name for _, name in keyed)

    @property
    def subject(self) -> str | None:
        """The column that names a person, if the table holds people."""
        return None if self.properties["subject"] == "none" else str(self.properties["subject"])

    @property
    def delivery(self) -> str:
        return str(self.properties.get("delivery", "none"))

    @property
    def hashed(self) -> bool:
        """Whether its rows are part of a publication's content hash; all but what looks back at publications are."""
        return bool(self.properties.get("hashed", True))

    @property
    def required(self) -> bool:
        """Whether the nightly job can do without the table."""
        return bool(self.properties.get("required", False))

    def column(self, name: str) -> Column:
        return next(c for c in self.columns if c.name == name)

    def ddl(self, table: str) -> str:
        """`CREATE TABLE` for this contract under the name `table`."""
        body = ", ".join(f'"{c.name}" {c.type}' for c in self.columns)
        return f"CREATE TABLE {table} ({body})"

    def comments(self, relation: str, *, kind: str = "TABLE") -> list[str]:
        """`COMMENT ON` statements for the relation and each of its columns."""
        return [f"COMMENT ON {kind} {relation} IS {quote(self.description + ' Grain: ' + self.grain + '.')}"] + [
            f'COMMENT ON COLUMN {relation}."{c.name}" IS {quote(c.description)}' for c in self.columns
        ]


def quote(text: str) -> str:
    """`text` as an SQL string literal."""
    return "'" + text.replace("'", "''") + "'"


@cache
def load(layer: Layer, name: str) -> Contract:
    """The contract of one table.

    Raises:
        ConfigurationError: there is none, or it is not complete.
    """
    file = resources.files("expectations") / layer / f"{name}.yaml"
    if not file.is_file():
        raise ConfigurationError(f"{layer}.{name} has no contract: write expectations/{layer}/{name}.yaml")
    text = file.read_text(encoding="utf-8")
    try:
        document = OpenDataContractStandard(**yaml.load(text, LOADER))  # noqa: S506 # both are safe
        return _compile(layer, document, hashlib.sha256(text.encode()).hexdigest())
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise ConfigurationError(f"expectations/{layer}/{name}.yaml is not a complete contract: {problem}") from None


@cache
def names(layer: Layer) -> tuple[str, ...]:
    """The tables of a layer that have a contract, in name order."""
    folder = resources.files("expectations") / layer
    return tuple(sorted(f.name.removesuffix(".yaml") for f in folder.iterdir() if f.name.endswith(".yaml")))


def all_of(layer: Layer) -> tuple[Contract, ...]:
    return tuple(load(layer, name) for name in names(layer))


def _compile(layer: Layer, document: OpenDataContractStandard, fingerprint: str) -> Contract:
    (table,) = document.schema_ or []
    properties = _custom(document.customProperties)
    missing = [p for p in PRIVACY_PROPERTIES if not properties.get(p)]
    if missing:
        raise ValueError(f"customProperties lack {', '.join(missing)}")
    columns = tuple(_column(c) for c in table.properties or [])
    if not any(c.key for c in columns):
        raise ValueError("no column is a primaryKey")
    if properties["subject"] != "none" and properties["subject"] not in {c.name for c in columns}:
        raise ValueError("the subject is not a column")
    checks = tuple(_check(rule) for rule in table.quality or [])
    return Contract(
        layer=layer,
        name=_given(document.name, "a name"),
        version=_given(document.version, "a version"),
        description=_given(document.description.purpose if document.description else None, "description.purpose"),
        grain=_given(table.dataGranularityDescription, "dataGranularityDescription"),
        columns=columns,
        checks=checks,
        properties=properties,
        fingerprint=fingerprint,
    )


def _check(rule: DataQuality) -> Check:
    name = _given(rule.name, "a rule's name")
    if not isinstance(rule.implementation, dict):
        raise TypeError(f"rule {name}: implementation is not {{type, kwargs}}")
    return Check(
        name,
        "error" if rule.severity == "error" else "warning",
        rule.implementation["type"],
        dict(rule.implementation["kwargs"]),
    )


def _column(column: SchemaProperty) -> Column:
    name = _given(column.name, "a column's name")
    options = column.logicalTypeOptions or {}
    return Column(
        name=name,
        type=_given(column.physicalType, f"physicalType of {name}"),
        description=_given(column.description, f"description of {name}"),
        classification=_given(column.classification, f"classification of {name}"),
        required=bool(column.required),
        key=column.primaryKeyPosition if column.primaryKey else None,
        one_of=tuple(str(v) for v in _custom(column.customProperties).get("one_of", ())),
        minimum=options.get("minimum"),
        maximum=options.get("maximum"),
    )


def _custom(properties: list[CustomProperty] | None) -> dict[str, Any]:
    return {str(p.property): p.value for p in properties or []}


def _given(value: str | None, what: str) -> str:
    if not value:
        raise ValueError(f"{what} is missing")
    return value
