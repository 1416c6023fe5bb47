"""Reasons: why each entry of a list is there, in a word, and the person's own item that speaks for it."""

from __future__ import annotations

import numpy as np

from tasks import blend
from tasks.recommenders import Flags, Floats, Interactions, Ints
from tasks.recommenders.als import Als
from tasks.recommenders.content import Content
from tasks.recommenders.ease import Ease
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.popular import Popular
from tasks.recommenders.repeat import Repeat
from tasks.recommenders.top_k import place

ENTRIES_AT_ONCE = {ItemItem.name: 10_000, Content.name: 500}
"""Entries whose evidence is looked for in one go. Few where each pair is two vectors, which stay near the processor so;
many where all pairs are looked up in one walk through the matrix."""
REASONS = (
    "trending", "popular", "bought_before", "liked_before", "because_you_bought", "because_you_liked", "similar_taste",
    "similar_content",
)  # fmt: skip
SOCIAL = (ItemItem.name, GraphFilter.name, Ease.name, Als.name)
"""Families whose reason is what other people did."""
EVIDENCE_ITEMS = 100
"""A person's strongest items that are looked through for a reason: more would cost and explain no better."""


def of(block: Interactions, families: blend.Families, people: Ints, items: Ints, family: Ints) -> tuple[Ints, Ints]:
    """The reason of each entry as its place in REASONS, and the position of its evidence item or −1.

    Evidence is always an item of the person's own, never a sensitive one. Where other people's behaviour links it to
    the entry, `min_people` of them do: the similarity holds no other pairs.
    """
    code = np.full(len(people), REASONS.index("trending"), dtype=np.int64)
    evidence = np.full(len(people), -1, dtype=np.int64)
    bought = block.at(block.purchases, people, items) > 0
    # Whichever family brought it: what the person bought before is the best reason.
    again = (bought & ~block.catalogue.sensitive[items]) | _of(families, family, Repeat.name)
    code[again] = np.where(bought[again], REASONS.index("bought_before"), REASONS.index("liked_before"))
    evidence[again] = items[again]
    kin = families.models.get(ItemItem.name)
    social = np.flatnonzero(_of(families, family, *SOCIAL) & ~again)
    code[social] = REASONS.index("similar_taste")
    if isinstance(kin, ItemItem):
        strength, own = _strongest(block, people[social], items[social], kin)
        found = social[strength > 0]
        evidence[found] = own[strength > 0]
        paid = block.at(block.purchases, people[found], evidence[found]) > 0
        code[found] = np.where(paid, REASONS.index("because_you_bought"), REASONS.index("because_you_liked"))
    reading = families.models.get(Content.name)
    alike = np.flatnonzero(_of(families, family, Content.name) & ~again)
    if isinstance(reading, Content):
        strength, own = _strongest(block, people[alike], items[alike], reading)
        code[alike] = REASONS.index("similar_content")
        evidence[alike] = np.where(strength > 0, own, -1)
    code[_of(families, family, Popular.name) & ~again] = REASONS.index("popular")
    return code, evidence


def _of(families: blend.Families, family: Ints, *names: str) -> Flags:
    """Which entries are of families with these names."""
    chosen = np.array([name in names for name in families.names], dtype=bool)
    return chosen[family] if len(family) else np.zeros(0, dtype=bool)


def _strongest(block: Interactions, people: Ints, items: Ints, model: ItemItem | Content) -> tuple[Floats, Ints]:
    """For each entry the person's own item that contributes most to it, and how much; of equal ones the first, and the
    person's stronger item is first."""
    own = block.evidence(block.weight)
    owners = np.repeat(np.arange(len(block)), np.diff(own.indptr))
    order = np.lexsort((own.indices, -own.data, owners))
    order = order[place(owners[order]) < EVIDENCE_ITEMS]
    mine, weight = own.indices[order].astype(np.int64), own.data[order]
    sizes = np.bincount(owners[order], minlength=len(block))
    starts = np.cumsum(sizes) - sizes
    strength, which = np.zeros(len(people), dtype=np.float32), np.full(len(people), -1, dtype=np.int64)
    known = np.flatnonzero(sizes[people] > 0)
    at_once = ENTRIES_AT_ONCE[model.name]
    for first in range(0, len(known), at_once):
        part = known[first : first + at_once]
        many = sizes[people[part]]
        ends = np.cumsum(many)
        entry = np.repeat(np.arange(len(part)), many)
        cells = starts[people[part]][entry] + np.arange(len(entry)) - (ends - many)[entry]
        theirs, item = mine[cells], items[part][entry]
        pull = np.where(theirs == item, 0, model.link(theirs, item)) * weight[cells]
        top = np.maximum.reduceat(pull, ends - many)
        reached = np.flatnonzero(pull == top[entry])
        reached = reached[place(entry[reached]) == 0]
        strength[part], which[part] = top, theirs[reached]
    return strength, which
