"""Default lists: what people without a list of their own are shown, the same for everybody in the same country."""

from __future__ import annotations

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import candidates
from tasks.recommenders import Floats, Ints
from tasks.recommenders.trending import Trending
from tasks.settings import Config
from tasks.training import Trained

DEFAULT_DAYS = 28
"""Of demand behind the lists of a country: as long as a list is for."""

SCHEMA = {
    "placement": pl.String, "context": pl.String, "segment": pl.String, "position": pl.Int32, "item_id": pl.String,
    "score": pl.Float64, "reason_code": pl.String,
}  # fmt: skip


def make(con: duckdb.DuckDBPyConnection, trained: Trained, config: Config) -> pl.DataFrame:
    """Lists for people without one: for all, and for each country with enough people.

    What is trending comes first, then the newest of the catalogue. A placement of repeats has none: who has no history
    has nothing to repeat.
    """
    catalogue = trained.history.catalogue
    public = catalogue.recommendable & (catalogue.people >= config.privacy.min_people)
    model = trained.families.models.get(Trending.name)
    strength = model.strength if isinstance(model, Trending) else np.zeros(len(catalogue), dtype=np.float32)
    everywhere = np.where(public, strength, 0).astype(np.float32)
    segments = {"all": (np.zeros(0, dtype=np.int64), everywhere), **_countries(con, trained, public, config)}
    rows = []
    for placement, settings in config.placements.items():
        if settings.repeats == "only":
            continue
        for segment, (local, strengths) in segments.items():
            ranked = _ranked(local, everywhere, catalogue.recommendable, catalogue.newest, settings.k)
            for position, (item, code) in enumerate(ranked, start=1):
                score = float(strengths[item]) if code == "popular_in_country" else float(everywhere[item])
                rows.append((placement, "any", segment, position, catalogue.ids[item], round(score, 6), code))
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort("placement", "context", "segment", "position")


def _ranked(local: Ints, everywhere: Floats, shown: NDArray[np.bool_], newest: Ints, k: int) -> list[tuple[int, str]]:
    """The first k of: popular in the country, trending, newest; each item once."""
    positions, values = candidates.best(everywhere[None, :], k)
    ranked = {int(item): "popular_in_country" for item in local[:k]}
    for item in positions[0][values[0] > 0]:
        ranked.setdefault(int(item), "trending")
    for item in newest[shown[newest]][:k]:
        ranked.setdefault(int(item), "newest")
    return list(ranked.items())[:k]


def _countries(
    con: duckdb.DuckDBPyConnection, trained: Trained, public: NDArray[np.bool_], config: Config
) -> dict[str, tuple[Ints, Floats]]:
    """Per country with `min_people` people: its items with as many recent people there, most people first."""
    history = trained.history
    rows = {user: row for row, user in enumerate(history.people)}
    lived = con.execute("SELECT user_id, country FROM staging.users WHERE country <> 'ZZ' ORDER BY 1").fetchall()
    homes: dict[str, list[int]] = {}
    for user, country in lived:
        if user in rows:
            homes.setdefault(country, []).append(rows[user])
    found = {}
    for country in sorted(homes):
        if len(homes[country]) < config.privacy.min_people:
            continue
        there = history.take(np.array(homes[country]))
        lately = (there.weight > 0) & (there.last_age <= DEFAULT_DAYS)
        people = np.bincount(there.columns[lately], minlength=len(history.catalogue))
        people = np.where(public & (people >= config.privacy.min_people), people, 0)
        order = np.argsort(-people, kind="stable")
        share = (people / len(homes[country])).astype(np.float32)
        found[country] = (order[people[order] > 0], share)
    return found


def mute(con: duckdb.DuckDBPyConnection) -> None:
    """Write `marts.muted_items` from the default lists: `recommendations_for` leaves them out for who muted them."""
    con.execute(
        "CREATE OR REPLACE TABLE marts.muted_items AS SELECT DISTINCT p.user_id, m.item_id "
        "FROM (SELECT user_id, unnest(muted_topics) AS topic FROM staging.people) AS p "
        "JOIN staging.muted_items AS m ON m.topic = p.topic "
        "SEMI JOIN marts.default_recommendations AS d ON d.item_id = m.item_id ORDER BY ALL"
    )
