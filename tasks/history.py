"""The one door to personal data: history as of the run, with everybody's decisions applied.

Whatever a person may ask (to be left out of a purpose, to be restricted, to start anew) takes effect here and nowhere
else: `sql/staging/people.sql` says who may be used for what and how, and the other staging tables obey it. Nothing past
this door reads `history`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

import duckdb

from tasks import contracts, limits, sql
from tasks.errors import ConfigurationError
from tasks.settings import Run

# One BOOLEAN of `staging.people` each.
PURPOSES = ("personalization", "analytics", "mood_signals", "precise_place", "income", "experiments", "marketing")

REASONS = ("restriction", "objection", "age", "consent", "pause", "level")
"""Why somebody is not personalized for, the first that holds."""


def open_history(con: duckdb.DuckDBPyConnection, run: Run) -> dict[str, int]:
    """Build `staging.*` from `history.*` as of the run.

    Args:
        con: the night's catalogue, in which every `history.<table>` exists, perhaps empty.
        run: its cut, time zone and basis per purpose.

    Returns:
        Per purpose, how many known people do not allow it.

    Raises:
        ConfigurationError: the configured purposes are not those that this door knows.
    """
    limits.join(con, run)
    sql.build(con, "staging", params(run, run.as_of))
    (counts,) = con.execute(
        f"SELECT {', '.join(f'count(*) FILTER (WHERE NOT {purpose})' for purpose in PURPOSES)} FROM staging.people"
    ).fetchall()
    return dict(zip(PURPOSES, counts, strict=True))


def reasons(con: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How many people are not personalized for, by the first of REASONS that holds: together that purpose's count."""
    found = con.execute(
        "SELECT withheld_because, count(*) FROM staging.people WHERE withheld_because IS NOT NULL GROUP BY ALL"
    ).fetchall()
    return dict.fromkeys(REASONS, 0) | dict(found)


def params(run: Run, cut: datetime) -> Mapping[str, object]:
    """What `sql/staging/*.sql` bind: the cut, the zone, and per purpose what holds where a person said nothing.

    Raises:
        ConfigurationError: a purpose without a basis, or one that nothing would honour.
    """
    basis = run.config.privacy.basis
    if set(basis) != set(PURPOSES):
        differing = ", ".join(sorted(set(basis) ^ set(PURPOSES)))
        raise ConfigurationError(f"privacy.basis must name exactly the purposes that are honoured; look at {differing}")
    return {
        "cut": cut,
        "landed_by": run.as_of,
        "timezone": run.config.run.timezone,
        "items_are_snapshots": contracts.load("landing", "items").delivery == "snapshot",
        "users_are_snapshots": contracts.load("landing", "users").delivery == "snapshot",
        "minimum_profiled_age": run.config.privacy.minimum_profiled_age,
        **{purpose: basis[purpose] == "legitimate_interest" for purpose in PURPOSES},
    }
