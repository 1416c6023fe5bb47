"""What people do on the marketplace: a week of visits, each a few things looked at, each in a few steps."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np
import polars as pl

from tasks.marketplace import (
    CODES,
    DEVICES,
    HOURS_AHEAD,
    NAMES,
    NOUNS,
    REGIONS,
    SEASON,
    STYLES,
    WEEK,
    Bools,
    Crowd,
    Floats,
    Ints,
    Rng,
    Shop,
    draws,
    ids,
    look,
    words,
)  # fmt: skip

DAY_MS = 86_400_000
REFERRERS = ("direct", "search", "newsletter", "social")
REMARKS = ("just what I was looking for", "smaller than I thought", "is it dishwasher safe?", "arrived well packed")

# One event as it travels: the contract's columns, then what only the maker needs.
SCHEMA = pl.Schema({
    "event_id": pl.String, "user_id": pl.String, "event_type": pl.String, "item_id": pl.String,
    "occurred_at": pl.String,
    "value": pl.Float64, "quantity": pl.Int64, "amount": pl.Float64, "currency": pl.String, "dwell_seconds": pl.Float64,
    "scroll_speed": pl.Float64, "query_text": pl.String, "session_id": pl.String, "device": pl.String,
    "country": pl.String, "region": pl.String, "referrer": pl.String,
    "country_name": pl.String, "day": pl.Int64, "at": pl.Int64,
})  # fmt: skip

IMPRESSIONS = pl.Schema({
    "publication_id": pl.String, "user_id": pl.String, "placement": pl.String, "context": pl.String,
    "item_id": pl.String, "position": pl.Int64, "shown_at": pl.String, "propensity": pl.Float64, "day": pl.Int64,
})  # fmt: skip
SHOWN, FOUND, SLOTS = 0.3, 0.5, 6
"""Share of the visits with a list, share of what is clicked there that stood in it, and the length of a list."""

# What people do with one thing they look at: the steps, and how often when it is far from and near to their taste.
JOURNEYS: tuple[tuple[tuple[str, ...], float, float], ...] = (
    (("view",), 30, 14), (("search", "view", "click"), 12, 10), (("view", "click"), 20, 18),
    (("view", "dismiss"), 8, 1), (("view", "dislike"), 5, 1), (("view", "click", "like"), 3, 8),
    (("view", "click", "share"), 2, 4), (("view", "click", "comment"), 1, 2), (("view", "click", "follow"), 1, 2),
    (("view", "play"), 2, 2), (("view", "play", "complete"), 1, 4), (("ui_use",), 2, 2),
    (("view", "click", "cart_add"), 5, 9), (("view", "click", "cart_add", "cart_remove"), 4, 3),
    (("view", "click", "cart_add", "purchase"), 3, 14), (("view", "click", "cart_add", "purchase", "rate"), 1, 6),
)  # fmt: skip
TYPES = sorted({step for steps, _, _ in JOURNEYS for step in steps} | {"return"})
STEPS = np.array([[TYPES.index(s) for s in steps] + [-1] * (5 - len(steps)) for steps, _, _ in JOURNEYS])
LENGTHS = (STEPS >= 0).sum(axis=1)
FAR, NEAR = (np.cumsum(w) / np.sum(w) for w in zip(*((far, near) for _, far, near in JOURNEYS), strict=True))


@dataclass(frozen=True)
class Week:
    number: int
    first: int
    """Its first day, counted from the start."""
    quota: Ints
    """Events per day."""
    start: date
    seed: int


@dataclass(frozen=True)
class Happened:
    """What a week leaves to be written."""

    events: pl.DataFrame
    """In order of time, with those that were owed to it."""
    impressions: pl.DataFrame
    """What some visitors were shown when they came."""
    owed: pl.DataFrame
    """Returns that later weeks will see."""


def week_of(rng: Rng, crowd: Crowd, shop: Shop, week: Week, owed: pl.DataFrame) -> Happened:
    """One week of the marketplace, with the events `owed` to it."""
    last = week.first + len(week.quota)
    due = owed.filter(pl.col("day") < last)
    expected = np.bincount(due["day"].to_numpy() - week.first, minlength=len(week.quota))
    quota = np.maximum(week.quota - expected, 0)
    who, day, anonymous = _visits(rng, crowd, week, quota)
    visit = np.repeat(np.arange(len(who)), rng.geometric(0.45, len(who)))
    item, near = _journeys(rng, crowd, shop, week, who[visit], day[visit], anonymous[visit])
    blend = FAR * (1 - near[:, None]) + NEAR * near[:, None]
    journey = np.minimum((blend < rng.random((len(item), 1))).sum(axis=1), len(JOURNEYS) - 1)
    # From journeys to their steps, and no more of them than the day may have.
    length = LENGTHS[journey]
    at = np.repeat(np.arange(len(journey)), length)
    step = np.arange(len(at)) - np.repeat(np.cumsum(length) - length, length)
    busy = day[visit][at] - week.first
    first_of_day = np.searchsorted(busy, np.arange(len(quota)))
    kept = np.arange(len(at)) - first_of_day[busy] < quota[busy]
    at, step = at[kept], step[kept]
    visit = visit[at]
    steps = Steps(who=who[visit], day=day[visit], anonymous=anonymous[visit], visit=visit, item=item[at], near=near[at],
                  type=STEPS[journey[at], step])  # fmt: skip
    frame = _events(rng, crowd, shop, week, steps)
    bought = frame.filter(pl.col("event_type") == "purchase", pl.col("user_id").is_not_null())
    back = bought.filter(pl.Series(rng.random(bought.height) < 0.06, dtype=pl.Boolean))
    # Never within the same week: a week is closed when it is written.
    delay = pl.Series(rng.integers(WEEK, 3 * WEEK, back.height), dtype=pl.Int64)
    back = back.with_columns(
        day=pl.col("day") + delay, at=pl.col("at") + DAY_MS * delay,
        event_type=pl.lit("return"), event_id="r" + pl.col("event_id"),
        session_id=pl.lit(None, pl.String), referrer=pl.lit(None, pl.String),
    )  # fmt: skip
    origin = int(datetime(week.start.year, week.start.month, week.start.day, tzinfo=UTC).timestamp() * 1000)
    instant = (pl.col("at") + origin).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
    whole = pl.concat([due, frame]).sort("at", "event_id").with_columns(occurred_at=instant).drop("at")
    shown = _impressions(draws(week.seed, 6, week.number), crowd, shop, week, frame)
    return Happened(whole, shown, pl.concat([owed.filter(pl.col("day") >= last), back]))


def _impressions(rng: Rng, crowd: Crowd, shop: Shop, week: Week, frame: pl.DataFrame) -> pl.DataFrame:
    """A short list as a known visitor comes, in some visits: goods to their taste, and some of what they then clicked.

    What was clicked tends to stand at the top. A list is drawn after the visit, so that events do not depend on it.
    """
    kept = pl.col("user_id").is_not_null() & pl.col("session_id").is_not_null()
    visits = frame.filter(kept).group_by("session_id", maintain_order=True).agg(
        pl.col("user_id").first(), pl.col("day").first(), pl.col("at").min(),
        pl.col("item_id").filter(pl.col("event_type") == "click").unique(maintain_order=True).alias("clicked"),
    )  # fmt: skip
    visits = visits.filter(pl.Series(rng.random(visits.height) < SHOWN, dtype=pl.Boolean))
    n = visits.height
    if not n:
        return pl.DataFrame(schema=IMPRESSIONS)
    number = pl.DataFrame({"user_id": crowd.ids, "who": np.arange(len(crowd.ids))})
    who = visits.join(number, on="user_id", how="left", maintain_order="left")["who"].to_numpy()
    other, _ = look(rng, crowd, shop, np.repeat(who, SLOTS), week.number, np.ones(len(SEASON)))
    decoys = pl.DataFrame({"visit": np.repeat(np.arange(n), SLOTS), "item_id": shop.ids.gather(other),
                           "place": rng.random(n * SLOTS)})  # fmt: skip
    clicked = visits.select(pl.int_range(pl.len()).alias("visit"), "clicked").explode("clicked", empty_as_null=False)
    clicked = clicked.rename({"clicked": "item_id"}).filter(pl.col("item_id").is_not_null())
    found = pl.Series(rng.random(clicked.height) < FOUND, dtype=pl.Boolean)
    clicked = clicked.with_columns(place=pl.Series(rng.random(clicked.height) ** 3)).filter(found)
    listed = pl.concat([clicked, decoys]).sort("visit", "place", "item_id").unique(
        ["visit", "item_id"], keep="first", maintain_order=True
    )  # fmt: skip
    listed = listed.with_columns(position=pl.int_range(1, pl.len() + 1).over("visit")).filter(
        pl.col("position") <= SLOTS
    )
    at = visits.gather(listed["visit"])
    origin = int(datetime(week.start.year, week.start.month, week.start.day, tzinfo=UTC).timestamp() * 1000)
    served = pl.Series([(week.start + timedelta(days=d - 1)).isoformat() for d in at["day"]], dtype=pl.String)
    # The visitor's first step comes as the list stands on the screen.
    return at.select("user_id", "day", "at").with_columns(
        publication_id=served + "-" + ids("", week.seed, 7, 0, 1).gather([0] * at.height).str.slice(0, 12),
        placement=pl.lit("for_you"), context=pl.lit("any"), item_id=listed["item_id"], position=listed["position"],
        shown_at=(pl.col("at") + origin).cast(pl.Datetime("ms")).dt.strftime("%Y-%m-%dT%H:%M:%S%.3fZ"),
        propensity=pl.lit(1.0),
    ).select(*IMPRESSIONS).cast(IMPRESSIONS)  # fmt: skip


@dataclass(frozen=True)
class Steps:
    """One entry per event, in the order of the visits."""

    who: Ints
    day: Ints
    anonymous: Bools
    visit: Ints
    item: Ints
    near: Floats
    type: Ints


def _visits(rng: Rng, crowd: Crowd, week: Week, quota: Ints) -> tuple[Ints, Ints, Bools]:
    """Who comes on which day, and whether anonymously. More than can be used: a visit has 5 events in the mean."""
    reached = np.cumsum(crowd.activity)
    who, days, anonymous = [], [], []
    for day, events in enumerate(quota, start=week.first):
        known = int(np.searchsorted(crowd.signup, day * 86_400))
        once = np.flatnonzero(crowd.visit_day == day)
        count = int(events) if events < 400 else int(events) // 4 + 50
        often = np.searchsorted(reached, rng.random(count) * reached[known - 1], side="right")
        # Those who come once come first: the day's last visits may be cut off.
        who += [once, np.minimum(often, known - 1)]
        days.append(np.full(len(once) + count, day))
        anonymous += [np.zeros(len(once), dtype=bool), rng.random(count) < 0.15]
    return np.concatenate(who), np.concatenate(days), np.concatenate(anonymous)


def _journeys(
    rng: Rng, crowd: Crowd, shop: Shop, week: Week, who: Ints, day: Ints, anonymous: Bools
) -> tuple[Ints, Floats]:
    """The item of each journey and how near it is to the person's taste; some return to their favourites."""
    month = ((week.start.timetuple().tm_yday + week.first) / 30.4) % 12
    season = 1 + 0.6 * np.cos(2 * np.pi * (month - SEASON) / 12)
    item, near = look(rng, crowd, shop, who, week.number, season)
    favourite = crowd.favourites[who, rng.integers(0, crowd.favourites.shape[1], len(who))]
    again = (rng.random(len(who)) < 0.2) & ~anonymous & shop.shown[week.number][favourite]
    return np.where(again, favourite, item), np.where(again, 0.95, near)


