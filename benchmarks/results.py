"""What was measured, as a page to read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

WITHIN_FLOORS, WITHIN_SECONDS, WITHIN_MEMORY = 3.0, 4.4, 3.0
"""The aims: own work over the sum of its floors; and with four times the people, times the seconds and the memory."""

PARTS = {
    "ingest": "one `COPY` per table of the same rows, typed CSV → Parquet",
    "checks": "one aggregate query per table for the same rules",
    "als": "implicit's `fit` of the same matrices, same settings",
    "top-k": "implicit's `recommend` for as many people",
    "publish": "one `COPY` per table → Parquet",
}
COMMAND = "python -m benchmarks.one_night LANDING LAKE 2026-03-31"


Spent = dict[str, float]
"""`wall` and `cpu` seconds."""


@dataclass(frozen=True)
class Figures:
    """What `one_night.measure` found in three nights."""

    quarter: dict[str, Any]
    full: dict[str, Any]
    beside: dict[str, Any]
    """The full size, each floor right after its step."""


def as_markdown(figures: Figures, data: str, setting: str) -> str:
    """The page; `data` says on what, `setting` when, how and where it was measured."""
    return "\n".join([
        f"# Benchmark: {data}", "", setting, "",
        *_floors(figures.beside), *_scale(figures.quarter, figures.full), *_steps(figures.full),
    ])  # fmt: skip


def _floors(beside: dict[str, Any]) -> list[str]:
    ours, floors, often, top_k = beside["ours"], beside["floors"], beside["often"], beside["top_k"]
    rows = [
        _against(part, PARTS[part], f"{often[part]:.3g}", ours[part], floors[part]) for part in PARTS if part in floors
    ]
    total = {kind: sum(floor[kind] for floor in floors.values()) for kind in ("wall", "cpu")}
    rows.append(_against("**the night**", "the sum of these", "", beside["total"], total))
    for name, floor in (("`recommend`", "recommend"), ("the bare matrix product", "product")):
        if top_k:
            rows.append(_against("everybody's top 20 by ALS", name, "1", top_k["ours"], top_k[floor]))
    head = ("part", "floor", "times", "ours, s", "floor, s", "ratio", "ours, CPU s", "floor, CPU s", "ratio in CPU s")
    return [
        "## Beside its floors", "",
        f"`{COMMAND} --floors`: every floor runs in the same process, right after its step, on the same data, as often "
        f"as the job needs it. Aim for the night: at most {WITHIN_FLOORS:g}. CPU seconds are of all cores, and hardly "
        "depend on who else uses the machine.", "",
        *_table(head, rows), "",
    ]  # fmt: skip


def _against(part: str, floor: str, times: str, ours: Spent, least: Spent) -> tuple[str, ...]:
    figures = [
        (f"{ours[kind]:.2f}", f"{least[kind]:.2f}", f"{ours[kind] / least[kind]:.1f}") for kind in ("wall", "cpu")
    ]
    return (part, floor, times, *figures[0], *figures[1])


def _scale(quarter: dict[str, Any], full: dict[str, Any]) -> list[str]:
    facts = [("landed rows", quarter["rows_in"], full["rows_in"], ""),
             ("seconds", quarter["total"]["wall"], full["total"]["wall"], f"{WITHIN_SECONDS:g}"),
             ("CPU seconds", quarter["total"]["cpu"], full["total"]["cpu"], ""),
             ("memory, MB", quarter["peak_rss_mb"], full["peak_rss_mb"], f"{WITHIN_MEMORY:g}")]  # fmt: skip
    rows = [(what, f"{less:,.0f}", f"{more:,.0f}", f"{more / less:.2f}", aim) for what, less, more, aim in facts]
    head = ("", "a quarter of the people", "all of them", "times", "at most")
    lead = f"`{COMMAND}`, each size alone in its process."
    return ["## Four times the people", "", lead, "", *_table(head, rows), ""]


def _steps(full: dict[str, Any]) -> list[str]:
    steps = sorted(full["steps"].items(), key=lambda step: -float(step[1]["wall"]))
    total = full["total"]
    rows = [(name, f"{took['wall']:.2f}", f"{took['wall'] / total['wall']:.0%}", f"{took['cpu']:.2f}")
            for name, took in [*steps, ("**total**", total)]]  # fmt: skip
    return ["## Where the night goes", "", f"`{COMMAND}`", "", *_table(("step", "seconds", "share", "CPU s"), rows), ""]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    titles = list(head)
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *rows)]
