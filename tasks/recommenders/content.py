"""Content: what reads like what the person had, whoever else met it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved
from tasks.recommenders.products import Products, Vectors
from tasks.settings import Config


@dataclass(frozen=True)
class Content:
    """score(u, i) = cos(profile(u), v(i)), with v the TF-IDF vectors of the catalogue's text.

    They are reduced by a truncated SVD unless they are that short already, and centred: what all texts share tells no
    two apart (Mu and Viswanath, "All-but-the-top", ICLR 2018).

    profile(u) is the sum of v over the person's items, weighted by a history that decays slowly: tastes in kinds of
    things outlast seasons. What a person disliked counts against. It reads the catalogue, never other people: the one
    family that brings untouched items. Latent semantic analysis after Deerwester et al. (1990).
    Cost: a randomized SVD of items × terms once; people × items × dimensions to score.
    """

    name: ClassVar[str] = "content"
    vectors: Floats
    """items × dimensions, of length 1, or 0 where the item has no usable text."""
    half_life_days: float

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        settings = config.recommenders.content
        vectors = _read(history.catalogue.text, settings.max_terms, settings.dimensions, config.run.seed)
        return cls(vectors, settings.half_life_days)

    def score(self, block: Interactions) -> Floats:
        return self.say(block).table()

    def say(self, block: Interactions) -> Products:
        rate = np.float32(1 / self.half_life_days - 1 / block.half_life_days)
        weight = block.weight * np.exp2(-block.last_age * rate)
        opinion = block.evidence(weight) - block.evidence(-weight)
        return Products(_unit((opinion @ self.vectors).astype(np.float32)), self._searched)

    def link(self, own: Ints, other: Ints) -> Floats:
        """The cosine of two items, cell by cell."""
        cosine: Floats = np.maximum(np.einsum("...d,...d->...", self.vectors[own], self.vectors[other]), 0)
        return cosine

    @cached_property
    def _searched(self) -> Vectors:
        return Vectors(self.vectors)

    def save(self, file: Path) -> None:
        np.savez(file, vectors=self.vectors, half_life_days=self.half_life_days)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["vectors"], float(saved["half_life_days"]))

    def align(self, places: Ints) -> Self:
        return replace(self, vectors=moved(self.vectors, places))


def warm_up() -> None:
    """Import scikit-learn, so that the first fit need not wait for it."""
    import sklearn.decomposition
    import sklearn.feature_extraction.text  # noqa: F401 - is only to be there


@lru_cache(maxsize=1)
def _read(texts: tuple[str, ...], max_terms: int, dimensions: int, seed: int) -> Floats:
    """A vector for each text. They are the same in all windows of a night where no item came or changed."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    reader = TfidfVectorizer(ngram_range=(1, 2), min_df=2, max_features=max_terms, sublinear_tf=True, dtype=np.float32)
    try:
        terms = reader.fit_transform(texts)
    except ValueError:
        raise TooLittleDataError("no word is shared by two items") from None
    if min(terms.shape) <= dimensions:
        return _centred(_unit(terms.toarray()))
    reduced = TruncatedSVD(n_components=dimensions, random_state=seed).fit_transform(terms)
    return _centred(_unit(reduced.astype(np.float32)))


def _centred(vectors: Floats) -> Floats:
    """Without what they have in common, at length 1 again; one without text stays 0, and so do all if there is one."""
    worded = np.any(vectors, axis=1)
    if not worded.any():
        return vectors
    mean = vectors[worded].mean(axis=0, dtype=np.float64).astype(np.float32)
    return _unit(np.where(worded[:, None], vectors - mean, 0).astype(np.float32))


def _unit(vectors: Floats) -> Floats:
    """Each row at length 1; a row without length stays 0."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    unit: Floats = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-6)
    return unit
