"""The world behind the sample: goods on their shelves, people with their tastes, and who looks at what.

People have tastes of low rank: a share per shelf (leaf category) and a place on each shelf, which is a product of their
three hidden traits with the shelf's. Goods stand along their shelf by style; dearer goods stand further along, so a
person's place is also a price level. A look at a shelf falls near the person's place, by popularity. No person × item
matrix is ever formed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.dirt import Landed

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Rng = np.random.Generator

WEEK = 7

# Top category: median price in cents, month of its season, shelves, what stands there.
SHELVES: dict[str, tuple[int, int, tuple[str, ...], tuple[str, ...]]] = {
    "Home": (3500, 11, ("Lighting", "Textiles", "Storage"), ("lamp", "throw", "basket")),
    "Kitchen": (2200, 12, ("Tableware", "Baking", "Tea and coffee"), ("bowl set", "cake tin", "teapot")),
    "Garden": (2800, 5, ("Tools", "Seeds", "Furniture"), ("trowel", "seed box", "folding chair")),
    "Books": (1400, 12, ("Fiction", "History", "Cooking"), ("novel", "atlas", "cookbook")),
    "Music": (1800, 10, ("Vinyl", "Instruments"), ("record", "ukulele")),
    "Toys": (1900, 12, ("Puzzles", "Building", "Outdoor play"), ("puzzle", "brick set", "kite")),
    "Sport": (4500, 6, ("Running", "Cycling", "Swimming"), ("running vest", "bike bag", "goggles")),
    "Beauty": (1600, 2, ("Skin", "Bath"), ("hand cream", "bath salts")),
    "Food": (700, 9, ("Pantry", "Sweets", "Drinks"), ("olive oil", "fudge", "syrup")),
    "Office": (1200, 9, ("Paper", "Desk"), ("notebook", "pen tray")),
}
LEAVES = [f"{top} > {shelf}" for top, (_, _, shelves, _) in SHELVES.items() for shelf in shelves]
NOUNS = [noun for _, _, _, nouns in SHELVES.values() for noun in nouns]
CENTS = np.array([cents for cents, _, shelves, _ in SHELVES.values() for _ in shelves], dtype=float)
SEASON = np.array([month for _, month, shelves, _ in SHELVES.values() for _ in shelves], dtype=float)
STYLES = ("plain", "classic", "rustic", "modern", "bold", "handmade")
BRANDS = tuple(f"{a}{b}" for a in ("Nor", "Alba", "Lumo", "Tarn", "Ves") for b in ("vik", "line", "craft", "field"))

# Country: name, language, zone, hours ahead of UTC (summer time left out).
COUNTRIES = (
    ("GB", "United Kingdom", "en", "Europe/London", 0), ("DE", "Germany", "de", "Europe/Berlin", 1),
    ("FR", "France", "fr", "Europe/Paris", 1), ("NL", "Netherlands", "nl", "Europe/Amsterdam", 1),
    ("US", "United States", "en", "America/New_York", -5), ("JP", "Japan", "ja", "Asia/Tokyo", 9),
)  # fmt: skip
CODES, NAMES, LANGUAGES, ZONES, HOURS_AHEAD = zip(*COUNTRIES, strict=True)
COUNTRY_ODDS = (0.4, 0.2, 0.15, 0.1, 0.1, 0.05)
REGIONS = ("North", "South", "East", "West")
DEVICES = ("mobile", "desktop", "tablet")
DAYPARTS = (7.5, 12.5, 20.0)


@dataclass(frozen=True)
class Shop:
    ids: pl.Series
    leaf: Ints
    currency: pl.Series
    weight: Floats
    born: Ints
    """Week in which the item is first offered; 0 for the first catalogue."""
    cents: Ints
    """Weeks × items: price in that week."""
    shown: Bools
    """Weeks × items: offered, approved and in stock."""
    loadings: Floats
    """Shelves × 3: how the hidden traits of a person become a place on the shelf."""
    starts: Ints
    """Where each shelf begins; items are ordered by shelf, then style."""


@dataclass(frozen=True)
class Crowd:
    """People in the order of their registration."""

    ids: pl.Series
    signup: Ints
    """Seconds from the first day; negative before it."""
    taste: NDArray[np.float32]
    place: NDArray[np.float32]
    """Hidden traits, people × 3."""
    activity: Floats
    visit_day: Ints
    """The only day of those who come once; -1 for the others."""
    country: Ints
    region: Ints
    device: Ints
    hour: Floats
    scroll: Floats
    favourites: Ints


def draws(seed: int, *stream: int) -> Rng:
    return np.random.default_rng([seed, *stream])


def ids(prefix: str, seed: int, stream: int, start: int, count: int) -> pl.Series:
    """Opaque ids: SplitMix64 (Steele, Lea, Flood 2014) is one-to-one, so different numbers never share an id."""
    key = int(draws(seed, 0, stream).integers(1 << 63))
    x = (np.arange(start, start + count, dtype=np.uint64) + np.uint64(key)) * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    text = (x ^ (x >> np.uint64(31))).astype(">u8").tobytes().hex()
    return pl.Series([prefix + text[i : i + 16] for i in range(0, 16 * count, 16)], dtype=pl.String)


def instants(start: date, seconds: Ints | Floats) -> pl.Series:
    """Seconds from the first day as UTC instants."""
    origin = int(datetime(start.year, start.month, start.day, tzinfo=UTC).timestamp())
    micros = ((np.asarray(seconds) + origin) * 1_000_000).astype(np.int64)
    return pl.Series(micros).cast(pl.Datetime("us", "UTC"))


def words(vocabulary: Sequence[str], index: Ints) -> pl.Series:
    return pl.Series(list(vocabulary), dtype=pl.String).gather(index)


def open_shop(rng: Rng, n: int, days: int, seed: int, landed: Landed) -> Shop:
    """The catalogue and its weeks: what is new, dearer, sold out, waiting or blocked; landed as versions."""
    weeks, shelves = -(-days // WEEK), len(LEAVES)
    leaf = np.concatenate([np.arange(shelves) % shelves, rng.integers(0, shelves, n)])[:n]
    style = rng.random(n)
    order = np.lexsort((style, leaf))
    leaf, style = leaf[order], style[order]
    week = np.arange(weeks)[:, None]
    born = np.where(rng.random(n) < 0.15, rng.integers(1, weeks, n), 0)
    base = CENTS[leaf] * np.exp(1.6 * (style - 0.5) + rng.normal(0, 0.25, n))
    steps = np.where(rng.random((weeks, n)) < 0.02, rng.choice([0.8, 0.9, 1.1, 1.15], (weeks, n)), 1.0)
    cents = np.maximum(np.round(base * np.cumprod(np.where(week <= born, 1.0, steps), axis=0)), 50).astype(np.int64)
    sold_out = (rng.random((weeks, n)) < 0.015) & (week > born)
    until = np.where(rng.random(n) < 0.03, rng.integers(1, weeks + 1, n), weeks)
    blocked = np.where(rng.random(n) < 0.02, rng.integers(1, weeks, n), weeks) <= week
    waiting = (rng.random(n) < 0.15) & (born > 0) & (week <= born)
    shown = (week >= born) & (week < until) & ~sold_out & ~blocked & ~waiting
    names = ids("i", seed, 1, 0, n)
    status = np.where(blocked, 2, np.where(waiting, 1, 0))
    stock = np.where(sold_out, 0, rng.integers(5, 500, n))
    brand = (leaf * 3 + rng.integers(0, 6, n)) % len(BRANDS)
    kind = np.minimum((style * len(STYLES)).astype(np.int64), len(STYLES) - 1)
    titled = words(BRANDS, brand) + " " + words(STYLES, kind) + " " + words(NOUNS, leaf)
    spelled, undescribed, unpriced = (pl.Series(rng.random(n) < share) for share in (0.03, 0.05, 0.01))
    path = words(LEAVES, leaf)
    opened = born * WEEK * 86_400
    sloppy = path.str.replace(" > ", "/", literal=True)
    catalogue = pl.DataFrame({
        "item_id": names, "title": titled, "description": "A " + words(STYLES, kind) + " piece from " + path,
        "category": path, "brand": words(BRANDS, brand), "tags": words(STYLES, kind) + "|" + words(NOUNS, leaf),
        "currency": words(("EUR", "GBP"), (brand % 5 == 0).astype(np.int64)),
        "provider_id": ids("p", seed, 2, 0, len(BRANDS)).gather(brand),
        "created_at": instants(landed.start, np.where(born > 0, opened, -rng.integers(1, 365, n) * 86_400)),
        "available_from": instants(landed.start, opened),
        "available_until": instants(landed.start, until * WEEK * 86_400),
        "sensitive": rng.random(n) < 0.02,
    }).with_columns(
        category=pl.when(spelled).then(sloppy).otherwise("category"),
        description=pl.when(~undescribed).then("description"),
        available_from=pl.when(pl.Series(born > 0)).then("available_from"),
        available_until=pl.when(pl.Series(until < weeks)).then("available_until"),
    )  # fmt: skip
    for w in range(weeks):
        before = max(w - 1, 0)
        moved = (cents[w] != cents[before]) | (status[w] != status[before]) | (stock[w] != stock[before])
        version = catalogue.with_columns(
            price=pl.when(~unpriced).then(pl.Series(cents[w]).cast(pl.Decimal(18, 4)) / 100).cast(pl.Decimal(18, 4)),
            stock=pl.Series(stock[w]), review_status=words(("approved", "pending", "blocked"), status[w]),
        ).filter(pl.Series((born == w) | ((born < w) & moved)))  # fmt: skip
        landed.put_parquet("items", w * WEEK, version)
    landed.counts.update(category_paths=int(spelled.sum()), missing_price=int(unpriced.sum()))
    return Shop(
        ids=names, leaf=leaf, currency=catalogue["currency"], weight=rng.pareto(1.3, n) + 0.2, born=born, cents=cents,
        shown=shown, loadings=rng.normal(0, 1, (shelves, 3)), starts=np.searchsorted(leaf, np.arange(shelves + 1)),
    )  # fmt: skip


def gather_crowd(rng: Rng, n: int, days: int, seed: int, shop: Shop) -> Crowd:
    """People: a few shelves each, a daypart, a device, and how often they come."""
    signup = np.sort(
        np.where(rng.random(n) < 0.65, -rng.integers(1, 720 * 86_400, n), rng.integers(0, days * 86_400, n))
    )
    once = rng.random(n) < 0.3
    visit = np.maximum(rng.integers(0, days, n), signup // 86_400 + 1)
    crowd = Crowd(
        ids=ids("u", seed, 4, 0, n), signup=signup,
        taste=rng.standard_gamma(0.12, (n, len(LEAVES)), dtype=np.float32) + np.float32(1e-4),
        place=rng.standard_normal((n, 3), dtype=np.float32),
        activity=np.where(once, 0.0, np.exp(rng.normal(0, 1.1, n))), visit_day=np.where(once, visit, -1),
        country=rng.choice(len(COUNTRIES), n, p=COUNTRY_ODDS), region=rng.integers(0, len(REGIONS), n),
        device=rng.choice(len(DEVICES), n, p=(0.6, 0.3, 0.1)), hour=rng.choice(DAYPARTS, n, p=(0.2, 0.3, 0.5)),
        scroll=np.exp(rng.normal(6.8, 0.5, n)), favourites=np.zeros((n, 4), dtype=np.int64),
    )  # fmt: skip
    for slot in range(4):
        crowd.favourites[:, slot], _ = look(rng, crowd, shop, np.arange(n), 0, np.ones(len(LEAVES)))
    return crowd


def look(rng: Rng, crowd: Crowd, shop: Shop, who: Ints, week: int, season: Floats) -> tuple[Ints, Floats]:
    """What each of `who` looks at in that week, and how near it is to their taste (0 to 1)."""
    odds = np.cumsum(crowd.taste[who] * season, axis=1)
    leaf = np.minimum((odds < rng.random((len(who), 1)) * odds[:, -1:]).sum(axis=1), len(LEAVES) - 1)
    centre = (crowd.place[who] * shop.loadings[leaf]).sum(axis=1)
    away = rng.normal(0, 0.4, len(who))
    share = np.clip(1 / (1 + np.exp(-1.5 * (centre + away))), 0, 1 - 1e-9)
    fresh = np.where((shop.born > 0) & (week - shop.born < 3), 2.0, 1.0)
    edges = np.concatenate([[0.0], np.cumsum(shop.weight * shop.shown[week] * fresh)])
    low, high = edges[shop.starts[leaf]], edges[shop.starts[leaf + 1]]
    item = np.searchsorted(edges, low + share * (high - low), side="right") - 1
    item = np.minimum(item, len(shop.ids) - 1)
    # Dearer than it was: a person turns away, and the more so the dearer.
    worth = np.minimum((shop.cents[0][item] / shop.cents[week][item]) ** 2, 1.0)
    return item, np.exp(-4 * away**2) * worth
