"""The blend: every family's opinion on one scale, mixed with weights that earlier windows taught.

The door for a ranker is `candidates`: for each person the best items of every family, with scores and ranks. The blend
learns on exactly these.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.recommenders import Flags, Floats, Interactions, Ints, Recommender, TooLittleDataError
from tasks.recommenders.als import Als
from tasks.recommenders.content import Content
from tasks.recommenders.ease import Ease
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.popular import Popular
from tasks.recommenders.repeat import Repeat
from tasks.recommenders.trending import Trending
from tasks.recommenders.trending_near import TrendingNear
from tasks.settings import Config, Repeats

FAMILIES: tuple[type[Recommender], ...] = (
    Trending,
    TrendingNear,
    Popular,
    Repeat,
    ItemItem,
    GraphFilter,
    Ease,
    Als,
    Content,
)
FITTED_NIGHTLY = tuple(family for family in FAMILIES if family is not Als)
"""Counted in closed form, so that a fit to tonight is what folding in every event since the training would give. Ten
days after a training, on Online Retail and its real future, NDCG@10 of new items was .115 with item-item and the graph
as they were, .132 so; .139 had ALS been fitted again, too, which waits for the next training."""
READS_NO_BEHAVIOUR = {Content.name}
"""Of other people: these alone may bring an item that too few people met."""
PER_FAMILY = 50
"""Candidates of one family for one person: five times LEARNED_K, so that a mix finds its top in the union."""
LEARNED_K = 10
"""The weights maximise NDCG at this depth: what people see without scrolling."""
STEPS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Factors tried on one weight at a time: fine near the present value, far enough to leave it."""
ROUNDS = 6
"""Of coordinate ascent; it mostly stops after three."""
SHALLOW = 6
"""Cells of a group in `best`: below, looking at groups first costs more than it saves."""
WHISPER = 0.0001
"""Weight of a useful family that the ascent switched off: it fills what others leave empty, and reorders nothing."""
DECIMALS = 6
"""Of a published score: the last bits of a float are no reason to rank."""


@dataclass(frozen=True)
class Families:
    """The families that could learn, in the order of FAMILIES, and why the others could not."""

    models: Mapping[str, Recommender]
    unused: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.models)


@dataclass(frozen=True)
class Candidates:
    """For each person the union of every family's best items: the input of the weights, and of a later ranker."""

    items: Ints
    """people × candidates: positions in the catalogue."""
    valid: Flags
    """people × candidates: rows are as long as the longest union; the rest is padding."""
    scores: Floats
    """families × people × candidates, on the common scale."""

    def take(self, people: Flags) -> Candidates:
        """Of these people only."""
        return Candidates(self.items[people], self.valid[people], self.scores[:, people])

    def listed(self, scores: Floats, k: int) -> tuple[Ints, Flags, Ints]:
        """People × k by these scores of the candidates: items, which entries are real, and where they stood."""
        places, values = best(scores, min(k, scores.shape[1]))
        return np.take_along_axis(self.items, places, axis=1), values > 0, places

    def ranks(self) -> Ints:
        """Families × people × candidates, from 1; equal scores by position."""
        order = np.argsort(-np.where(self.valid, self.scores, -1), axis=2, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, order.shape[2] + 1)[None, None, :], axis=2)
        return ranks


@dataclass(frozen=True)
class Lesson:
    """Candidates, and what really happened next."""

    candidates: Candidates
    happened: Flags
    """people × candidates."""
    truths: Ints
    """Per person, how many allowed items happened, candidates or not."""


def fit(history: Interactions, config: Config) -> Families:
    """Every family that finds enough to learn from."""
    models: dict[str, Recommender] = {}
    unused: dict[str, str] = {}
    for family in FAMILIES:
        try:
            if not len(history):
                raise TooLittleDataError("nobody has a history")
            models[family.name] = family.fit(history, config)
        except TooLittleDataError as lack:
            unused[family.name] = f"too_little_data: {lack}"
    return Families(models, unused)


