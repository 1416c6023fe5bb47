"""The choice: who makes the lists of a policy. The ranker, unless something simpler was better on later days."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, lessons, reliability
from tasks import ranker as ranking
from tasks.ranker import Ranker, Seen
from tasks.settings import Config, Repeats

Numbers = NDArray[np.float64]

MARGIN = 2.0
"""Standard errors of the paired difference by which something simpler must be better: less is the luck of the draw."""


@dataclass(frozen=True)
class Learned:
    """Who makes the lists of one policy, and what they need."""

    weights: Numbers
    """Of the blend, or of the one family that beat it; in the order of the families' names."""
    ranker: Ranker | None
    why: str
    """Of the ranker: why it makes the lists, or does not."""
    chosen: str = "blend"
    """ranker, blend, or a family's name."""
    reliability: Sequence[reliability.Row] = ()
    """Of the ranker, on the first window that it had not seen."""


def untaught(families: blend.Families, policies: Iterable[Repeats]) -> dict[Repeats, Learned]:
    """Without an earlier window: every family alike."""
    return {policy: Learned(_equal(len(families.models)), None, "too_little_data: no earlier window")
            for policy in policies}  # fmt: skip


def learn(
    windows: Sequence[lessons.Window],
    halfway: Sequence[lessons.Known],
    families: blend.Families,
    signal: str | None,
    policies: Sequence[Repeats],
    config: Config,
    ranked: bool,
) -> tuple[dict[Repeats, Learned], dict[Repeats, Learned]]:
    """Of all windows but the last, for its families: what figures may be told of. Of all, for `families`: tonight's.

    Only where `ranked` is a ranker learned. `halfway` are windows from the middle of one to the middle of the next:
    they teach it, too, where nothing of them lies beyond what it knows.

    Three steps, each a window further. What the windows before validation teach is judged on validation: that decides
    who makes the lists, and calibrates the chances, of what is measured on test. The same once more for tonight.
    """
    fitted = [*(window.families.models.keys() for window in windows), families.models.keys()]
    names = [name for name in families.names if all(name in of for of in fitted)]
    # One thread for each forest: waiting ones would spin where the machine is busy.
    with threadpool_limits(1, user_api="openmp"), ThreadPoolExecutor(max_workers=config.run.threads) as pool:
        seen = list(pool.map(lambda window: lessons.gather(window, names, policies, config, ranked), windows))
        more = list(pool.map(lambda known: lessons.between(known, names, policies, config), halfway))
        views = [[of[policy] for of in seen] for policy in policies]
        others = [[of[policy] if of else None for of in more] for policy in policies]
        steps = list(pool.map(lambda given: _steps(given[0], given[1], names, signal, given[2], config, ranked),
                              zip(views, others, policies, strict=True)))  # fmt: skip
    last = {p: reliability.judge(a.ranker, of[-1], a.weights, names, p) if a.ranker else []
            for p, of, (a, _) in zip(policies, views, steps, strict=True)}  # fmt: skip
    before = {p: replace(a, reliability=last[p], weights=_spread(a.weights, names, windows[-1].families.names))
              for p, (a, _) in zip(policies, steps, strict=True)}  # fmt: skip
    now = {p: replace(b, weights=_spread(b.weights, names, families.names))
           for p, (_, b) in zip(policies, steps, strict=True)}  # fmt: skip
    return before, now


def _steps(
    views: Sequence[Seen], halfway: Sequence[Seen | None], names: Sequence[str], signal: str | None, policy: Repeats,
    config: Config, ranked: bool,
) -> tuple[Learned, Learned]:  # fmt: skip
    """The last two of: learn from the first windows, judge on the next one, and once more with that one.

    A window halfway ends with the first half of the one after it.
    """
    judged: list[dict[str, Numbers]] = []
    teacher: Learned | None = None
    steps = []
    for last in range(max(1, len(views) - 2), len(views) + 1):
        more = [view for view in halfway[: last - 1] if view]
        learned = _taught(views[:last], more, names, signal, policy, config, ranked)
        if teacher is not None:
            judged.append(_gains(teacher, views[last - 1], names, signal, policy))
            learned = _calibrated(learned, teacher, views[last - 1], names, policy)
        steps.append(_chosen(learned, judged, names, config))
        teacher = learned
    return steps[-2], steps[-1]


