"""Reliability: whether what is said to be likely happens as often as said, on days that the ranker had not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from tasks.ranker import Ranker, Seen, candidate_chances
from tasks.settings import Config, Repeats

BINS = 10
"""Deciles of the predictions: each as many candidates, the last one is what lists are made of."""
SCHEMA = {
    "placement": pl.String, "signal": pl.String, "bin": pl.Int32, "candidates": pl.Int64, "people": pl.Int64,
    "predicted": pl.Float64, "observed": pl.Float64,
}  # fmt: skip
"""Of marts.model_reliability."""

Row = tuple[str, int, int, int, float, float]
"""signal, bin, candidates, people, predicted, observed."""


def judge(
    ranker: Ranker, later: Seen, weights: NDArray[np.float64], names: Sequence[str], repeats: Repeats
) -> list[Row]:
    """Mean calibrated chance and share that happened, per signal and tenth of the candidates, ordered by chance.

    Only of people who were drawn whatever they did: of those who surely did something, everything is likely.
    """
    people, chances, happened = candidate_chances(ranker, later, weights, names, repeats)
    rows: list[Row] = []
    for signal, chance in chances.items():
        order = np.argsort(chance, kind="stable")
        for number, part in enumerate(np.array_split(order, BINS), start=1):
            if len(part):
                predicted, observed = (float(of[part].mean(dtype=np.float64)) for of in (chance, happened[signal]))
                rows.append((signal, number, len(part), len(np.unique(people[part])), predicted, observed))
    return rows


def table(judged: Mapping[Repeats, Sequence[Row]], config: Config) -> pl.DataFrame:
    """marts.model_reliability: one row per placement with a ranker, signal and tenth.

    A tenth with fewer than `evaluation.min_people` people has no value.
    """
    rows = []
    for placement, settings in config.placements.items():
        for signal, number, candidates, people, predicted, observed in judged.get(settings.repeats, ()):
            told = people >= config.evaluation.min_people
            shares = (round(predicted, 6), round(observed, 6)) if told else (None, None)
            rows.append((placement, signal, number, candidates, people, *shares))
    return pl.DataFrame(rows, schema=SCHEMA, orient="row").sort("placement", "signal", "bin")