def opinions(families: Families, block: Interactions, min_people: int) -> Floats:
    """Families × people × items: each family's scores of a person divided by that person's highest, so 0–1.

    Only items that may be shown count. An item with fewer than `min_people` people behind it is brought to somebody who
    did not meet it by no family that reads behaviour.
    """
    shown = block.catalogue.recommendable
    rare = np.flatnonzero(block.catalogue.people < min_people)
    met = block.touched()[:, rare]
    scales = np.empty((len(families.models), *block.shape), dtype=np.float32)
    for row, (name, model) in enumerate(families.models.items()):
        np.multiply(model.score(block), shown, out=scales[row])
        if name not in READS_NO_BEHAVIOUR:
            scales[row][:, rare] *= met
        peak = scales[row].max(axis=1, keepdims=True, initial=0)
        scales[row] /= np.where(peak > 0, peak, 1)
    return scales


def allowed(block: Interactions, repeats: Repeats) -> Flags:
    """People × items: what the policy lets into a list. `never` means never met in any way, sensitive items too."""
    shown = np.broadcast_to(block.catalogue.recommendable, block.shape)
    if repeats == "never":
        return shown & ~block.touched()
    return shown & block.had() if repeats == "only" else shown.copy()


def mix(scales: Floats, weights: NDArray[np.float64], permitted: Flags) -> Floats:
    """People × items: the weighted sum, rounded; 0 where not permitted. A list takes what is above 0."""
    mixed = np.zeros(scales.shape[1:], dtype=np.float32)
    for scale, weight in zip(scales, weights, strict=True):
        if weight:
            mixed += np.float32(weight) * scale
    mixed *= permitted
    return np.round(mixed, DECIMALS)