def _taught(
    views: Sequence[Seen], more: Sequence[Seen], names: Sequence[str], signal: str | None, policy: Repeats,
    config: Config, ranked: bool,
) -> Learned:  # fmt: skip
    """Weights and ranker from these windows, a ranker from `more`, too; equal weights where too few people teach."""
    taught = [view.lesson(signal) for view in views] if signal else []
    if sum(len(lesson.truths) for lesson in taught) < config.evaluation.min_people:
        return Learned(_equal(len(names)), None, "too_little_data: too few people with a success in earlier windows")
    weights = blend.learn(taught, len(names))
    if not ranked:
        return Learned(weights, None, "a retraining brings it; this night trained without")
    ranker = ranking.fit([*views, *more], weights, names, policy, config)
    lack = f"too_little_data: fewer than {config.ranker.min_successes} successes among candidates of earlier windows"
    return Learned(weights, ranker, "" if ranker else lack)


def _calibrated(learned: Learned, teacher: Learned, later: Seen, names: Sequence[str], policy: Repeats) -> Learned:
    if learned.ranker is None or teacher.ranker is None:
        return learned
    found = ranking.calibrate(learned.ranker, teacher.ranker, later, teacher.weights, names, policy)
    return replace(learned, ranker=found)


def _gains(
    learned: Learned, later: Seen, names: Sequence[str], signal: str | None, policy: Repeats
) -> dict[str, Numbers]:
    """NDCG per person with a truth on a later window: ranker, blend, and each family alone."""
    if signal is None:
        return {}
    taught = later.truths[signal] > 0
    known, truths = later.candidates.take(taught), later.truths[signal][taught]
    happened = later.happened[signal][taught]
    mixed = blend.mix(known.scores, learned.weights, known.valid)
    contenders = {"blend": mixed, **dict(zip(names, known.scores, strict=True))}
    if learned.ranker is not None:
        block = later.block.take(np.flatnonzero(taught))
        scores, _ = ranking.rank(learned.ranker, block, known, mixed, names, learned.weights, policy)
        contenders = {"ranker": scores, **contenders}
    gains = {}
    for name, scores in contenders.items():
        _, listed, places = known.listed(scores, blend.LEARNED_K)
        hits = np.take_along_axis(happened, places, axis=1) & listed
        gains[name] = blend.ndcg(hits, truths, blend.LEARNED_K)
    return gains


def _chosen(learned: Learned, judged: Sequence[Mapping[str, Numbers]], names: Sequence[str], config: Config) -> Learned:
    """What is best on the later windows judged so far; a ranker that nothing judged yet makes no list."""
    gains = {name: np.concatenate([of[name] for of in judged])
             for name in (judged[0] if judged else ()) if all(name in of for of in judged)}  # fmt: skip
    if "ranker" not in gains and learned.ranker is not None:
        learned = replace(learned, ranker=None, why="too_little_data: no later window to judge it on")
    if not gains or len(gains["blend"]) < config.evaluation.min_people:
        return replace(learned, ranker=None, why=learned.why or "too_little_data: too few people to judge it on")
    best = "ranker" if learned.ranker is not None else "blend"
    for other, values in gains.items():
        ahead = values - gains[best]
        error = ahead.std() / np.sqrt(len(ahead))
        # Rounded: the last bits of a sum decide nothing.
        if round(float(ahead.mean() - MARGIN * error), 9) > 0:
            best = other
    if best == "ranker":
        return replace(learned, why="best on later windows that it had not seen", chosen=best)
    learned = replace(learned, ranker=None, why=learned.why or f"{best} was better on later windows", chosen=best)
    if best in names:
        alone = np.array([1.0 if name == best else blend.WHISPER for name in names])
        learned = replace(learned, weights=alone * (learned.weights > 0))
    return learned


def _spread(weights: Numbers, names: Sequence[str], target: Sequence[str]) -> Numbers:
    """The same weights for the families of `target`; 0 for one that no window could judge."""
    known = dict(zip(names, weights, strict=True))
    return np.array([known.get(name, 0.0) for name in target])


def _equal(count: int) -> Numbers:
    return np.round(np.full(count, 1 / max(1, count)), blend.DECIMALS)
