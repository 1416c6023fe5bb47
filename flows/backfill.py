"""Backfill: one nightly per day, in order; a day that is there already is found unchanged."""

from __future__ import annotations

from datetime import date, timedelta

from prefect import flow

from flows.nightly import nightly
from tasks.errors import ConfigurationError
from tasks.report import Summary


@flow(name="backfill", flow_run_name="backfill-{first}-{last}", persist_result=False)
def backfill(
    landing: str, lake: str, first: date, last: date, config: str | None = None, wait: float = 0
) -> list[Summary]:
    """A nightly for every day from `first` to `last`.

    Raises:
        BlockedError: a day was stopped; the days after it have not run.
    """
    if last < first:
        raise ConfigurationError("backfill: --to is before --from")
    days = [first + timedelta(days=n) for n in range((last - first).days + 1)]
    return [nightly(landing, lake, day.isoformat(), config, wait) for day in days]
