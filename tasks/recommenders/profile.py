"""Profile: what people like them choose, before anybody knows what they choose themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from tasks.recommenders import Flags, Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.settings import Config


@dataclass(frozen=True)
class Profile:
    """score(u, i) = q(i) × mean over traits t that u told of (n(t, i) + m q(i)) / ((n(t) + m) q(i)).

    n(t) is the number of people who told the same (country, age band, …) and lately liked anything, n(t, i) how many of
    them liked i, q(i) the share of everybody who did: a group's own popularity, shrunk towards everybody's by m people
    (empirical Bayes with a fixed prior; Efron and Morris, "Stein's paradox in statistics", 1977). A group below
    `min_people`, and an item that fewer of a group liked, are as if the group were like everybody. Demographic
    filtering after Pazzani, "A framework for collaborative, content-based and demographic filtering" (1999).
    Cost: one pass over the cells to fit; people × groups × items to score. It has no part in the blend until some data
    speak for it: docs/decisions/0006-families-that-were-measured.md.
    """

    name: ClassVar[str] = "profile"
    groups: tuple[str, ...]
    """`trait=value`, in byte order."""
    share: Floats
    """1 + groups × items: q, then the smoothed share within each group."""

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings, few = config.recommenders.profile, config.privacy.min_people
        liked = liking(history, settings.recent_days)
        lately = np.flatnonzero(np.diff(liked.indptr))
        named = memberships(history.traits, settings.traits)
        names = sorted({name for of in named.values() for name in of.tolist() if name})
        groups = [name for name in names if np.count_nonzero(_in(named, name)[lately]) >= few]
        if not groups or not len(lately):
            raise TooLittleDataError(f"no group of {few} people told the same of themselves")
        everybody = np.asarray(liked.sum(axis=0), dtype=np.float64).ravel() / len(lately)
        shares = [everybody]
        for name in groups:
            here = _in(named, name)
            counts = np.asarray(liked[np.flatnonzero(here)].sum(axis=0), dtype=np.int64).ravel()
            size = np.count_nonzero(here[lately])
            smoothed = (counts + settings.prior_people * everybody) / (size + settings.prior_people)
            shares.append(np.where(counts >= few, smoothed, everybody))
        return cls(tuple(groups), np.array(shares, dtype=np.float32))

    def score(self, block: Interactions) -> Floats:
        mixture = np.zeros((len(block), len(self.share)), dtype=np.float32)
        traits = sorted({name.partition("=")[0] for name in self.groups})
        place = {name: row for row, name in enumerate(self.groups, start=1)}
        for of in memberships(block.traits, tuple(traits)).values():
            rows = np.array([place.get(name, 0) for name in of.tolist()], dtype=np.int64)
            np.add.at(mixture, (np.arange(len(block)), rows), rows > 0)
        told = mixture.sum(axis=1)
        # Whoever told nothing gets no opinion: that is what trending and popular are for.
        found: Floats = (mixture / np.maximum(told, 1)[:, None]) @ self.share
        return found

    def save(self, file: Path) -> None:
        np.savez(file, groups=np.array(self.groups, dtype=np.str_), share=self.share)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(tuple(saved["groups"].tolist()), saved["share"])

    def align(self, places: Ints) -> Self:
        return replace(self, share=np.ascontiguousarray(moved(self.share.T, places).T))


def liking(history: Interactions, recent_days: float) -> sp.csr_array:
    """People × items, 1 where somebody likes the item on balance and last met it within so many days."""
    return history.evidence(((history.weight > 0) & (history.last_age <= recent_days)).astype(np.float32))


def memberships(traits: Mapping[str, NDArray[np.str_]], wanted: tuple[str, ...]) -> dict[str, NDArray[np.str_]]:
    """Per trait, each person's group as `trait=value`; empty where nothing was told."""
    told = {name: traits[name] for name in wanted if name in traits}
    return {name: np.where(values != "", np.char.add(f"{name}=", values), "") for name, values in told.items()}


def _in(named: Mapping[str, NDArray[np.str_]], name: str) -> Flags:
    found: Flags = named[name.partition("=")[0]] == name
    return found