def _clock(rng: Rng, crowd: Crowd, steps: Steps, dwell: Floats) -> Ints:
    """Milliseconds from the start of the sample; a visit begins in the person's daypart and ends before midnight."""
    gaps = np.round((2 + dwell) * 1000).astype(np.int64)
    passed = np.cumsum(gaps) - gaps
    opened = np.searchsorted(steps.visit, steps.visit, side="left")
    closed = np.searchsorted(steps.visit, steps.visit, side="right") - 1
    lasted = passed[closed] - passed[opened]
    hours = np.array(HOURS_AHEAD)[crowd.country[steps.who]]
    local = crowd.hour[steps.who] + rng.normal(0, 1.5, len(gaps))[opened]
    begun = ((local - hours) % 24 * 3_600_000).astype(np.int64)
    begun = np.maximum(np.minimum(begun, DAY_MS - 1000 - lasted), 0)
    moments: Ints = steps.day * DAY_MS + begun + passed - passed[opened]
    return moments


def _events(rng: Rng, crowd: Crowd, shop: Shop, week: Week, steps: Steps) -> pl.DataFrame:
    """Steps with everything that is known of them, in the columns of SCHEMA."""
    n, who, near = len(steps.who), steps.who, steps.near
    opened = np.searchsorted(steps.visit, steps.visit, side="left")
    kind = words(TYPES, steps.type)
    dwell = np.round(rng.exponential(6 + 40 * near), 1)
    scroll = np.round(crowd.scroll[who] * np.exp(rng.normal(0, 0.4, n)) * (1.4 - 0.8 * near))
    quantity = 1 + rng.poisson(0.3, n)
    rating = np.clip(np.round(2 * (1.5 + 3.2 * near + rng.normal(0, 0.5, n))) / 2, 0.5, 5)
    device = np.where(rng.random(n) < 0.8, crowd.device[who], rng.integers(0, len(DEVICES), n))[opened]
    session = ids("s", week.seed, 3, week.number << 32, int(steps.visit.max(initial=-1)) + 1).gather(steps.visit)
    order = pl.Series(np.arange(n) - opened).cast(pl.String)
    leaf = shop.leaf[steps.item]
    query = words(STYLES, rng.integers(0, len(STYLES), n)) + " " + words(NOUNS, leaf)
    looked, bought = pl.col("event_type").is_in(["view", "click", "play"]), pl.col("event_type") == "purchase"
    said = pl.when(pl.col("event_type") == "search").then(query)
    return pl.DataFrame({
        "event_id": session.str.replace("s", "e", literal=True, n=1) + "-" + order, "event_type": kind,
        "session_id": session,
        "device": words(DEVICES, device), "country": words(CODES, crowd.country[who]),
        "country_name": words(NAMES, crowd.country[who]), "region": words(REGIONS, crowd.region[who]),
        "referrer": words(REFERRERS, rng.integers(0, len(REFERRERS), n)[opened]),
        "day": steps.day, "at": _clock(rng, crowd, steps, dwell),
    }).with_columns(
        occurred_at=pl.lit(None, pl.String),
        user_id=pl.when(pl.Series(~steps.anonymous)).then(crowd.ids.gather(who)),
        item_id=pl.when(~pl.col("event_type").is_in(["search", "ui_use"])).then(shop.ids.gather(steps.item)),
        value=pl.when(pl.col("event_type") == "rate").then(pl.Series(rating)),
        quantity=pl.when(bought).then(pl.Series(quantity)),
        amount=pl.when(bought).then(pl.Series(quantity * shop.cents[week.number][steps.item] / 100)),
        currency=pl.when(bought).then(shop.currency.gather(steps.item)),
        dwell_seconds=pl.when(looked).then(pl.Series(dwell)), scroll_speed=pl.when(looked).then(pl.Series(scroll)),
        query_text=said.when(pl.col("event_type") == "comment").then(words(REMARKS, rng.integers(0, len(REMARKS), n))),
    ).select(*SCHEMA).cast(SCHEMA)  # fmt: skip
