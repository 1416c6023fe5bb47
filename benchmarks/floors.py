"""Floors: the least that any program would have to do for a step, with the same tools, settings and data.

Each floor returns its seconds. It leaves out what makes the step trustworthy (verification, counting, rules, reasons,
hashes, syncing): its ratio is the price of that.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
import numpy as np
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares
from threadpoolctl import threadpool_limits

from tasks import blend, contracts, quality
from tasks.contracts import Check, Contract, Layer, quote
from tasks.recommenders import Floats, Interactions
from tasks.recommenders.als import Als
from tasks.settings import Config

K = 20
"""Of the top k: as long as a published list."""


@contextmanager
def clock() -> Iterator[list[float]]:
    """Holds the seconds of the block once that is over."""
    seconds: list[float] = []
    began = time.perf_counter()
    yield seconds
    seconds.append(time.perf_counter() - began)


def copy_landed(con: duckdb.DuckDBPyConnection, room: Path) -> float:
    """Ingest: one COPY per table from typed CSV, one file per landing day, to one Parquet file.

    The CSV files hold the rows of `history.*`, clean and already of the contract's types, and are written before the
    clock starts. No verification, no quarantine, no duplicates, no buckets, no order.
    """
    total = 0.0
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
        with clock() as seconds:
            if files:
                target = quote(str(room / f"{contract.name}.parquet"))
                con.execute(f"COPY (FROM {read}) TO {target} (FORMAT parquet, COMPRESSION zstd)", {"files": files})
        total += sum(seconds)
    return total


def aggregate(con: duckdb.DuckDBPyConnection, layer: Layer) -> float:
    """Checks: one aggregate query per table that counts the rows failing each rule of its contract."""
    with clock() as seconds:
        for contract in contracts.all_of(layer):
            if contract.name not in quality.WRITTEN_AFTERWARDS:
                con.execute(one_query(contract)).fetchall()
    return sum(seconds)


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


def fit_implicit(history: Interactions, config: Config) -> float:
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
    with threadpool_limits(1, user_api="blas"), clock() as seconds:
        model.fit(cells, show_progress=False)
    return sum(seconds)


def top_k(history: Interactions, model: Als, config: Config) -> dict[str, float]:
    """Seconds for everybody's top k by ALS: `ours`, the bare matrix `product`, and implicit's `recommend`.

    Ours folds a person in and picks among what is scored; so does `recommend`, given the item factors and told to
    recalculate. The product multiplies random person factors with the items in single precision, and picks nothing. All
    three have one thread: the night gives one to each block of people.
    """
    solver = AlternatingLeastSquares(
        factors=model.factors.shape[1],
        regularization=model.regularization,
        alpha=model.confidence,
        num_threads=1,
        random_state=0,
    )
    solver.item_factors = model.factors
    people: Floats = np.random.default_rng(0).random((len(history), model.factors.shape[1]), dtype=np.float32)
    ours, product, theirs = 0.0, 0.0, 0.0
    with threadpool_limits(1, user_api="blas"):
        for start, block in history.blocks(config.run.max_block_cells):
            rows = np.arange(len(block))
            with clock() as seconds:
                blend.best(model.score(block), K)
            ours += sum(seconds)
            with clock() as seconds:
                people[start : start + len(block)] @ model.factors.T
            product += sum(seconds)
            cells = _matrix(block, config)
            with clock() as seconds:
                solver.recommend(rows, cells, N=K, filter_already_liked_items=False, recalculate_user=True)
            theirs += sum(seconds)
    return {"ours": ours, "product": product, "recommend": theirs}


def copy_marts(con: duckdb.DuckDBPyConnection, room: Path) -> float:
    """Publish: one COPY per table to one Parquet file. No order, no buckets, no hash, no gate, no serving file."""
    with clock() as seconds:
        for contract in contracts.all_of("marts"):
            target = quote(str(room / f"{contract.name}-mart.parquet"))
            con.execute(f'COPY marts."{contract.name}" TO {target} (FORMAT parquet, COMPRESSION zstd)')
    return sum(seconds)


def _matrix(history: Interactions, config: Config) -> sp.csr_matrix:
    return sp.csr_matrix(history.evidence(history.fresh(config.recommenders.als.half_life_days)))
