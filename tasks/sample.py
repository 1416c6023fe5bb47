"""A synthetic marketplace → landing: honest structure to learn from, and declared dirt to be found out.

Events are made and written week by week, so that memory follows a week's events, not the whole.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl

from tasks.behaviour import SCHEMA, Week, week_of
from tasks.dirt import Landed, land_day
from tasks.errors import ConfigurationError
from tasks.marketplace import (
    CODES,
    LANGUAGES,
    NAMES,
    REGIONS,
    WEEK,
    ZONES,
    Crowd,
    Ints,
    Rng,
    draws,
    gather_crowd,
    instants,
    open_shop,
    words,
)  # fmt: skip
from tasks.report import track

END = date(2026, 3, 31)

# Purpose: share of people who grant it and who refuse or object.
PURPOSES = (("personalization", 0.0, 0.05), ("analytics", 0.0, 0.03), ("mood_signals", 0.45, 0.2), ("income", 0.2, 0.2),
            ("precise_place", 0.3, 0.2), ("experiments", 0.4, 0.1), ("marketing", 0.3, 0.3))  # fmt: skip

# What people set for themselves, and the share of people who do: `broken` is a level that nobody can read.
CHOICES = (("level", "0", 0.02), ("level", "0.5", 0.03), ("muted_topics", "Books|handmade", 0.02),
           ("muted_topics", "plain", 0.02), ("novelty_share", "0.4", 0.02), ("paused", "true", 0.01),
           ("reset_from", "", 0.01), ("level", "broken", 0.005))  # fmt: skip


def make(
    landing: Path, *, users: int, items: int, events: int, days: int, seed: int, end: date = END
) -> dict[str, int]:
    """Write a marketplace whose last day is `end`; the same arguments write the same bytes.

    Args:
        landing: where to; files of another market that are there already stay there, so better an empty folder.
        users: people who register.
        items: things in the catalogue by the last day.
        events: distinct, well-formed events; the dirt comes on top.
        days: how many, `end` included.
        seed: of every draw.
        end: the last day.

    Returns:
        Counts of what was written: users, items, events, anonymous, files, `<table>_rows` (with dirt), and each kind of
        dirt: duplicate_rows, duplicate_files, duplicate_file_rows, conflicts, late_rows, late_files, negative_dwell,
        country_names, device_case, missing_device, impossible_birth_year, unreadable_consents, unreadable_controls, and
        the lines of each malformed kind (a quoted newline is one record on two lines).

    Raises:
        ConfigurationError: a number is too small to show anything.
    """
    for name, given, least in (("users", users, 20), ("items", items, 50), ("events", events, 500), ("days", days, 14)):
        if given < least:
            raise ConfigurationError(f"sample: --{name} must be at least {least}")
    start = end - timedelta(days=days - 1)
    landed = Landed(Path(landing), start)
    shop = open_shop(draws(seed, 1), items, days, seed, landed)
    crowd = gather_crowd(draws(seed, 2), users, days, seed, shop)
    _profiles(draws(seed, 3), crowd, days, landed)
    _consents(draws(seed, 4), crowd, days, landed)
    _controls(draws(seed, 6), crowd, days, landed)
    quota = _season(start, days, events)
    owed = pl.DataFrame(schema=SCHEMA)
    for week, first in track(list(enumerate(range(0, days, WEEK))), "weeks", -(-days // WEEK)):
        rng = draws(seed, 5, week)
        last = min(first + WEEK, days)
        happened = week_of(rng, crowd, shop, Week(week, first, quota[first:last], start, seed), owed)
        owed = happened.owed
        for day in range(first, last):
            land_day(rng, happened.events.filter(pl.col("day") == day).drop("day"), day, days, landed)
            shown = happened.impressions.filter(pl.col("day") == day).drop("day")
            landed.put_frame("impressions", landed.day(day).isoformat(), "impressions", shown, "csv.gz")
    landed.seal()
    return {"users": users, "items": items} | dict(sorted(landed.counts.items()))


def _season(start: date, days: int, events: int) -> Ints:
    """Events per day: busy weekends, busy winters, the whole exactly `events`."""
    dates = [start + timedelta(days=d) for d in range(days)]
    weekday = np.array([(0.9, 0.85, 0.9, 1.0, 1.1, 1.25, 1.2)[d.weekday()] for d in dates])
    year = np.array([1 + 0.25 * np.cos(2 * np.pi * (d.timetuple().tm_yday - 350) / 365) for d in dates])
    reached = np.cumsum(weekday * year)
    quota: Ints = np.diff(np.round(reached / reached[-1] * events).astype(np.int64), prepend=0)
    return quota


def _profiles(rng: Rng, crowd: Crowd, days: int, landed: Landed) -> None:
    """Profiles land on the day of registration; in the last week some people move or close their account."""
    n = len(crowd.ids)
    code, name, language, zone = (words(v, crowd.country) for v in (CODES, NAMES, LANGUAGES, ZONES))
    year = np.clip(np.round(rng.normal(1985, 14, n)), 1935, 2008).astype(np.int64)
    impossible, spelled, untold = rng.random(n) < 0.01, rng.random(n) < 0.03, rng.random(n) < 0.25
    impossible[0] = True
    day = np.maximum(crowd.signup // 86_400, 0)
    profiles = pl.DataFrame({
        "user_id": crowd.ids, "birth_year": pl.Series(np.where(impossible, 1066, year)).cast(pl.Int32),
        "gender": words(("female", "male", "Female", "diverse"), rng.choice(4, n, p=(0.45, 0.43, 0.1, 0.02))),
        "country": pl.select(pl.when(pl.Series(spelled)).then(name).otherwise(code)).to_series(),
        "region": words(REGIONS, crowd.region), "income_band": words(("low", "middle", "high"), rng.integers(0, 3, n)),
        "language": language, "timezone": zone, "signup_at": instants(landed.start, crowd.signup), "status": "active",
    }).with_columns(income_band=pl.when(pl.Series(~untold)).then("income_band"))  # fmt: skip
    for d in range(days):
        landed.put_parquet("users", d, profiles.filter(pl.Series(day == d)))
    moved = pl.Series((rng.random(n) < 0.02) & (day < days - WEEK))
    closed = pl.Series(rng.random(n) < 0.3)
    changed = profiles.with_columns(
        region=pl.lit(REGIONS[0]), status=pl.when(closed).then(pl.lit("closed")).otherwise("status")
    )
    landed.put_parquet("users", days - WEEK, changed.filter(moved), stem="changes")
    landed.counts.update(impossible_birth_year=int(impossible.sum()), missing_income=int(untold.sum()))


def _consents(rng: Rng, crowd: Crowd, days: int, landed: Landed) -> None:
    """Decisions at registration, some unreadable, some taken back later."""
    n, parts = len(crowd.ids), []
    day = np.maximum(crowd.signup // 86_400, 0)
    for purpose, grants, refuses in PURPOSES:
        u = rng.random(n)
        said = np.flatnonzero(u < grants + refuses)
        answer = np.where(u[said] < grants, 0, 1)
        answer = np.where(rng.random(len(said)) < 0.02, 2, answer)
        back = said[(answer == 0) & (rng.random(len(said)) < 0.1)]
        who, answers = np.concatenate([said, back]), np.concatenate([answer, np.ones(len(back), dtype=np.int64)])
        when = np.concatenate([day[said], np.minimum(day[back] + rng.integers(1, days, len(back)), days - 1)])
        taken_back = np.arange(len(who)) >= len(said)
        seconds = np.where(taken_back, when * 86_400 + 43_200, crowd.signup[who])
        parts.append(pl.DataFrame({
            "day": pl.Series(when, dtype=pl.Int64), "user_id": crowd.ids.gather(who),
            "purpose": words((purpose,), np.zeros(len(who), dtype=np.int64)),
            "granted": words(("true", "false", "perhaps"), answers),
            "recorded_at": instants(landed.start, seconds).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "policy_version": words(("2025-1", "2025-2"), taken_back.astype(np.int64)),
            "source": words(("registration", "settings"), taken_back.astype(np.int64)),
        }))  # fmt: skip
    decisions = pl.concat(parts)
    for d in range(days):
        today = decisions.filter(pl.col("day") == d).drop("day")
        landed.put_frame("consents", landed.day(d).isoformat(), "consents", today, "jsonl" if d % 3 == 2 else "csv")
    landed.counts["unreadable_consents"] = int((decisions["granted"] == "perhaps").sum())


def _controls(rng: Rng, crowd: Crowd, days: int, landed: Landed) -> None:
    """Some people say how they want to be recommended to; each choice is made by somebody."""
    n, chosen = len(crowd.ids), iter(rng.permutation(len(crowd.ids)).tolist())
    half = (landed.day(days // 2)).isoformat() + "T00:00:00Z"
    rows = []
    for column, value, share in CHOICES:
        for _ in range(max(1, round(share * n))):
            person = next(chosen)
            day = int(rng.integers(max(crowd.signup[person] // 86_400, 0), days))
            told = dict.fromkeys(("level", "muted_topics", "novelty_share", "reset_from", "paused"))
            told |= {column: value or half}
            rows.append({"day": day, "user_id": crowd.ids[person], **told,
                         "changed_at": f"{landed.day(day).isoformat()}T20:00:00Z"})  # fmt: skip
    frame = pl.DataFrame(rows, infer_schema_length=None).sort("day", "user_id")
    for (day,), today in frame.group_by("day", maintain_order=True):
        landed.put_frame("controls", landed.day(int(str(day))).isoformat(), "controls", today.drop("day"), "csv")
    landed.counts["unreadable_controls"] = int((frame["level"] == "broken").sum())
