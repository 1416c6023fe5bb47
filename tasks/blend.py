"""The blend: every family's opinion on one scale, mixed with weights that earlier windows taught.

It learns on exactly what a ranker is given: for each person the best items of every family (candidates.py).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tasks import candidates
from tasks.candidates import Candidates, Voice
from tasks.recommenders import Flags, Floats, Interactions, Ints, Recommender, TooLittleDataError
from tasks.recommenders.als import Als
from tasks.recommenders.content import Content
from tasks.recommenders.ease import Ease
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.opinions import Brief, Opinion, Table
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
LEARNED_K = 10
"""The weights maximise NDCG at this depth: what people see without scrolling."""
STEPS = (0.0, 0.25, 0.5, 0.8, 1.25, 2.0, 4.0)
"""Factors tried on one weight at a time: fine near the present value, far enough to leave it."""
ROUNDS = 6
"""Of coordinate ascent; it mostly stops after three."""
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
class Lesson:
    """Candidates, and what really happened next."""

    candidates: Candidates
    happened: Flags
    """people × candidates."""
    truths: Ints
    """Per person, how many allowed items happened, candidates or not."""

    @cached_property
    def telling(self) -> tuple[Ints, Candidates]:
        """People of whom anything happened among the candidates, and these: no weights help the others."""
        people: Flags = np.any(self.happened, axis=1)
        return np.flatnonzero(people), self.candidates.take(people)

    @cached_property
    def successes(self) -> tuple[Ints, Ints]:
        """Of everything that happened, the place among those people, and the candidate."""
        people, own = np.nonzero(self.happened[self.telling[0]])
        return people, own


def fit(history: Interactions, config: Config) -> Families:
    """Every family that finds enough to learn from."""
    (families,) = fit_each([history], config, threads=1)
    return families


def fit_each(histories: Sequence[Interactions], config: Config, threads: int) -> list[Families]:
    """The same of several histories; each fit is the same alone or beside others."""

    def fitted(given: tuple[Interactions, type[Recommender]]) -> Recommender | str:
        history, family = given
        try:
            if not len(history):
                raise TooLittleDataError("nobody has a history")
            return family.fit(history, config)
        except TooLittleDataError as lack:
            return f"too_little_data: {lack}"

    with ThreadPoolExecutor(max_workers=threads) as pool:
        found = list(pool.map(fitted, [(history, family) for history in histories for family in FAMILIES]))
    each = []
    for start in range(0, len(found), len(FAMILIES)):
        named = {family.name: of for family, of in zip(FAMILIES, found[start:], strict=False)}
        models = {name: of for name, of in named.items() if not isinstance(of, str)}
        each.append(Families(models, {name: of for name, of in named.items() if isinstance(of, str)}))
    return each


def opinions(families: Families, block: Interactions, min_people: int) -> list[Voice]:
    """By family what it says of each person, and what it may bring to somebody who did not meet it.

    Only items that may be shown count. An item with fewer than `min_people` people behind it is brought to somebody who
    did not meet it by no family that reads behaviour.
    """
    return [Voice(_said(model, block), _may(name, block, min_people)) for name, model in families.models.items()]


def scales(families: Families, block: Interactions, min_people: int) -> list[Floats]:
    """The same as whole tables, by family people × items: divided by each person's highest, so 0–1."""
    tables = []
    for name, model in families.models.items():
        scale = model.score(block)
        may = np.broadcast_to(_may(name, block, min_people), block.shape).copy()
        may[block.owners(), block.columns] = block.catalogue.recommendable[block.columns]
        scale *= may
        peak = scale.max(axis=1, keepdims=True, initial=0)
        scale /= np.where(peak > 0, peak, 1)
        tables.append(scale)
    return tables


def _said(model: Recommender, block: Interactions) -> Opinion:
    return model.say(block) if isinstance(model, Brief) else Table(model.score(block))


def _may(name: str, block: Interactions, min_people: int) -> Flags:
    shown, rare = block.catalogue.recommendable, block.catalogue.people < min_people
    return shown if name in READS_NO_BEHAVIOUR else shown & ~rare


def allowed(block: Interactions, repeats: Repeats) -> Flags:
    """People × items: what the policy lets into a list. `never` means never met in any way, sensitive items too."""
    shown = np.broadcast_to(block.catalogue.recommendable, block.shape)
    if repeats == "never":
        return shown & ~block.touched()
    return shown & block.had() if repeats == "only" else shown.copy()


def mix(scales: Floats, weights: NDArray[np.float64], permitted: Flags) -> Floats:
    """People × candidates: the weighted sum, rounded; 0 where not permitted. A list takes what is above 0."""
    mixed = np.zeros(scales.shape[1:], dtype=np.float32)
    part = np.empty_like(mixed)
    for scale, weight in zip(scales, weights, strict=True):
        if weight:
            mixed += np.multiply(scale, np.float32(weight), out=part)
    mixed *= permitted
    return np.round(mixed, DECIMALS, out=mixed)


def lesson(voices: Sequence[Voice], block: Interactions, policy: Repeats, truth: Flags) -> Lesson:
    """What these people's next window teaches under one policy."""
    return lessons(voices, block, [policy], truth)[policy]


def lessons(
    voices: Sequence[Voice], block: Interactions, policies: Sequence[Repeats], truth: Flags
) -> dict[Repeats, Lesson]:
    """What these people's next window teaches; people without an allowed truth are left out."""
    found = {}
    for policy, known in candidates.gather(voices, block, policies).items():
        permitted: Flags = truth & allowed(block, policy)
        taught = np.any(permitted, axis=1)
        of = known.take(taught)
        happened = np.take_along_axis(permitted[taught], of.items, axis=1) & of.valid
        found[policy] = Lesson(of, happened, permitted[taught].sum(axis=1))
    return found


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
    telling, known = lesson.telling
    mixed = mix(known.scores, weights, known.valid)
    # Successes are few: who stands before each is counted sooner than everybody is ordered.
    people, own = lesson.successes
    theirs, value = mixed[people], mixed[people, own, None]
    earlier = np.arange(mixed.shape[1]) < own[:, None]
    ahead = np.count_nonzero((theirs > value) | ((theirs == value) & earlier), axis=1)
    listed = (ahead < LEARNED_K) & (value[:, 0] > 0)
    hits = np.zeros((len(mixed), LEARNED_K), dtype=bool)
    hits[people[listed], ahead[listed]] = True
    gains = np.zeros(len(lesson.truths))
    gains[telling] = ndcg(hits, lesson.truths[telling], LEARNED_K)
    return gains


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
