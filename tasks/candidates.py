"""Candidates: for each person the best items of every family, what the blend mixes and a ranker ranks.

They are all that is looked at after the families have scored the catalogue, and a hundredth of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.recommenders import Flags, Floats, Interactions, Ints, locate
from tasks.recommenders.opinions import Cells, Opinion
from tasks.recommenders.top_k import best, place
from tasks.settings import Repeats

__all__ = ["PER_FAMILY", "Candidates", "Voice", "best", "gather"]

PER_FAMILY = 50
"""Of one family for one person: five times what people see, so that a mix finds its top in the union."""
TABLES = 5
"""Of people × items that a block holds at once: two families' scores, their copies on the way, and what happened."""
NOTHING: Cells = (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class Candidates:
    """For each person the union of every family's best items."""

    items: Ints
    """people × candidates: positions in the catalogue."""
    valid: Flags
    """people × candidates: rows are as long as the longest union; the rest is padding."""
    scores: Floats
    """families × people × candidates, on the common scale."""

    def take(self, people: Flags) -> Candidates:
        """Of these people only."""
        return Candidates(self.items[people], self.valid[people], self.scores[:, people])

    def listed(self, scores: Floats, k: int) -> tuple[Ints, Flags, Ints]:
        """People × k by these scores of the candidates: items, which entries are real, and where they stood."""
        places, values = best(scores, min(k, scores.shape[1]))
        return np.take_along_axis(self.items, places, axis=1), values > 0, places

    def ranks(self) -> Ints:
        """Families × people × candidates, from 1; equal scores by position."""
        order = np.argsort(-np.where(self.valid, self.scores, -1), axis=2, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(1, order.shape[2] + 1)[None, None, :], axis=2)
        return ranks


@dataclass(frozen=True)
class Voice:
    """One family's opinion of a block, and the items that it may bring to somebody who did not meet them."""

    opinion: Opinion
    may: Flags


def gather(
    voices: Sequence[Voice], block: Interactions, policies: Iterable[Repeats], per_family: int = PER_FAMILY,
    muted: Cells = NOTHING,
) -> dict[Repeats, Candidates]:  # fmt: skip
    """By policy, the best `per_family` permitted items of each family that has something to say about them.

    Each family's scores of a person are divided by that person's highest among what may be shown, so that they are 0–1
    on one scale. Policies differ by the few items that a person met. All others are searched once, whatever the policy.

    Args:
        voices: by family what it says of the block.
        block: these people.
        policies: see `blend.allowed`.
        per_family: at least as many as a list is long.
        muted: pairs in order that are no candidates; they count for the highest.
    """
    shown, own = block.catalogue.recommendable, (block.owners(), block.columns.astype(np.int64))
    silent = locate(block.keys(), _keys(block, muted))[1]
    met = shown[own[1]] & ~silent
    bits = {policy: np.int64(1 << number) for number, policy in enumerate(policies)}
    aside = np.concatenate((own[0], muted[0])), np.concatenate((own[1], muted[1]))
    peaks, parts = [], [np.zeros(0, dtype=np.int64)]
    for voice in voices:
        values = voice.opinion.at(*aside)
        rows, items, leading = voice.opinion.best(per_family, voice.may, aside)
        may = voice.may[aside[1]]
        may[: len(met)] = shown[own[1]]
        peak = np.zeros(len(block), dtype=np.float32)
        first = place(rows) == 0
        peak[rows[first]] = leading[first]
        np.maximum.at(peak, aside[0][may], values[may])
        peaks.append(np.where(peak > 0, peak, 1))
        said = met & (values[: len(met)] > 0)
        again = own[0][said], own[1][said], values[: len(met)][said]
        parts += _found(block, again, block.had_cells()[said], (rows, items, leading), bits, per_family)
    return _unions(voices, peaks, np.concatenate(parts), block, bits)


Scored = tuple[Ints, Ints, Floats]
"""Person, item and score."""


def _found(
    block: Interactions, again: Scored, had: Flags, new: Scored, bits: Mapping[Repeats, np.int64], most: int
) -> Iterator[Ints]:
    """Keys of the pairs that one family brings to any policy, each with the bits of policies that it is brought to."""
    old_bits, new_bits = np.zeros(len(again[0]), dtype=np.int64), np.zeros(len(new[0]), dtype=np.int64)
    for policy, bit in bits.items():
        if policy == "never":
            new_bits |= bit
        elif policy == "only":
            old_bits[had] |= bit * _leading(again[0][had], again[1][had], again[2][had], most)
        else:
            rows, items = np.concatenate((again[0], new[0])), np.concatenate((again[1], new[1]))
            both = _leading(rows, items, np.concatenate((again[2], new[2])), most)
            old_bits |= bit * both[: len(old_bits)]
            new_bits |= bit * both[len(old_bits) :]
    for pairs, brought in ((again, old_bits), (new, new_bits)):
        kept = brought > 0
        yield (_keys(block, (pairs[0][kept], pairs[1][kept])) << len(bits)) | brought[kept]


def _leading(rows: Ints, items: Ints, values: Floats, most: int) -> Flags:
    """Which are among the `most` highest of their row, equal ones by position."""
    if len(rows) == 0 or np.bincount(rows).max() <= most:
        return np.ones(len(rows), dtype=bool)
    # Bits of floats above 0 are ordered as the floats are. Row, value and item share a number of 64 bits, as long as a
    # block has fewer than 2³² cells.
    descending = (rows << np.int64(31)) - values.view(np.int32)
    order = np.argsort(descending * (items.max() + 1) + items)
    leading = np.zeros(len(rows), dtype=bool)
    leading[order] = place(rows[order]) < most
    return leading


def _unions(
    voices: Sequence[Voice], peaks: Sequence[Floats], entries: Ints, block: Interactions,
    bits: Mapping[Repeats, np.int64],
) -> dict[Repeats, Candidates]:  # fmt: skip
    """What any family brought, by policy; entries are keys of pairs, each followed by the bits of policies."""
    entries.sort()
    keys = entries >> len(bits)
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    brought = np.bitwise_or.reduceat(entries, starts) if len(starts) else entries
    keys = keys[starts]
    people, items = np.divmod(keys, max(1, len(block.catalogue)))
    known = locate(keys, block.keys())[1]
    scores = np.empty((len(voices), len(keys)), dtype=np.float32)
    for row, voice, peak in zip(scores, voices, peaks, strict=True):
        np.divide(voice.opinion.at(people, items), peak[people], out=row)
        row[~(known | voice.may[items])] = 0
    unions = {}
    for policy, bit in bits.items():
        chosen = np.flatnonzero(brought & bit)
        sizes = np.bincount(people[chosen], minlength=len(block))
        valid = np.arange(sizes.max(initial=0))[None, :] < sizes[:, None]
        table = np.zeros(valid.shape, dtype=np.int64)
        table[valid] = items[chosen]
        spread = np.zeros((len(voices), *valid.shape), dtype=np.float32)
        spread[:, valid] = scores[:, chosen]
        unions[policy] = Candidates(table, valid, spread)
    return unions


def _keys(block: Interactions, cells: Cells) -> Ints:
    return cells[0] * np.int64(len(block.catalogue)) + cells[1]
