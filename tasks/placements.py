"""Placements: what each person is shown where, by the placement's rules, and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, candidates, controls, default_lists
from tasks.candidates import Candidates
from tasks.controls import Controls
from tasks.evaluation import SIGNALS
from tasks.ranker import rank
from tasks.recommenders import Floats, Interactions, Ints
from tasks.recommenders.als import Als
from tasks.recommenders.content import Content
from tasks.recommenders.ease import Ease
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.popular import Popular
from tasks.recommenders.repeat import Repeat
from tasks.settings import Config, Run
from tasks.training import Trained, write

SOCIAL = (ItemItem.name, GraphFilter.name, Ease.name, Als.name)
"""Families whose reason is what other people did."""
EVIDENCE_ITEMS = 100
"""A person's strongest items that are looked through for a reason: more would cost and explain no better."""
NOTHING_MORE = {
    "allowed": "no_more_items_that_may_be_shown",
    "never": "no_more_items_that_are_new",
    "only": "no_more_items_to_repeat",
}


@dataclass
class Lists:
    """What `recommend` did, in counts."""

    rows: dict[str, int] = field(default_factory=dict)
    """Per placement."""
    people: int = 0
    """With at least one entry anywhere."""
    without_history: int = 0
    """Allowed, but with no usable event: they are served the default lists."""
    short: dict[str, int] = field(default_factory=dict)
    """Lists with fewer than k entries, per placement."""
    default_rows: int = 0


@dataclass(frozen=True)
class _Entries:
    """Entries of one placement in one block, flat: ascending person, then position."""

    people: Ints
    position: Ints
    items: Ints
    scores: Floats
    family: Ints
    chances: Mapping[str, NDArray[np.float64]]
    """By signal, where a ranker knows."""


def recommend(con: duckdb.DuckDBPyConnection, run: Run, trained: Trained) -> Lists:
    """Write `marts.recommendations`, `short_lists`, `default_recommendations` and `muted_items`.

    Args:
        con: the night's catalogue, with `staging.people`, `staging.users` and `features.item_attributes`.
        run: its placements and privacy floor.
        trained: whose history is the one as of the run.

    Returns:
        Counts only.
    """
    lists = Lists()
    config, history = run.config, trained.history
    wishes = controls.load(con, history)
    cells = config.run.max_block_cells // (len(trained.families.models) + 1)
    with threadpool_limits(1, user_api="blas"):
        blocks = (block for _, block in history.blocks(cells)) if trained.families.models else iter(())
        # Blocks do not depend on the number of threads, and the pool keeps their order.
        with ThreadPoolExecutor(max_workers=config.run.threads) as pool:
            lists_of = pool.map(lambda block: list(_block(block, trained, wishes, config)), blocks)
            frames = [frame for block in lists_of for frame in block]
        personal = pl.concat([_empty("recommendations"), *(f for f, _ in frames)]).sort(
            "user_id", "placement", "context", "position"
        )
        short = pl.concat([_empty("short_lists"), *(s for _, s in frames)]).sort("user_id", "placement")
        default = default_lists.make(con, trained, config)
    write(con, "recommendations", personal)
    write(con, "short_lists", short)
    write(con, "default_recommendations", default)
    default_lists.mute(con)
    lists.rows = {p: personal.filter(pl.col("placement") == p).height for p in config.placements}
    lists.short = {p: short.filter(pl.col("placement") == p).height for p in config.placements}
    lists.people = personal["user_id"].n_unique()
    (allowed,) = con.execute("SELECT count(*) FROM staging.people WHERE personalization").fetchall()[0]
    lists.without_history = int(allowed) - len(history)
    lists.default_rows = default.height
    return lists


