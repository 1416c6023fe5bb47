"""Placements: what each person is shown where, by the placement's rules, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tasks import blend, candidates, controls, default_lists, memory, owners, reasons
from tasks.candidates import Candidates
from tasks.controls import Controls
from tasks.evaluation import SIGNALS
from tasks.lake import known_buckets
from tasks.ranker import rank
from tasks.recommenders import Floats, Interactions, Ints
from tasks.settings import Config, Run
from tasks.training import Trained, write

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
    memory.keep_freed()
    lists = Lists()
    config, history = run.config, trained.history
    wishes = controls.load(con, history)
    cells = config.run.max_block_cells // candidates.TABLES
    with threadpool_limits(1, user_api="blas"):
        blocks = history.blocks(cells) if trained.families.models else iter(())
        # Blocks do not depend on the number of threads, and the pool keeps their order.
        with ThreadPoolExecutor(max_workers=config.run.threads) as pool:
            parts = list(pool.map(lambda part: _block(part[0], part[1], trained, wishes, config), blocks))
        default = default_lists.make(con, trained, config)
    shelved = _buckets(con, history.people, known_buckets(run.lake, config))
    personal = _personal([entries for entries, _ in parts], shelved, trained, config)
    short = _short([counts for _, counts in parts], trained, config)
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


def _block(start: int, block: Interactions, trained: Trained, wishes: Controls, config: Config) -> tuple[Columns, Ints]:
    """Entries of a block of people, whose first stands at `start`, in their order; and how many each person has in
    each placement."""
    voices = blend.opinions(trained.families, block, config.privacy.min_people)
    muted = controls.muted(wishes, block)
    policies = dict.fromkeys(settings.repeats for settings in config.placements.values())
    longest = max(settings.k for settings in config.placements.values())
    gathered = candidates.gather(voices, block, policies, max(candidates.PER_FAMILY, longest), muted)
    warmth = np.searchsorted(WARMTH, block.temperatures())
    parts: list[Columns] = []
    counts = np.zeros((len(config.placements), len(block)), dtype=np.int64)
    for number, placement in enumerate(sorted(config.placements)):
        settings = config.placements[placement]
        weights, ranker = trained.weights[settings.repeats], trained.rankers.get(settings.repeats)
        known = gathered[settings.repeats]
        mixed = blend.mix(known.scores, weights, known.valid)
        names_weights = (trained.families.names, weights, settings.repeats)
        scores, chances = rank(ranker, block, known, mixed, *names_weights)
        scores = controls.moderate(wishes, block, known, scores, trained.families.names, weights)
        scores = controls.renew(wishes, block, known, scores, settings.repeats, settings.k)
        spoken = controls.weights_of(wishes, block, trained.families.names, weights)
        entries = _entries(known, scores, chances, spoken, settings.k)
        code, reason = reasons.of(block, trained.families, entries.people, entries.items, entries.family)
        # No reason names an item that the person muted. What is similar stays so, without saying to what.
        silent = (reason >= 0) & controls.silenced(wishes, block, entries.people, reason)
        code[silent & (code != reasons.REASONS.index("similar_content"))] = reasons.REASONS.index("similar_taste")
        reason[silent] = -1
        nothing = np.full(len(code), np.nan)
        counts[number] = np.bincount(entries.people, minlength=len(block))
        parts.append(
            {
                "user_id": (start + entries.people).astype(np.uint32),
                "placement": np.full(len(code), number, dtype=np.uint32),
                "position": entries.position.astype(np.int32),
                "item_id": entries.items.astype(np.uint32),
                "score": np.round(entries.scores.astype(np.float64), blend.DECIMALS),
                **{f"p_{signal}": entries.chances.get(signal, nothing) for signal in SIGNALS},
                "reason_code": code.astype(np.uint32),
                "reason_item_id": reason,
                "recommender": entries.family.astype(np.uint32),
                "user_temperature": warmth[entries.people].astype(np.uint32),
            }
        )
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    # People are in byte order of their ids already.
    order = np.argsort(joined["user_id"].astype(np.int64) * len(parts) + joined["placement"], kind="stable")
    return {name: values[order] for name, values in joined.items()}, counts


def _buckets(con: duckdb.DuckDBPyConnection, people: Sequence[str], buckets: int) -> NDArray[np.int16]:
    """The bucket of each of these people, in a type that numpy sorts by counting."""
    con.register("listed", pl.DataFrame({"user_id": people}, schema={"user_id": pl.String}).to_arrow())
    try:
        found = con.execute(f"SELECT {owners.bucket_of('user_id', buckets)} AS bucket FROM listed").fetchnumpy()
    finally:
        con.unregister("listed")
    return np.asarray(found["bucket"], dtype=np.int16)


def _personal(blocks: Sequence[Columns], shelved: NDArray[np.int16], trained: Trained, config: Config) -> pl.DataFrame:
    """marts.recommendations: numbers become names, each of which is kept once.

    It is in the order of its publication, which by bucket (`shelved`, of each person) is another than that of the
    blocks: numbers are quicker to sort than what they stand for, and publishing need not write all of it once more.
    """
    names = {
        "user_id": trained.history.people,
        "placement": sorted(config.placements),
        "item_id": trained.history.catalogue.ids,
        "reason_code": reasons.REASONS,
        "recommender": trained.families.names,
        "user_temperature": WARMTH,
    }
    if not blocks:
        return pl.DataFrame(schema=SCHEMAS["recommendations"])
    order = np.argsort(np.concatenate([shelved[block["user_id"]] for block in blocks]), kind="stable")

    def ordered(name: str) -> pl.Series:
        return pl.Series(np.concatenate([block[name] for block in blocks])[order])

    with ThreadPoolExecutor(max_workers=config.run.threads) as pool:
        columns = dict(zip(blocks[0], pool.map(ordered, blocks[0]), strict=True))
    height = len(order)
    for name, known in names.items():
        columns[name] = columns[name].cat.to(pl.Enum(known))
    none = columns["reason_item_id"] < 0
    evidence = columns["reason_item_id"].clip(lower_bound=0).cast(pl.UInt32)
    columns["reason_item_id"] = evidence.cat.to(columns["item_id"].dtype).set(none, None)
    for signal in SIGNALS:
        columns[f"p_{signal}"] = columns[f"p_{signal}"].fill_nan(None)
    same = {"context": "any", "slot_type": "exploit", "arm": None, "model_version": trained.model_version}
    for name, value in same.items():
        columns[name] = pl.repeat(value, height, dtype=pl.Enum([value] if value else []), eager=True)
    columns["propensity"] = pl.repeat(1.0, height, dtype=pl.Float64, eager=True)
    return pl.DataFrame({name: columns[name] for name in SCHEMAS["recommendations"]})


def _short(counts: Sequence[Ints], trained: Trained, config: Config) -> pl.DataFrame:
    """marts.short_lists, from how many entries each person has in each placement."""
    if not counts:
        return pl.DataFrame(schema=SCHEMAS["short_lists"])
    rows = np.concatenate(counts, axis=1)
    placements = sorted(config.placements)
    wanted = np.array([config.placements[placement].k for placement in placements])
    people, few = np.nonzero(wanted > rows.T)
    whys = [NOTHING_MORE[config.placements[placement].repeats] for placement in placements]
    return pl.DataFrame(
        {
            "user_id": [trained.history.people[row] for row in people],
            "placement": [placements[row] for row in few],
            "rows": rows[few, people].astype(np.int32),
            "why": [whys[row] for row in few],
        },
        schema=SCHEMAS["short_lists"],
    )


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


WARMTH = ("cold", "hot", "warm")
"""In byte order."""
Columns = dict[str, NDArray[Any]]
"""Entries as numbers, by column; of a name, its place among the names."""


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
