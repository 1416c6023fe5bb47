"""Trending: what everybody wants now."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.recommenders.opinions import Alike, ranked
from tasks.settings import Config


@dataclass(frozen=True)
class Trending:
    """score(i) = mean over windows w of demand_w(i) / w, divided by the highest; the same for every person.

    Nested windows are decay in steps: demand of the last week counts in all of them. Where no window holds any demand,
    the demand of all time takes their place. Cost: one pass over the items.
    Short windows of popularity are the strongest simple baseline on time splits (Ji et al., "A Re-visit of the
    Popularity Baseline in Recommender Systems", SIGIR 2020).
    """

    name: ClassVar[str] = "trending"
    strength: Floats
    """Per item, 0–1."""

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        demand = history.catalogue.demand
        windows = config.recommenders.trending.windows_days
        rate = np.sum([demand[days] / days for days in windows], axis=0) / len(windows)
        rate = rate if rate.any() else demand[0].astype(np.float64)
        if not rate.any():
            raise TooLittleDataError("nothing was ever wanted by anybody")
        return cls((rate / rate.max()).astype(np.float32))

    def score(self, block: Interactions) -> Floats:
        return np.repeat(self.strength[None, :], len(block), axis=0)

    def say(self, block: Interactions) -> Alike:
        everybody = np.ones((len(block), 1), dtype=np.float32)
        return Alike(self.strength, np.zeros(len(self.strength), dtype=np.int64), everybody, self._order)

    @cached_property
    def _order(self) -> Ints:
        return ranked(self.strength, np.zeros(len(self.strength), dtype=np.int64))

    def save(self, file: Path) -> None:
        np.savez(file, strength=self.strength)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["strength"])

    def align(self, places: Ints) -> Self:
        return replace(self, strength=moved(self.strength, places))
