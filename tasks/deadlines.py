"""Deadlines: how long requests have been open, told louder each week. A month is what the law gives (GDPR 12(3))."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from tasks import tombstones
from tasks.errors import ConfigurationError
from tasks.tombstones import Request

ALARM_DAYS = (7, 14, 21, 28)
"""Open for so long, a request is in danger: four times before the month is over."""


def days_open(request: Request, now: datetime) -> int | None:
    """Whole days since it was asked; None once it is done."""
    return None if request.state == "done" else max(0, (now - request.requested_at).days)


def alarm(request: Request, now: datetime) -> int:
    """The last of ALARM_DAYS that it has been open for; 0 before the first, and once it is done."""
    days = days_open(request, now) or 0
    return max((limit for limit in ALARM_DAYS if days >= limit), default=0)


def overdue(requests: Iterable[Request], now: datetime) -> dict[str, int]:
    """`<days> days` → requests that have been open for so long and not for the next of ALARM_DAYS."""
    counts = Counter(alarm(request, now) for request in requests)
    return {f"{limit} days": counts[limit] for limit in ALARM_DAYS if counts[limit]}


def overdue_in(lake: Path, now: datetime | None = None) -> dict[str, int]:
    """`overdue` of a lake's ledger; without its key, which every run asks for first, nothing."""
    try:
        with tombstones.opened(lake) as ledger:
            known = tombstones.requests(ledger) if ledger else []
    except ConfigurationError:
        return {}
    return overdue(known, now or datetime.now(UTC))
