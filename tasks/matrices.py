"""Public interaction matrices: read, cut into two, and seen as a history of people and items."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from tasks.errors import ConfigurationError, MissingInputError
from tasks.recommenders import FACTS, Catalogue, Flags, Interactions

HELD_OUT = 0.15
"""Of the training cells, by a seeded draw: about the share that public splits of this kind hide from it."""


def read(file: Path) -> sp.csr_array:
    """The positive cells of a saved sparse matrix, as ones in canonical order."""
    if not file.is_file():
        raise MissingInputError(f"{file}: no such file")
    try:
        found = sp.load_npz(file)
        cells = sp.csr_array(found) if found.ndim == 2 else None
        finite = cells is not None and np.isfinite(cells.data.astype(np.float64)).all() and (cells.data >= 0).all()
        if cells is not None:
            cells.check_format(full_check=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error, EOFError):
        raise ConfigurationError(f"{file}: is no sparse matrix of scipy.sparse.save_npz") from None
    if cells is None or not finite:
        raise ConfigurationError(f"{file}: is no people × items matrix of finite numbers from 0 on")
    cells.sum_duplicates()
    cells.eliminate_zeros()
    cells.sort_indices()
    return sp.csr_array((np.ones(cells.nnz, dtype=np.float32), cells.indices, cells.indptr), shape=cells.shape)


def held_out(cells: sp.csr_array, seed: int) -> tuple[sp.csr_array, sp.csr_array]:
    """What stays to learn from, and what is hidden to choose by; nobody loses the only cell."""
    draw = np.random.default_rng(seed).random(cells.nnz)
    sizes = np.diff(cells.indptr)
    first = np.zeros(cells.nnz, dtype=bool)
    first[cells.indptr[:-1][sizes > 0]] = True
    hidden = (draw < HELD_OUT) & ~first
    return only(cells, ~hidden), only(cells, hidden)


def interactions(cells: sp.csr_array) -> Interactions:
    """Every cell as one fresh event that counts as a purchase; ids are positions."""
    people, items = cells.shape
    met = np.bincount(cells.indices, minlength=items).astype(np.int64)
    catalogue = Catalogue(
        ids=tuple(f"{n:09}" for n in range(items)),
        text=("",) * items,
        people=met,
        demand=dict.fromkeys((0, 7, 14, 28, 90), met),
        sold=True,
        newest=np.arange(items),
        recommendable=np.ones(items, dtype=bool),
        sensitive=np.zeros(items, dtype=bool),
    )
    ones, young = np.ones(cells.nnz, dtype=np.float32), np.zeros(cells.nnz, dtype=np.float32)
    facts = {name: young if name.endswith("_age") else ones for name in FACTS}
    return Interactions(
        catalogue=catalogue,
        people=tuple(f"{n:09}" for n in range(people)),
        indptr=cells.indptr.astype(np.int64),
        half_life_days=1.0,
        **{**facts, "columns": cells.indices.astype(np.int32)},
    )


def only(cells: sp.csr_array, kept: Flags) -> sp.csr_array:
    """The flagged cells, in the same shape."""
    indptr = np.concatenate(([0], np.cumsum(kept)))[cells.indptr]
    return sp.csr_array((cells.data[kept], cells.indices[kept], indptr), shape=cells.shape)


def size(cells: sp.csr_array) -> str:
    """The shape, for people."""
    return f"{cells.shape[0]:,} × {cells.shape[1]:,}"
