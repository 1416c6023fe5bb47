"""Floors: the least that any program would have to do for a step, with the same tools, settings and data.

Each floor returns what it took. It leaves out what makes the step trustworthy (verification, counting, rules, reasons,
hashes, syncing): its ratio is the price of that.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from tasks import contracts, quality
from tasks.contracts import Check, Contract, Layer, quote
from tasks.recommenders import Interactions
from tasks.recommenders.als import Als
from tasks.settings import Config

K = 20
"""Of the top k: as long as a published list."""
TOGETHER = 1024
"""People in one call."""


@dataclass(frozen=True)
class Spent:
    """Seconds by the clock, and of all cores: the second hardly depends on who else uses the machine."""

    wall: float = 0
    cpu: float = 0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.wall + other.wall, self.cpu + other.cpu)

    def __mul__(self, times: float) -> Spent:
        return Spent(self.wall * times, self.cpu * times)


def spent(do: Callable[..., object], *given: Any) -> Spent:
    """What `do(*given)` takes."""
    wall, cpu = time.perf_counter(), time.process_time()
    do(*given)
    return Spent(time.perf_counter() - wall, time.process_time() - cpu)


def copy_landed(con: duckdb.DuckDBPyConnection, room: Path) -> Spent:
    """Ingest: one COPY per table from typed CSV, one file per landing day, to one Parquet file.

    The CSV files hold the rows of `history.*`, clean and already of the contract's types, and are written before the
    clock starts. No verification, no quarantine, no duplicates, no buckets, no order.
    """
    total = Spent()
    for contract in contracts.all_of("landing"):
        folder = room / "typed" / contract.name
        names = ", ".join(f'"{c.name}"' for c in contract.columns)
        folder.mkdir(parents=True)
        con.execute(
            f"COPY (SELECT {names}, CAST(landed_on AS DATE) AS day FROM history.{contract.name}) "
            f"TO {quote(str(folder))} (FORMAT csv, HEADER, PARTITION_BY (day))"
        )
        files = sorted(str(f) for f in folder.rglob("*.csv"))
        types = ", ".join(f"{quote(c.name)}: {quote(c.type)}" for c in contract.columns)
        read = f"read_csv($files, header = true, columns = {{{types}}}, auto_detect = false, hive_partitioning = false)"
        target = quote(str(room / f"{contract.name}.parquet"))
        copy = f"COPY (FROM {read}) TO {target} (FORMAT parquet, COMPRESSION zstd)"
        total += spent(con.execute, copy, {"files": files}) if files else Spent()
    return total


def aggregate(con: duckdb.DuckDBPyConnection, layer: Layer) -> Spent:
    """Checks: one aggregate query per table that counts the rows failing each rule of its contract."""
    asked = [one_query(c) for c in contracts.all_of(layer) if c.name not in quality.WRITTEN_AFTERWARDS]
    return spent(lambda: [con.execute(query).fetchall() for query in asked])


def one_query(contract: Contract) -> str:
    """A SELECT with one column per rule: how many rows fail it. Rules that group rows are subqueries of it."""
    relation = f'{quality.SCHEMAS[contract.layer]}."{contract.name}"'
    counts = ", ".join(_failing(rule, relation) for rule in quality.rules(contract))
    return f"SELECT count(*), {counts} FROM {relation}"


def _failing(rule: Check, relation: str) -> str:
    given = rule.kwargs
    column = f'"{given.get("column")}"'
    if rule.type == quality.ROWS:
        query = str(given["unexpected_rows_query"]).format(batch=relation)
        condition = query.removeprefix(f"SELECT 1 FROM {relation} WHERE ")
        return f"(SELECT count(*) FROM ({query}))" if condition == query else f"count(*) FILTER (WHERE {condition})"
    if rule.type == "expect_column_values_to_not_be_null":
        return f"count(*) FILTER (WHERE {column} IS NULL)"
    if rule.type == "expect_column_values_to_be_in_set":
        return f"count(*) FILTER (WHERE {column} NOT IN ({', '.join(quote(str(v)) for v in given['value_set'])}))"
    if rule.type == "expect_column_values_to_be_between":
        bounds = (("<", given.get("min_value")), (">", given.get("max_value")))
        outside = " OR ".join(f"{column} {sign} {bound}" for sign, bound in bounds if bound is not None)
        return f"count(*) FILTER (WHERE {outside})"
    if rule.type == "expect_compound_columns_to_be_unique":
        key = ", ".join(f'"{name}"' for name in given["column_list"])
        return f"(SELECT count(*) FROM (SELECT 1 FROM {relation} GROUP BY {key} HAVING count(*) > 1))"
    if rule.type == "expect_table_row_count_to_be_between":
        return "count(*)"
    raise NotImplementedError(f"no floor for {rule.type}: say here how to count what fails it")


def fit_implicit(history: Interactions, config: Config) -> Spent:
    """ALS: implicit's own fit of the same matrix with the same settings, from its own random start."""
    settings = config.recommenders.als
    cells = _matrix(history, config)
    model = AlternatingLeastSquares(
        factors=settings.factors,
        regularization=settings.regularization,
        alpha=settings.confidence,
        iterations=settings.iterations,
        num_threads=config.run.threads,
        random_state=0,
    )
    with threadpool_limits(1, user_api="blas"):
        return spent(lambda: model.fit(cells, show_progress=False))


def top_k(history: Interactions, model: Als) -> dict[str, Spent]:
    """Seconds for everybody's top k by ALS: `ours`, the bare matrix `product`, and implicit's `recommend`.

    All three are given everybody's factors, folded in before the clock starts. Ours and `recommend` leave out what a
    person met; the product picks nothing. All have one thread: the night gives one to each block of people.
    """
    solver = AlternatingLeastSquares(factors=model.factors.shape[1], num_threads=1, random_state=0)
    solver.item_factors = model.factors
    every = np.ones(len(history.catalogue), dtype=bool)
    ours = product = theirs = Spent()
    with threadpool_limits(1, user_api="blas"):
        for _, block in history.blocks(TOGETHER * len(history.catalogue)):
            said, own = model.say(block), (block.owners(), block.columns.astype(np.int64))
            solver.user_factors = said.people
            rows, met = np.arange(len(block)), sp.csr_matrix(block.evidence(np.ones(len(block.columns))))
            ours += spent(said.best, K, every, own)
            product += spent(np.matmul, said.people, said.vectors.rows.T)
            theirs += spent(solver.recommend, rows, met, K)
    return {"ours": ours, "product": product, "recommend": theirs}


def copy_marts(con: duckdb.DuckDBPyConnection, room: Path) -> Spent:
    """Publish: one COPY per table to one Parquet file. No order, no buckets, no hash, no gate, no serving file."""
    total = Spent()
    for contract in contracts.all_of("marts"):
        target = quote(str(room / f"{contract.name}-mart.parquet"))
        total += spent(con.execute, f'COPY marts."{contract.name}" TO {target} (FORMAT parquet, COMPRESSION zstd)')
    return total


def _matrix(history: Interactions, config: Config) -> sp.csr_matrix:
    return sp.csr_matrix(history.evidence(history.fresh(config.recommenders.als.half_life_days)))