def _block(
    block: Interactions, trained: Trained, wishes: Controls, config: Config
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Entries and short lists of a block of people, placement by placement."""
    voices = blend.opinions(trained.families, block, config.privacy.min_people)
    muted = controls.muted(wishes, block)
    policies = dict.fromkeys(settings.repeats for settings in config.placements.values())
    longest = max(settings.k for settings in config.placements.values())
    gathered = candidates.gather(voices, block, policies, max(candidates.PER_FAMILY, longest), muted)
    warmth = block.temperatures()
    ids, names = np.array(block.people, dtype=object), np.array(trained.families.names, dtype=object)
    items = np.array(block.catalogue.ids, dtype=object)
    for placement, settings in config.placements.items():
        weights, ranker = trained.weights[settings.repeats], trained.rankers.get(settings.repeats)
        known = gathered[settings.repeats]
        mixed = blend.mix(known.scores, weights, known.valid)
        names_weights = (trained.families.names, weights, settings.repeats)
        scores, chances = rank(ranker, block, known, mixed, *names_weights)
        scores = controls.moderate(wishes, block, known, scores, trained.families.names, weights)
        scores = controls.renew(wishes, block, known, scores, settings.repeats, settings.k)
        spoken = controls.weights_of(wishes, block, trained.families.names, weights)
        entries = _entries(known, scores, chances, spoken, settings.k)
        code, reason = reasons(block, trained.families, entries.people, entries.items, entries.family)
        controls.hush(wishes, block, entries.people, code, reason)
        frame = pl.DataFrame(
            {
                "user_id": ids[entries.people].astype(object),
                "placement": [placement] * len(entries.people),
                "context": ["any"] * len(entries.people),
                "position": entries.position.astype(np.int32),
                "item_id": items[entries.items],
                "score": np.round(entries.scores.astype(np.float64), blend.DECIMALS),
                **{f"p_{signal}": entries.chances.get(signal) for signal in SIGNALS},
                "reason_code": code,
                "reason_item_id": [None if i < 0 else items[i] for i in reason],
                "recommender": names[entries.family],
                "user_temperature": warmth[entries.people].tolist(),
                "slot_type": ["exploit"] * len(entries.people),
                "propensity": np.ones(len(entries.people)),
                "arm": [None] * len(entries.people),
                "model_version": [trained.model_version] * len(entries.people),
            },
            schema=SCHEMAS["recommendations"],
        )
        rows = np.bincount(entries.people, minlength=len(block))
        few = np.flatnonzero(rows < settings.k)
        short = pl.DataFrame(
            {
                "user_id": ids[few],
                "placement": [placement] * len(few),
                "rows": rows[few].astype(np.int32),
                "why": [NOTHING_MORE[settings.repeats]] * len(few),
            },
            schema=SCHEMAS["short_lists"],
        )
        yield frame, short


def _entries(
    known: Candidates, scores: Floats, chances: Mapping[str, Floats], weights: NDArray[np.float64], k: int
) -> _Entries:
    items, listed, places = known.listed(scores, k)
    people, positions = np.nonzero(listed)
    at = places[people, positions]
    shares = known.scores[:, people, at] * weights.astype(np.float32)[:, people]
    told = {signal: np.asarray(np.round(chance[people, at], blend.DECIMALS), dtype=np.float64)
            for signal, chance in chances.items()}  # fmt: skip
    # Of equal contributions the family that is named first.
    family = np.argmax(shares, axis=0)
    return _Entries(people, positions + 1, items[people, positions], scores[people, at], family, told)


def reasons(
    block: Interactions, families: blend.Families, people: Ints, items: Ints, family: Ints
) -> tuple[NDArray[np.object_], Ints]:
    """The reason code of each entry, and the position of its evidence item or −1.

    Evidence is always an item of the person's own, never a sensitive one. Where other people's behaviour links it to
    the entry, `min_people` of them do: the similarity holds no other pairs.
    """
    names = np.array(families.names, dtype=object)[family] if len(family) else np.zeros(0, dtype=object)
    code = np.full(len(people), "trending", dtype=object)
    evidence = np.full(len(people), -1, dtype=np.int64)
    bought = block.at(block.purchases, people, items) > 0
    # Whichever family brought it: what the person bought before is the best reason.
    names = np.where(bought & ~block.catalogue.sensitive[items], Repeat.name, names)
    again = names == Repeat.name
    code[again] = np.where(bought[again], "bought_before", "liked_before")
    evidence[again] = items[again]
    kin = families.models.get(ItemItem.name)
    social = np.flatnonzero(np.isin(names, SOCIAL))
    code[social] = "similar_taste"
    if isinstance(kin, ItemItem):
        strength, own = _strongest(block, people[social], items[social], kin)
        found = social[strength > 0]
        evidence[found] = own[strength > 0]
        paid = block.at(block.purchases, people[found], evidence[found]) > 0
        code[found] = np.where(paid, "because_you_bought", "because_you_liked")
    reading = families.models.get(Content.name)
    alike = np.flatnonzero(names == Content.name)
    if isinstance(reading, Content):
        strength, own = _strongest(block, people[alike], items[alike], reading)
        code[alike] = "similar_content"
        evidence[alike] = np.where(strength > 0, own, -1)
    code[names == Popular.name] = "popular"
    return code, evidence


def _strongest(block: Interactions, people: Ints, items: Ints, model: ItemItem | Content) -> tuple[Floats, Ints]:
    """For each entry the person's own item that contributes most to it, and how much; of equal ones the first."""
    own = block.evidence(block.weight)
    sizes = np.diff(own.indptr)
    order = np.lexsort((own.indices, -own.data, np.repeat(np.arange(len(sizes)), sizes)))
    depth = int(min(EVIDENCE_ITEMS, sizes.max(initial=0)))
    # people × depth: the strongest items of each person, padded with weight 0.
    places = own.indptr[:-1, None] + np.arange(depth)[None, :]
    real = np.arange(depth)[None, :] < sizes[:, None]
    cells = order[np.where(real, places, 0)] if len(order) else np.zeros((len(sizes), depth), dtype=np.int64)
    mine = np.where(real, own.indices[cells] if len(order) else 0, 0)
    weight = np.where(real, own.data[cells] if len(order) else 0, 0).astype(np.float32)
    strength = np.zeros(len(people), dtype=np.float32)
    which = np.full(len(people), -1, dtype=np.int64)
    if depth == 0:
        return strength, which
    for start in range(0, len(people), ENTRIES_AT_ONCE):
        part = slice(start, start + ENTRIES_AT_ONCE)
        theirs, item = mine[people[part]], items[part, None]
        links = np.where(theirs == item, 0, model.link(theirs, np.broadcast_to(item, theirs.shape)))
        pull = links * weight[people[part]]
        top = np.argmax(pull, axis=1)
        rows = np.arange(len(top))
        strength[part], which[part] = pull[rows, top], theirs[rows, top]
    return strength, which


ENTRIES_AT_ONCE = 20_000
"""Entries whose evidence is looked for in one go: bounds memory at EVIDENCE_ITEMS times as many numbers."""


SCHEMAS = {
    "recommendations": {
        "user_id": pl.String, "placement": pl.String, "context": pl.String, "position": pl.Int32, "item_id": pl.String,
        "score": pl.Float64, "p_click": pl.Float64, "p_purchase": pl.Float64, "p_helpful": pl.Float64,
        "reason_code": pl.String, "reason_item_id": pl.String, "recommender": pl.String, "user_temperature": pl.String,
        "slot_type": pl.String,
        "propensity": pl.Float64, "arm": pl.String, "model_version": pl.String,
    },
    "short_lists": {"user_id": pl.String, "placement": pl.String, "rows": pl.Int32, "why": pl.String},
}  # fmt: skip


def _empty(name: str) -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMAS[name])
