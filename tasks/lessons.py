"""Lessons: what one earlier window teaches, as candidates of some people and what they did next."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks import blend, candidates, evaluation
from tasks.candidates import Candidates
from tasks.ranker import Seen
from tasks.recommenders import Flags, Interactions
from tasks.settings import Config, Repeats

TAUGHT_PEOPLE = 3_000
"""Of a window, with a success: a handful of weights and some trees need no more, and they stay in memory."""
DRAWN_PEOPLE = 1_000
"""Of a window, whatever they did: their 150,000 candidates say how likely anything is, to the second digit."""


Known = tuple[Interactions, evaluation.Truth]
"""The world up to a cut, and what happened next."""


@dataclass(frozen=True)
class Window:
    """Families that know the world up to a cut, that world, and what happened next."""

    families: blend.Families
    history: Interactions
    happened: evaluation.Truth


def gather(
    window: Window, names: Sequence[str], policies: Iterable[Repeats], config: Config, ranked: bool = True
) -> dict[Repeats, Seen]:
    """What the window shows about these families, under each policy; people in byte order of id.

    Nobody is drawn whatever they did unless `ranked`: only a ranker's chances are calibrated on them.
    """
    seed, history = config.run.seed, window.history
    taught = evaluation.measured_people(history, window.happened, TAUGHT_PEOPLE, seed)
    drawn = evaluation.drawn_people(history, np.arange(len(history)), DRAWN_PEOPLE if ranked else 0, seed)
    people = np.union1d(taught, drawn)
    chosen = history.take(people)
    families = blend.Families({name: window.families.models[name] for name in names}, {})
    found: dict[Repeats, list[tuple[Candidates, dict[str, Flags], dict[str, np.ndarray]]]] = {p: [] for p in policies}
    for start, block in chosen.blocks(config.run.max_block_cells // candidates.TABLES):
        rows = people[start : start + len(block)]
        voices = blend.opinions(families, block, config.privacy.min_people)
        tables = {signal: window.happened.dense(signal, rows) for signal in evaluation.SIGNALS}
        gathered = candidates.gather(voices, block, found)
        for policy, parts in found.items():
            permitted, known = blend.allowed(block, policy), gathered[policy]
            happened = {s: np.take_along_axis(t, known.items, axis=1) & known.valid for s, t in tables.items()}
            parts.append((known, happened, {s: (t & permitted).sum(axis=1) for s, t in tables.items()}))
    return {policy: _seen(chosen, parts, np.isin(people, drawn)) for policy, parts in found.items()}


def between(known: Known, names: Sequence[str], policies: Iterable[Repeats], config: Config) -> dict[Repeats, Seen]:
    """What a window shows that is there to teach alone; nothing where one of these families could not learn by then.

    Its families are fitted here and forgotten with the window: all that is kept of it is what it shows.
    """
    families = blend.fit(known[0], config)
    if not set(names) <= families.models.keys():
        return {}
    return gather(Window(families, *known), names, policies, config, ranked=False)


def _seen(
    block: Interactions, parts: list[tuple[Candidates, dict[str, Flags], dict[str, np.ndarray]]], drawn: Flags
) -> Seen:
    width = max((known.valid.shape[1] for known, _, _ in parts), default=0)

    def wide(table: np.ndarray) -> np.ndarray:
        return np.pad(table, [(0, 0)] * (table.ndim - 1) + [(0, width - table.shape[-1])])

    joined = Candidates(
        np.concatenate([wide(known.items) for known, _, _ in parts]),
        np.concatenate([wide(known.valid) for known, _, _ in parts]),
        np.concatenate([wide(known.scores) for known, _, _ in parts], axis=1),
    )
    happened = {s: np.concatenate([wide(part[1][s]) for part in parts]) for s in evaluation.SIGNALS}
    truths = {s: np.concatenate([part[2][s] for part in parts]) for s in evaluation.SIGNALS}
    return Seen(block, joined, happened, truths, drawn)
