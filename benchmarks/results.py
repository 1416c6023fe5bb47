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
    rows = [(part, PARTS[part], f"{often[part]:.3g}", f"{ours[part]:.2f}", f"{floors[part]:.2f}",
             f"{ours[part] / floors[part]:.1f}") for part in PARTS if part in floors]  # fmt: skip
    total, floor = beside["total"], sum(floors.values())
    rows.append(("**the night**", "their sum", "", f"{total:.2f}", f"{floor:.2f}", f"**{total / floor:.1f}**"))
    lines = [
        "## Beside its floors", "",
        f"`{COMMAND} --floors`: every floor runs in the same process, right after its step, on the same data, as often "
        f"as the job needs it. Aim for the night: at most {WITHIN_FLOORS:g}.", "",
        *_table(("part", "floor", "times", "ours, s", "floor, s", "ratio"), rows), "",
    ]  # fmt: skip
    if top_k:
        lines += [
            f"Everybody's top 20 once: ours {top_k['ours']:.2f} s, `recommend` {top_k['recommend']:.2f} s, "
            f"the bare matrix product {top_k['product']:.2f} s: {top_k['ours'] / top_k['recommend']:.2f} × "
            f"`recommend`, {top_k['ours'] / top_k['product']:.1f} × the product.", "",
        ]  # fmt: skip
    return lines


def _scale(quarter: dict[str, Any], full: dict[str, Any]) -> list[str]:
    aims = (("seconds", "total", WITHIN_SECONDS), ("memory, MB", "peak_rss_mb", WITHIN_MEMORY))
    rows = [(what, f"{quarter[key]:,.0f}", f"{full[key]:,.0f}", f"**{full[key] / quarter[key]:.2f}**", f"{aim:g}")
            for what, key, aim in aims]  # fmt: skip
    rows.insert(0, ("landed rows", f"{quarter['rows_in']:,}", f"{full['rows_in']:,}",
                    f"{full['rows_in'] / quarter['rows_in']:.2f}", ""))  # fmt: skip
    head = ("", "a quarter of the people", "all of them", "times", "at most")
    return [
        "## Four times the people",
        "",
        f"`{COMMAND}`, each size alone in its process.",
        "",
        *_table(head, rows),
        "",
    ]


def _steps(full: dict[str, Any]) -> list[str]:
    steps = sorted(full["steps"].items(), key=lambda step: -step[1])
    rows = [(name, f"{seconds:.2f}", f"{seconds / full['total']:.0%}") for name, seconds in steps]
    rows.append(("**total**", f"{full['total']:.2f}", ""))
    return ["## Where the night goes", "", f"`{COMMAND}`", "", *_table(("step", "seconds", "share"), rows), ""]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    titles = list(head)
    return [f"| {' | '.join(line)} |" for line in (titles, ["---"] * len(titles), *rows)]
