"""Content: what reads like what the person had, whoever else met it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from tasks.recommenders import Floats, Interactions, Ints, TooLittleDataError, moved, product
from tasks.settings import Config


@dataclass(frozen=True)
class Content:
    """score(u, i) = cos(profile(u), v(i)), with v the TF-IDF vectors of the catalogue's text.

    They are reduced by a truncated SVD unless they are that short already.

    profile(u) is the sum of v over the person's items, weighted by the decayed history. It reads the catalogue, never
    other people: the one family that brings untouched items. Latent semantic analysis after Deerwester et al. (1990).
    Cost: a randomized SVD of items × terms once; people × items × dimensions to score.
    """

    name: ClassVar[str] = "content"
    vectors: Floats
    """items × dimensions, of length 1, or 0 where the item has no usable text."""

    @classmethod
    def fit(cls, history: Interactions, config: Config) -> Self:
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer

        settings = config.recommenders.content
        reader = TfidfVectorizer(
            ngram_range=(1, 2), min_df=2, max_features=settings.max_terms, sublinear_tf=True, dtype=np.float32
        )
        try:
            terms = reader.fit_transform(history.catalogue.text)
        except ValueError:
            raise TooLittleDataError("no word is shared by two items") from None
        if min(terms.shape) <= settings.dimensions:
            return cls(_unit(terms.toarray()))
        reduced = TruncatedSVD(n_components=settings.dimensions, random_state=config.run.seed).fit_transform(terms)
        return cls(_unit(reduced.astype(np.float32)))

    def score(self, block: Interactions) -> Floats:
        profiles = _unit((block.evidence(block.weight) @ self.vectors).astype(np.float32))
        scores: Floats = np.maximum(product(profiles, self.vectors), 0)
        return scores

    def link(self, own: Ints, other: Ints) -> Floats:
        """The cosine of two items, cell by cell."""
        cosine: Floats = np.maximum(np.einsum("...d,...d->...", self.vectors[own], self.vectors[other]), 0)
        return cosine

    def save(self, file: Path) -> None:
        np.savez(file, vectors=self.vectors)

    @classmethod
    def load(cls, file: Path) -> Self:
        with np.load(file, allow_pickle=False) as saved:
            return cls(saved["vectors"])

    def align(self, places: Ints) -> Self:
        return replace(self, vectors=moved(self.vectors, places))


def _unit(vectors: Floats) -> Floats:
    """Each row at length 1; a row without length stays 0."""
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))[:, None]
    unit: Floats = np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 1e-6)
    return unit
