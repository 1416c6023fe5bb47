"""How a flow runs its steps: timed, and as Prefect tasks or as plain calls.

A step takes the night and does one thing to one table or one model. Prefect sees its name and nothing else: no argument
and no result is stored, and an error that could quote data is replaced by one that cannot.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import duckdb

from tasks.errors import TailorbirdError

# Messages of these speak of SQL and names; all others may quote a value.
WITHOUT_VALUES = (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException)


class Step(Protocol):
    """Runs `do(*given)` under `name` and returns nothing: what a step finds out it keeps in the night."""

    def __call__(self, name: str, do: Callable[..., None], *given: Any) -> None: ...


def plainly(name: str, do: Callable[..., None], *given: Any) -> None:
    """Without Prefect: for tests, and for whoever has no server."""
    do(*given)


def as_task(name: str, do: Callable[..., None], *given: Any) -> None:
    """As a Prefect task run of that name."""
    from prefect import task
    from prefect.cache_policies import NO_CACHE

    def run() -> None:
        do(*given)

    task(name=name, task_run_name=name, persist_result=False, cache_policy=NO_CACHE)(run)()


def timed(step: Step, seconds: dict[str, float]) -> Step:
    """`step`, keeping the seconds of each and letting no value out in an error."""

    def run(name: str, do: Callable[..., None], *given: Any) -> None:
        began = time.perf_counter()
        try:
            step(name, discreet(name, do), *given)
        finally:
            seconds[name] = round(seconds.get(name, 0.0) + time.perf_counter() - began, 3)

    return run


def discreet(name: str, do: Callable[..., None]) -> Callable[..., None]:
    """`do`, letting out only errors that hold no value of the data.

    Ours are written so. Of others, whose words may quote a row, only the kind and the place are told.
    """

    def run(*given: Any) -> None:
        try:
            do(*given)
        except Exception as problem:
            where = traceback.extract_tb(problem.__traceback__)[-1]
            # A connection that a dead frame still holds would outlive DuckDB itself.
            traceback.clear_frames(problem.__traceback__)
            if isinstance(problem, TailorbirdError):
                raise
            words = str(problem) if isinstance(problem, WITHOUT_VALUES) else "its message may quote data: withheld"
            kind = type(problem).__name__
            place = f"{Path(where.filename).name}, line {where.lineno}"
            raise RuntimeError(f"{name}: {kind} ({words}) in {place}").with_traceback(problem.__traceback__) from None

    return run