def best(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The k highest of each row, highest first, equal ones by position; fewer where there are fewer items.

    Long rows are looked at in groups first: whatever is among the k highest stands in a group whose peak is among the
    k highest peaks. Rows where several groups share the last such peak are searched whole. See
    docs/decisions/0003-top-k.md.
    """
    people, items = scores.shape
    # As many cells in the chosen groups as there are groups.
    depth = math.isqrt(items // max(1, k))
    if depth < SHALLOW or not k or not people:
        return _best(scores, k)
    groups = items // depth
    # A group is every so many cells: its peak is found by comparing whole stretches of the row.
    peaks = scores[:, : groups * depth].reshape(people, depth, groups).max(axis=1)
    chosen = np.argpartition(peaks, groups - k, axis=1)[:, groups - k :]
    lowest = np.take_along_axis(peaks, chosen[:, :1], axis=1)
    crowded = np.count_nonzero(peaks >= lowest, axis=1) > k
    cells = (np.arange(depth)[:, None] * groups + np.sort(chosen, axis=1)[:, None, :]).reshape(people, depth * k)
    rest = np.broadcast_to(np.arange(groups * depth, items), (people, items - groups * depth))
    cells = np.concatenate((cells, rest), axis=1)
    places, values = _best(np.take_along_axis(scores, cells, axis=1), k)
    positions = np.take_along_axis(cells, places, axis=1)
    if crowded.any():
        positions[crowded], values[crowded] = _best(scores[crowded], k)
    return positions, values


def _best(scores: Floats, k: int) -> tuple[Ints, Floats]:
    """The same by one partition of every row."""
    people, items = scores.shape
    k = min(k, items)
    if k == 0 or people == 0:
        return np.zeros((people, k), dtype=np.int64), np.zeros((people, k), dtype=np.float32)
    last = np.partition(scores, items - k, axis=1)[:, items - k, None]
    picked = scores >= last
    crowded = np.flatnonzero(np.count_nonzero(picked, axis=1) > k)
    if len(crowded):
        above = scores[crowded] > last[crowded]
        level = scores[crowded] == last[crowded]
        room = k - np.count_nonzero(above, axis=1)
        picked[crowded] = above | (level & (np.cumsum(level, axis=1) <= room[:, None]))
    positions = np.nonzero(picked)[1].reshape(people, k)
    values = np.take_along_axis(scores, positions, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(positions, order, axis=1), np.take_along_axis(values, order, axis=1)


def candidates(scales: Floats, permitted: Flags, per_family: int = PER_FAMILY) -> Candidates:
    """The best `per_family` permitted items of each family that has something to say about them."""
    chosen = np.zeros(permitted.shape, dtype=bool)
    for scale in scales:
        positions, values = best(scale * permitted, per_family)
        rows, places = np.nonzero(values > 0)
        chosen[rows, positions[rows, places]] = True
    sizes = np.count_nonzero(chosen, axis=1)
    valid = np.arange(sizes.max(initial=0))[None, :] < sizes[:, None]
    items = np.zeros(valid.shape, dtype=np.int64)
    items[valid] = np.nonzero(chosen)[1]
    return Candidates(items, valid, np.take_along_axis(scales, items[None], axis=2) * valid)


def lesson(scales: Floats, permitted: Flags, truth: Flags) -> Lesson:
    """What these people's next window teaches; people without an allowed truth are left out."""
    truth = truth & permitted
    taught = truth.any(axis=1)
    chosen = candidates(scales[:, taught], permitted[taught])
    happened = np.take_along_axis(truth[taught], chosen.items, axis=1) & chosen.valid
    return Lesson(chosen, happened, truth[taught].sum(axis=1))


def learn(lessons: Sequence[Lesson], families: int) -> NDArray[np.float64]:
    """Weights per family, summing to 1, that maximise mean NDCG@10 over the people of the lessons.

    Coordinate ascent over STEPS from equal weights: greedy, exact to repeat, and hardly able to overfit five numbers. A
    family without a positive score among the candidates gets 0. Cost: rounds × families × steps passes over candidates.
    """
    useful = np.array([any((lesson.candidates.scores[f] > 0).any() for lesson in lessons) for f in range(families)])
    weights = useful / max(1, useful.sum())
    highest = worth(lessons, weights)
    for _ in range(ROUNDS):
        before = highest
        for family in np.flatnonzero(useful):
            # A weight that went to 0 may come back.
            base = weights[family] or weights.max() / 4
            for step in STEPS:
                trial = weights.copy()
                trial[family] = base * step
                if trial.any() and (value := worth(lessons, trial)) > highest:
                    highest, weights = value, trial
        if highest == before:
            break
    share = weights / max(weights.sum(), 1e-12)
    learned: NDArray[np.float64] = np.round(np.maximum(share, WHISPER * useful), DECIMALS)
    return learned


def worth(lessons: Sequence[Lesson], weights: NDArray[np.float64]) -> float:
    """Mean NDCG@10 over the people of the lessons, mixed with these weights."""
    gains = [_ndcg(lesson, weights) for lesson in lessons]
    people = sum(len(gain) for gain in gains)
    # Rounded: a gain below the ninth decimal is noise of the summation.
    return round(float(sum(gain.sum() for gain in gains)) / people, 9) if people else 0.0


def _ndcg(lesson: Lesson, weights: NDArray[np.float64]) -> NDArray[np.float64]:
    mixed = mix(lesson.candidates.scores, weights, lesson.candidates.valid)
    positions, values = best(mixed, LEARNED_K)
    hits = np.take_along_axis(lesson.happened, positions, axis=1) & (values > 0)
    return ndcg(hits, lesson.truths, LEARNED_K)


def ndcg(hits: Flags, truths: Ints, k: int) -> NDArray[np.float64]:
    """Per person: Σ 1/log2(1 + position) over hits up to k, over the same sum had the first min(k, truths) been hits.

    Järvelin and Kekäläinen, "Cumulated gain-based evaluation of IR techniques" (TOIS 2002). `truths` is at least 1.
    """
    discount = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.cumsum(discount)
    depth = min(k, hits.shape[1])
    gained = (hits[:, :depth] * discount[:depth]).sum(axis=1)
    share: NDArray[np.float64] = gained / ideal[np.minimum(truths, k) - 1]
    return share
