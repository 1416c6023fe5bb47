"""What a ranker is told of a candidate: what the families say, the item, the person, and what was between them.

Everything is counted from the history before the cut. Where something was shown is none of it: lists must not teach
themselves.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tasks import blend
from tasks.candidates import Candidates
from tasks.recommenders import Floats, Interactions, Ints
from tasks.settings import Repeats

Columns = dict[str, Floats]

LATE_DAYS = 60
"""Of a person's latest habits: whether they try new things or come back for the old ones."""
DAYS_APART = 10_000
"""More than any history is long: keeps the days of one person apart from those of the next."""


def describe(
    block: Interactions, known: Candidates, weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats
) -> Columns:
    """Features of every valid candidate, person by person; NaN where nothing is known.

    Where only new items are allowed there is nothing between them, and saying so would be noise.
    """
    people, places = np.nonzero(known.valid)
    items = known.items[people, places]
    columns: Columns = {}
    for name, scores, ranks in zip(names, known.scores, known.ranks(), strict=True):
        own = scores[people, places]
        columns[f"{name}_score"] = own
        columns[f"{name}_rank"] = np.where(own > 0, ranks[people, places], np.nan).astype(np.float32)
    columns["blend"] = blend.mix(known.scores, weights, known.valid)[people, places]
    columns |= {f"item_{name}": fact[items] for name, fact in _item(block).items()}
    visits = _visits(block)
    columns |= {f"person_{name}": fact[people] for name, fact in _person(block, visits).items()}
    columns |= _fit_of(block, people, items)
    if repeats != "never":
        columns |= _pair(block, visits, people, items)
    return columns


def _item(block: Interactions) -> Columns:
    """Of every item: how much it is wanted against the most wanted one, whatever the season."""
    catalogue = block.catalogue
    found = {name: fact for name, fact in catalogue.facts.items() if name != "kind"}
    for days, demand in catalogue.demand.items():
        found[f"demand_{days}"] = (demand / max(1, demand.max(initial=0))).astype(np.float32)
    found["people"] = (catalogue.people / max(1, catalogue.people.max(initial=0))).astype(np.float32)
    return found


def _visits(block: Interactions) -> Ints:
    """The days before the cut on which a person came, as person × DAYS_APART + day, each once and in order.

    Known are the first and the last day of each item, which are nearly all.
    """
    days = np.concatenate((block.last_age, block.first_age)).astype(np.int64)
    visits: Ints = np.unique(np.tile(block.owners(), 2) * DAYS_APART + np.minimum(days, DAYS_APART - 1))
    return visits


def _person(block: Interactions, visits: Ints) -> Columns:
    owners, size = block.owners(), len(block)
    sums = {name: np.bincount(owners, getattr(block, name), size) for name in ("events", "purchases", "days")}
    newest, oldest = np.full(size, np.inf), np.zeros(size)
    np.minimum.at(newest, owners, block.last_age)
    np.maximum.at(oldest, owners, block.first_age)
    items, came = np.diff(block.indptr), np.bincount(visits // DAYS_APART, minlength=size)
    cadence = (oldest - newest) / np.maximum(came - 1, 1)
    late = np.maximum(np.bincount(owners[block.last_age <= LATE_DAYS], minlength=size), 1)
    found = {
        **sums,
        "items": items,
        "recency": newest,
        "tenure": oldest,
        "visits": came,
        "cadence": cadence,
        "due": newest / np.maximum(cadence, 1),
        "once_share": np.bincount(owners[block.days <= 1], minlength=size) / np.maximum(items, 1),
        "new_share": np.bincount(owners[block.first_age <= LATE_DAYS], minlength=size) / late,
        "last_visit_items": np.bincount(owners[np.floor(block.last_age) <= np.floor(newest)[owners]], minlength=size),
    }
    return {name: np.asarray(fact, dtype=np.float32) for name, fact in found.items()}


def _pair(block: Interactions, visits: Ints, people: Ints, items: Ints) -> Columns:
    """What was between the person and the item; NaN where they never met."""
    owners = block.owners()
    starts = np.searchsorted(visits, np.arange(len(block)) * DAYS_APART)

    def visits_since(age: Floats) -> Floats:
        """Visits younger than that, per cell."""
        days = np.minimum(age.astype(np.int64), DAYS_APART - 1)
        since: Floats = (np.searchsorted(visits, owners * DAYS_APART + days) - starts[owners]).astype(np.float32)
        return since

    newest_first = np.lexsort((block.last_age, owners))
    place = np.empty(len(owners), dtype=np.float32)
    place[newest_first] = np.arange(len(owners)) - block.indptr[owners]
    came = np.bincount(visits // DAYS_APART, minlength=len(block)).astype(np.float32)
    facts = {
        "weight": block.weight,
        "days": block.days,
        "purchases": block.purchases,
        "first_age": block.first_age,
        "last_age": block.last_age,
        "recency_rank": place,
        "visits_since": visits_since(block.last_age),
        "visit_share": block.days / came[owners],
        "visit_share_since_first": block.days / (visits_since(block.first_age) + 1),
        "quantity_per_day": block.facts["quantity"] / np.maximum(block.days, 1),
    }
    met = block.at(np.ones(len(owners), dtype=bool), people, items)
    columns: Columns = {}
    for name, values in facts.items():
        columns[f"pair_{name}"] = np.where(met, block.at(values, people, items), np.nan).astype(np.float32)
    between = (columns["pair_first_age"] - columns["pair_last_age"]) / np.maximum(columns["pair_days"] - 1, 1)
    columns["pair_due"] = np.where(between > 0, columns["pair_last_age"] / np.maximum(between, 1), np.nan)
    return columns


def _fit_of(block: Interactions, people: Ints, items: Ints) -> Columns:
    """How the item's price and kind suit what the person had."""
    facts, owners = block.catalogue.facts, block.owners()
    columns: Columns = {}
    if "price" in facts:
        own = facts["price"][block.columns]
        told = np.isfinite(own)
        counts = np.bincount(owners[told], minlength=len(block))
        with np.errstate(invalid="ignore", divide="ignore"):
            usual = np.bincount(owners[told], own[told], len(block)) / counts
            columns["price_to_usual"] = (facts["price"][items] / usual[people]).astype(np.float32)
        columns["price_to_usual"][~np.isfinite(columns["price_to_usual"])] = np.nan
    if "kind" in facts and len(facts["kind"]):
        kinds = facts["kind"].astype(np.int64)
        width = int(kinds.max()) + 1
        keys, counts = np.unique(owners * width + kinds[block.columns], return_counts=True)
        wanted = people * width + kinds[items]
        places = np.minimum(np.searchsorted(keys, wanted), max(0, len(keys) - 1))
        share = np.where(keys[places] == wanted, counts[places], 0) if len(keys) else np.zeros(len(wanted))
        columns["kind_share"] = (share / np.maximum(np.diff(block.indptr)[people], 1)).astype(np.float32)
    return columns
