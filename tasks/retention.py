"""Retention: how long the rows of each table are kept, in use and at all.

A contract says it in one of two ways: `N days`, counted from the instant that the row speaks of, or `N days after the
last event`, for what is told about somebody who does things: it goes when nothing else of them is left. Rows stop being
used some days before they go, so that any of these days can be run again to the same bytes, whenever rows went.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import duckdb

from tasks import contracts, shards
from tasks.contracts import Contract, quote
from tasks.errors import ConfigurationError
from tasks.settings import Config, Run

PERIOD = re.compile(r"(\d+) days( after the last event)?")
QUARANTINE_DAYS = 90
"""From landing: a quarter to find out what is wrong with a record and to deliver it again."""
MOST_IDLE = 0.25
"""Of the time for which a row is kept: what is kept briefly is still of use for most of it."""
OTHERS = ("free_text", "quarantine")
"""What a deployment may set besides tables."""


@dataclass(frozen=True)
class Rule:
    """How long a table's rows are kept."""

    days: int
    after_last_event: bool
    free_text_days: int | None
    """Of a row in which somebody wrote something."""


def rule_of(contract: Contract, config: Config) -> Rule | None:
    """The rule for one landing table; nothing for a table that names nobody.

    Raises:
        ConfigurationError: the contract says it in no way that can be kept, or the settings name no such table.
    """
    own = config.privacy.retention_days
    unknown = sorted(own.keys() - {*contracts.names("landing"), *OTHERS})
    if unknown:
        raise ConfigurationError(f"privacy.retention_days: there is no table {', '.join(unknown)}")
    if not contract.subject:
        return None
    said = PERIOD.fullmatch(str(contract.properties["retention"]))
    text = PERIOD.fullmatch(str(contract.properties.get("free_text_retention", "")))
    if said is None or (text is None) != (not _texts(contract)):
        raise ConfigurationError(
            f"landing.{contract.name}: retention is written 'N days' or 'N days after the last event', and a table "
            "with free_text columns has free_text_retention besides"
        )
    days = own.get(contract.name, int(said[1]))
    return Rule(days, said[2] is not None, min(days, own.get("free_text", int(text[1]))) if text else None)


def forget(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, int]:
    """Leave out of `history.*`, as opened, what is no longer used as of the run; returns rows per table."""
    old = conditions(con, run, used=True)
    return {contract.name: shards.leave_out(con, contract.name, condition) for contract, condition in old}


def conditions(con: duckdb.DuckDBPyConnection, run: Run, *, used: bool = False) -> list[tuple[Contract, str]]:
    """Per landing table that names people, SQL for the rows that are older than they are kept; or than they are `used`.

    It holds for `history.*` and for whatever else has the contract's columns and `landed_on`. Who did something lately
    is found out from `history.events` once its own rows have been judged.
    """
    found, seen = [], set[str]()
    for contract in contracts.all_of("landing"):
        rule = rule_of(contract, run.config)
        if rule is None:
            continue
        since = _instant(run, rule.days, used)
        if rule.after_last_event:
            name = f"main.seen_since_{rule.days}_days"
            if name not in seen:
                con.execute(
                    f"CREATE OR REPLACE TABLE {name} AS SELECT DISTINCT user_id FROM history.events "
                    f"WHERE user_id IS NOT NULL AND occurred_at >= {since}"
                )
                seen.add(name)
            condition = f'landed_on < {since} AND "{contract.subject}" NOT IN (SELECT user_id FROM {name})'
        else:
            condition = f'"{contract.properties["occurred"]["column"]}" < {since}'
        if rule.free_text_days is not None:
            written = " OR ".join(f'"{name}" IS NOT NULL' for name in _texts(contract))
            dated = contract.properties["occurred"]["column"]
            condition += f' OR (({written}) AND "{dated}" < {_instant(run, rule.free_text_days, used)})'
        found.append((contract, condition))
    return found


def old_records(run: Run) -> str:
    """SQL for records in quarantine that nobody will repair any more."""
    return f"landed_on < {_instant(run, run.config.privacy.retention_days.get('quarantine', QUARANTINE_DAYS), False)}"


def _instant(run: Run, days: int, used: bool) -> str:
    """So many days before the run's cut; less those for which rows are kept and no longer used."""
    idle = min(run.config.privacy.replay_days, int(days * MOST_IDLE)) if used else 0
    moment: datetime = run.as_of.astimezone(UTC) - timedelta(days=days - idle)
    return f"TIMESTAMPTZ {quote(moment.isoformat())}"


def _texts(contract: Contract) -> list[str]:
    return [c.name for c in contract.columns if c.classification == "free_text"]
