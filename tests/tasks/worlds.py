"""Small worlds for recommenders: who met what, written as text or drawn from a seed."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from tasks import features
from tasks.candidates import Voice
from tasks.recommenders import Catalogue, Floats, Interactions
from tasks.recommenders.interactions import load
from tasks.recommenders.opinions import Table
from tasks.settings import Config
from tests.sql.spec import CUT, Night, defaults, open_night

FIRST_DAY = datetime(2025, 11, 21, tzinfo=UTC)
"""100 days before CUT."""


def settings(min_people: int = 1, **sections: Mapping[str, object]) -> Config:
    """The packaged settings with a privacy floor, and with single keys of other sections replaced."""
    config = defaults()
    changed = {name: getattr(config, name).model_copy(update=values) for name, values in sections.items()}
    return config.model_copy(update=changed | {"privacy": config.privacy.model_copy(update={"min_people": min_people})})


def world(events: str, items: str, config: Config | None = None) -> Interactions:
    """The history as of CUT that these events and items make, through the real feature SQL."""
    night = night_of(events, items, config)
    try:
        return load(night.con, CUT, night.run.config.signals.half_life_days)
    finally:
        night.con.close()


def strangers(people: int, items: int) -> Interactions:
    """People who never met anything, and items that may be shown to them."""
    nothing, many = np.zeros(0, dtype=np.float32), np.zeros(items, dtype=np.int64)
    names = tuple(f"i{item:03}" for item in range(items))
    catalogue = Catalogue(
        names, names, people=many, demand={}, sold=True, newest=np.arange(items),
        recommendable=np.ones(items, dtype=bool), sensitive=np.zeros(items, dtype=bool),
    )  # fmt: skip
    return Interactions(
        catalogue, tuple(f"u{person:03}" for person in range(people)), np.zeros(people + 1, dtype=np.int64),
        np.zeros(0, dtype=np.int32), 90.0, nothing, nothing, nothing, nothing, nothing, nothing,
    )  # fmt: skip


def voices(scales: Floats) -> list[Voice]:
    """By family what these tables say, of items that may all be brought to anybody."""
    return [Voice(Table(scale), np.ones(scale.shape[1], dtype=bool)) for scale in scales]


def night_of(events: str, items: str, config: Config | None = None) -> Night:
    """A night that is ready to train: `history`, `staging` and `features` as of CUT."""
    night = open_night(config or settings())
    night.landed(events=events, items=items)
    night.open()
    features.build(night.con, night.run, CUT)
    return night


def market(
    people: int = 60, items: int = 40, *, seed: int = 7, config: Config | None = None, shuffled: int | None = None
) -> Night:
    """A night of 100 days: two tastes of items, people who favour one and come back for some of it.

    `shuffled` is the seed of another order of the same rows.
    """
    draw = np.random.default_rng(seed)
    rows = []
    for person in range(people):
        favourites = draw.choice(items // 2, size=4, replace=False) * 2 + person % 2
        for visit in np.sort(draw.integers(0, 100, size=draw.integers(2, 12))):
            other = draw.integers(0, items)
            chosen = [int(i) for i in draw.choice(favourites, size=2, replace=False)] + [int(other)]
            rows += [(f"u{person:03}", f"i{item:03}", "purchase" if item != other else "view", int(visit))
                     for item in chosen]  # fmt: skip
    events = pl.DataFrame(
        {
            "event_id": [f"e{n:05}" for n in range(len(rows))],
            "user_id": [r[0] for r in rows],
            "item_id": [r[1] for r in rows],
            "event_type": [r[2] for r in rows],
            "occurred_at": [FIRST_DAY + timedelta(days=r[3], hours=9) for r in rows],
            "quantity": [1.0] * len(rows),
            "landed_on": [FIRST_DAY + timedelta(days=r[3] + 1) for r in rows],
        }
    )
    order = np.arange(len(rows)) if shuffled is None else np.random.default_rng(shuffled).permutation(len(rows))
    night = open_night(config or settings(evaluation={"min_people": 5, "bootstrap": 50}))
    kinds = ("red", "blue")
    named = "\n".join(
        f"i{i:03} | {kinds[i % 2]} thing number {i} | {kinds[i % 2]} things | {FIRST_DAY.isoformat()}"
        for i in range(items)
    )
    night.landed(items="item_id | title | category | landed_on\n" + named)
    fill(night, events[order.tolist()])
    return night


def fill(night: Night, events: pl.DataFrame) -> None:
    """Put events into history, then open it and build the features."""
    night.con.register("drawn", events.to_arrow())
    night.con.execute("INSERT INTO history.events BY NAME FROM drawn")
    night.con.unregister("drawn")
    night.open()
    features.build(night.con, night.run, night.run.as_of)


def table(night: Night, name: str) -> pl.DataFrame:
    """`marts.<name>`, in the order in which it was written."""
    found: pl.DataFrame = night.con.sql(f"FROM marts.{name}").pl()
    return found


def shuffle(history: Interactions, seed: int) -> Interactions:
    """The same people in another order: for laws about scores that must not depend on it."""
    return history.take(np.random.default_rng(seed).permutation(len(history)))
