"""What people set for themselves, applied to their lists: how personal, nothing of some topics, at least so much new.

Whoever set nothing is not looked at, and whoever wants no personal list at all is not here: the door left them outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import duckdb
import numpy as np
from numpy.typing import NDArray

from tasks import blend
from tasks.candidates import Candidates
from tasks.recommenders import Flags, Floats, Interactions, Ints, locate
from tasks.recommenders.opinions import Cells
from tasks.recommenders.popular import Popular
from tasks.recommenders.trending import Trending
from tasks.settings import Repeats

CONTEXTUAL = (Trending.name, Popular.name)
"""Families whose opinion is the same for everybody, whatever a person's profile says."""


@dataclass(frozen=True)
class Wish:
    """What one person set."""

    level: float
    """Above 0, up to 1."""
    novelty_share: float
    muted: Ints
    """Positions in the catalogue."""


@dataclass(frozen=True)
class Controls:
    """Wishes by person, of those who have one."""

    wishes: Mapping[str, Wish]

    def of(self, block: Interactions) -> list[tuple[int, Wish]]:
        return [(row, self.wishes[person]) for row, person in enumerate(block.people) if person in self.wishes]


def load(con: duckdb.DuckDBPyConnection, history: Interactions) -> Controls:
    """The wishes in `staging.people`; muted topics by the items of the catalogue that `staging.muted_items` names."""
    places = {item: place for place, item in enumerate(history.catalogue.ids)}
    topics: dict[str, list[int]] = {}
    for topic, item in con.execute("SELECT topic, item_id FROM staging.muted_items").fetchall():
        if item in places:
            topics.setdefault(topic, []).append(places[item])
    rows = con.execute(
        "SELECT user_id, level, novelty_share, coalesce(muted_topics, []) FROM staging.people "
        "WHERE personalization AND (level < 1 OR novelty_share > 0 OR muted_topics IS NOT NULL)"
    ).fetchall()
    # Many mute the same.
    items: dict[tuple[str, ...], Ints] = {}
    wishes = {}
    for person, level, share, muted in rows:
        if (named := tuple(muted)) not in items:
            items[named] = np.array(sorted({i for t in named for i in topics.get(t, ())}), dtype=np.int64)
        wishes[person] = Wish(level, share, items[named])
    return Controls(wishes)


def muted(controls: Controls, block: Interactions) -> Cells:
    """People of the block and items that they muted, in order: nobody speaks for these."""
    wishes = controls.of(block)
    people = np.repeat([row for row, _ in wishes], [len(wish.muted) for _, wish in wishes]).astype(np.int64)
    return people, np.concatenate([np.zeros(0, dtype=np.int64), *(wish.muted for _, wish in wishes)])


def weights_of(
    controls: Controls, block: Interactions, names: Sequence[str], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Families × people: how much each family's opinion counts for each person."""
    shared = _shared(names, weights)
    found = np.repeat(weights[:, None], len(block), axis=1)
    for row, wish in controls.of(block):
        found[:, row] = wish.level * weights + (1 - wish.level) * shared
    return found


def moderate(
    controls: Controls,
    block: Interactions,
    known: Candidates,
    scores: Floats,
    names: Sequence[str],
    weights: NDArray[np.float64],
) -> Floats:
    """People × candidates: scores in which the opinion that is the same for everybody weighs 1 − level.

    Both sides are brought to 0–1 first, and the best score of a list stays what it was.
    """
    wishes = [(row, wish) for row, wish in controls.of(block) if wish.level < 1]
    if wishes:
        scores = scores.copy()
    for row, wish in wishes:
        shared = (known.scores[:, row] * _shared(names, weights)[:, None]).sum(axis=0)
        peak, top = scores[row].max(initial=0), shared.max(initial=0)
        if peak > 0 and top > 0:
            mixed = wish.level * scores[row] / peak + (1 - wish.level) * shared / top
            scores[row] = np.round(peak * mixed * known.valid[row], blend.DECIMALS)
    return scores


def renew(
    controls: Controls, block: Interactions, known: Candidates, scores: Floats, repeats: Repeats, k: int
) -> Floats:
    """People × candidates: 0 for what the person has met, beyond what their share of novelty leaves room for.

    Lists of repeats are left as they are: they are about nothing else. Where there is not enough that is new, the list
    is shorter, and the share holds.
    """
    wishes = [(row, wish) for row, wish in controls.of(block) if wish.novelty_share > 0]
    if repeats != "allowed" or not wishes:
        return scores
    scores = scores.copy()
    for row, wish in wishes:
        own = block.columns[block.indptr[row] : block.indptr[row + 1]]
        met = np.isin(known.items[row], own)
        fresh = min(k, int(np.count_nonzero(known.valid[row] & ~met & (scores[row] > 0))))
        # Rounded: a share is a decimal, its float may lie just above or below.
        room = k - math.ceil(round(wish.novelty_share * k, 6))
        most = min(room, math.floor(round(fresh * (1 - wish.novelty_share) / wish.novelty_share, 6)))
        ranked = np.argsort(-np.where(met, scores[row], -1), kind="stable")
        beyond = ranked[most:]
        scores[row, beyond[met[beyond]]] = 0
    return scores


def silenced(controls: Controls, block: Interactions, people: Ints, items: Ints) -> Flags:
    """Which of these pairs are of an item that the person muted."""
    own, of = muted(controls, block)
    width = np.int64(len(block.catalogue))
    return locate(people * width + items, own * width + of)[1]


def _shared(names: Sequence[str], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Weights of the opinions that are the same for everybody, as they stand to one another; they sum to 1, or to 0."""
    shared = np.where(np.isin(names, CONTEXTUAL), np.maximum(weights, blend.WHISPER), 0.0)
    total: NDArray[np.float64] = shared / max(shared.sum(), 1e-12)
    return total
