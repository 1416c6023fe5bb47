"""`make bench`: one night on a sample of 1 M events beside its floors, and on a quarter of it, into results.md.

    make bench                 # 1 M events, 20,000 people, 5,000 items; some minutes, 1 GB under .work/bench
    BENCH=large make bench     # 10 M events, 200,000 people, 20,000 items; an hour, 10 GB

Each night runs in a process of its own. Seconds and memory are those of nights that run alone; ratios are those of a
third night in which each floor follows its step. Samples are made once; lakes are made anew.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from benchmarks.results import Figures, as_markdown
from tasks import sample

ROOT = Path(__file__).parents[1]
WORK = ROOT / ".work" / "bench"
LAST = sample.END.isoformat()

SHARE = 4
"""The smaller sample has one in so many of the people and events, and all of the items."""


@dataclass(frozen=True)
class Size:
    people: int
    items: int
    events: int


SIZES = {"1m": Size(20_000, 5_000, 1_000_000), "large": Size(200_000, 20_000, 10_000_000)}
DAYS = 90


def main() -> None:
    name = os.environ.get("BENCH", "1m")
    if name not in SIZES:
        sys.exit(f"bench: BENCH must be one of {', '.join(SIZES)}")
    size = SIZES[name]
    whole, quarter = landing(size), landing(Size(size.people // SHARE, size.items, size.events // SHARE))
    figures = Figures(quarter=night(quarter), full=night(whole), beside=night(whole, "--floors"))
    if figures.full["content_hash"] != figures.beside["content_hash"]:
        sys.exit("bench: the same night published something else beside its floors; nothing was written down")
    setting = "" if name == "1m" else f"BENCH={name} "
    text = as_markdown(
        figures,
        f"{size.events:,} events, {size.people:,} people, {size.items:,} items, {DAYS} days",
        f"{datetime.now(UTC).date().isoformat()} · `{setting}make bench` · {machine()}",
    )
    file = ROOT / "benchmarks" / ("results.md" if name == "1m" else f"results-{name}.md")
    file.write_text(text, encoding="utf-8")
    print(text)


def landing(size: Size) -> Path:
    """The sample of that size, made once."""
    folder = WORK / f"{size.people}x{size.items}x{size.events}"
    if not folder.is_dir():
        print(f"making a sample of {size.events:,} events", file=sys.stderr)
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        sample.make(part, users=size.people, items=size.items, events=size.events, days=DAYS, seed=1)
        part.rename(folder)
    return folder


def night(landed: Path, *options: str) -> dict[str, Any]:
    """What `one_night.measure` finds in a process of its own, in a fresh lake that is thrown away."""
    lake = WORK / "lake"
    shutil.rmtree(lake, ignore_errors=True)
    print(f"a night on {landed.name} {' '.join(options)}", file=sys.stderr)
    command = [sys.executable, "-m", "benchmarks.one_night", str(landed), str(lake), LAST, *options]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    shutil.rmtree(lake)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def machine() -> str:
    """Processor, cores and memory."""
    facts = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    models = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = f"Python {platform.python_version()}, DuckDB {duckdb.__version__}"
    return f"{models[0] if models else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, {versions}"


if __name__ == "__main__":
    main()
