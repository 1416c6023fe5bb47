"""Accuracy: how often a recommender was right, person by person, and the table that says so for all and for groups."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks import blend, diversity
from tasks.diversity import CUTOFFS, Variety
from tasks.recommenders import Flags, Ints
from tasks.settings import Config

TEMPERATURES = ("all", "hot", "warm", "cold")
SLICES = ("country", "age_band", "activity")
"""Besides temperature; each measured over everybody else's differences, at SLICED_K."""
SLICED_K = 10
"""What people see without scrolling: three depths for every country would bury the table."""
ACCURACY = ("ndcg", "recall", "hit_rate", "serendipity")
TAIL = 2.5
"""Per cent outside either end of a 95 % interval."""

SCHEMA = {
    "recommender": pl.String, "placement": pl.String, "temperature": pl.String, "country": pl.String,
    "age_band": pl.String, "activity": pl.String, "signal": pl.String, "metric": pl.String, "k": pl.Int32,
    "value": pl.Float64, "people": pl.Int64,
}  # fmt: skip
"""Of marts.model_evaluation."""


@dataclass(frozen=True)
class Figures:
    """Per person, what one recommender reached under one policy."""

    hits: dict[str, Flags]
    """Signal → people × positions."""
    truths: dict[str, Ints]
    """Signal → allowed truths per person."""
    temperature: NDArray[np.str_]
    variety: Variety | None = None
    unusual: Flags = field(default_factory=lambda: np.zeros((0, 0), dtype=bool))
    """People × positions: an entry that the popularity baseline would not have shown."""
    slices: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """Slice → per person, the group; empty where it is not known."""


def joined(blocks: Sequence[Figures]) -> Figures:
    """The figures of several blocks of people as those of one."""
    first = blocks[0]
    return Figures(
        hits={s: np.concatenate([b.hits[s] for b in blocks]) for s in first.hits},
        truths={s: np.concatenate([b.truths[s] for b in blocks]) for s in first.truths},
        temperature=np.concatenate([b.temperature for b in blocks]),
        variety=diversity.joined([b.variety for b in blocks if b.variety]),
        unusual=np.concatenate([b.unusual for b in blocks]),
        slices={name: np.concatenate([b.slices[name] for b in blocks]) for name in first.slices},
    )


def per_person(figures: Figures, signal: str, metric: str, k: int) -> NDArray[np.float64]:
    """One value for each person with an allowed truth.

    recall = hits / truths, hit_rate = any hit, serendipity = unusual hits / k, all within k.
    """
    truths = figures.truths[signal]
    counted = truths > 0
    hits, truths = figures.hits[signal][counted], truths[counted]
    if metric == "ndcg":
        return blend.ndcg(hits, truths, k)
    if metric == "serendipity":
        hits = hits & figures.unusual[counted]
    found = hits[:, :k].sum(axis=1)
    by = {"recall": truths, "serendipity": np.int64(k)}
    share: NDArray[np.float64] = found / by[metric] if metric in by else (found > 0).astype(np.float64)
    return share


def interval(values: NDArray[np.float64], resamples: int, seed: int) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the mean over people (Efron 1979); the same draw for equal input."""
    means = [values[again].mean() for again in _resamples(len(values), resamples, seed)]
    low, high = np.percentile(means, [TAIL, 100 - TAIL])
    return float(low), float(high)


@lru_cache(maxsize=1)
def _resamples(people: int, count: int, seed: int) -> NDArray[np.int32]:
    """Count × people: who is drawn; kept, since the recommenders of a placement are judged by the same people."""
    draw = np.random.Generator(np.random.Philox(seed))
    return draw.integers(0, people, (count, people), dtype=np.int32)


Row = tuple[str, str, str, str, str, str, str, str, int, float | None, int]


def table(figures: Mapping[tuple[str, str], Figures], shown: int, config: Config) -> pl.DataFrame:
    """marts.model_evaluation: one row per recommender, placement, group of people, signal, metric and cut-off.

    A group below `evaluation.min_people` has no value: too little data, and too few people to speak about.
    """
    rows: list[Row] = []
    for placement, settings in config.placements.items():
        for (name, policy), of in figures.items():
            if policy == settings.repeats:
                rows += [(name, placement, *row) for row in _of_everybody(of, shown)]
                rows += [(name, placement, *row) for row in _of_groups(of, config.evaluation.min_people)]
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.sort(*(name for name in SCHEMA if name not in ("value", "people")))


def of_everybody(frame: pl.DataFrame) -> pl.DataFrame:
    """The rows that are about all people at once."""
    return frame.filter(pl.all_horizontal(pl.col("temperature", *SLICES) == "all"))


def _of_everybody(of: Figures, shown: int) -> Iterator[tuple[str, str, str, str, str, str, int, float | None, int]]:
    """What needs no success: the rest of a row after recommender and placement."""
    if of.variety is None:
        return
    for k in CUTOFFS:
        for metric, value in diversity.figures(of.variety, k, shown).items():
            told = None if value is None else round(value, 6)
            yield "all", "all", "all", "all", "any", metric, k, told, len(of.temperature)


def _of_groups(of: Figures, min_people: int) -> Iterator[tuple[str, str, str, str, str, str, int, float | None, int]]:
    """What was a success, for all and for each group of each slice."""
    for signal, truths in of.truths.items():
        counted = truths > 0
        for metric in ACCURACY:
            for k in CUTOFFS:
                values = per_person(of, signal, metric, k)
                for column, name, value, people in _means(of, values, counted, k, min_people):
                    place = ["all"] * (1 + len(SLICES))
                    place[column] = name
                    yield place[0], place[1], place[2], place[3], signal, metric, k, value, people


def _means(
    of: Figures, values: NDArray[np.float64], counted: Flags, k: int, min_people: int
) -> Iterator[tuple[int, str, float | None, int]]:
    """Which column of a row names the group, the group, its mean and its people."""

    def told(total: float, people: int) -> float | None:
        return round(total / people, 6) if people >= min_people else None

    yield 0, "all", told(float(values.sum()), len(values)), len(values)
    warmth = of.temperature[counted]
    for temperature in TEMPERATURES[1:]:
        group = values[warmth == temperature]
        yield 0, temperature, told(float(group.sum()), len(group)), len(group)
    for column, name in enumerate(SLICES, start=1):
        if k != SLICED_K or name not in of.slices:
            continue
        names, codes = np.unique(of.slices[name][counted], return_inverse=True)
        sums, sizes = np.bincount(codes, values, len(names)), np.bincount(codes, minlength=len(names))
        for group_name, total, people in zip(names.tolist(), sums.tolist(), sizes.tolist(), strict=True):
            if group_name:
                yield column, group_name, told(total, people), people
