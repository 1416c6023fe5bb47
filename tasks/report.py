"""What a person sees: progress while work goes on, a summary at the end, the run record in the lake."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from tasks.lake import write_atomically

T = TypeVar("T")

Summary = dict[str, Any]

# A year of nights; older records say nothing that the publications do not.
KEEP_RECORDS = 400
# Reasons, warnings and files are listed up to here; `--json` has them all.
LISTED = 5


def track(things: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The things, with a progress bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from things
        return
    from rich.console import Console
    from rich.progress import track as bar

    yield from bar(things, description=what, total=total, console=Console(stderr=True), transient=True)


def record(lake: Path, summary: Summary, gates: list[dict[str, Any]]) -> Path:
    """Keep the run's times, memory and gates in `lake/runs/`: facts of the run, not of what it published."""
    folder = lake / "runs"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{summary['as_of']}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}.json"
    write_atomically(file, json.dumps({**summary, "gates": gates}, indent=1, default=str).encode() + b"\n")
    for old in sorted(folder.glob("*.json"), key=lambda f: f.name)[:-KEEP_RECORDS]:
        old.unlink()
    return file


def as_text(summary: Summary) -> str:
    """The summary for people, in Markdown that also reads well on a terminal."""
    ingest, checks, seconds = summary["ingest"], summary["checks"], summary["seconds"]
    lines = [
        f"# tailorbird {summary['as_of']}: {summary['status']}",
        "",
        f"publication  {summary['publication'] or '–'}",
        f"content      {summary['content_hash'] or '–'}",
        f"ingest       {ingest['files']} files, {ingest['rows_in']:,} rows = {ingest['accepted']:,} accepted"
        f" + {ingest['quarantined']:,} quarantined + {ingest['duplicates']:,} duplicates"
        f" + {ingest['suppressed']:,} suppressed (residual {ingest['residual']})",
    ]
    for title, counts in (("quarantined", ingest["reasons"]), ("filled", ingest["filled"]), ("fixed", ingest["fixed"]),
                          ("standardized", ingest["standardized"])):  # fmt: skip
        if counts:
            lines.append(f"  {title:<12} {_top(counts)}")
    if ingest["rejected_files"]:
        named = [f"{f['file']} ({f['reason']})" for f in ingest["rejected_files"]]
        lines.append(f"  rejected     {_some(named)}")
    if ingest["unknown_columns"]:
        lines.append(f"  ignored      unknown columns {_some(ingest['unknown_columns'])}")
    for table, why in ingest["re_ingested"].items():
        lines.append(f"  re-ingested  {table}: {why}")
    if any(summary["withheld"].values()):
        lines.append(f"withheld     {_top(summary['withheld'])} (people, per purpose)")
    if any(summary["withheld_because"].values()):
        lines.append(f"  of lists     {_top(summary['withheld_because'])} (people, by what they asked for or are)")
    lines += [f"WARNING      {n} requests of people have been open for {days}; see `tailorbird request --list`"
              for days, n in summary.get("overdue_requests", {}).items()]  # fmt: skip
    lines.append(f"checks       {checks['ran']} ran, {checks['errors']} errors, {checks['warnings']} warnings")
    for severity, named in checks["failed"].items():
        if named:
            lines.append(f"  {severity:<12} {_some(named)}")
    lines += _evaluation(summary["evaluation"])
    if summary.get("alarms"):
        lines += ["", "retrain soon " + ", ".join(f"{name} {value:.2f}" for name, value in summary["alarms"].items())]
    if summary["tables"]:
        lines += ["", "| table | rows |", "|---|---:|", *(f"| {t} | {n:,} |" for t, n in summary["tables"].items())]
    slowest = sorted(((s, n) for n, s in seconds.items() if n != "total"), reverse=True)[:LISTED]
    lines += ["", f"{seconds['total']:.1f} s, of which " + ", ".join(f"{n} {s:.1f}" for s, n in slowest)
              + f"; {summary['peak_rss_mb']:,} MB at most"]  # fmt: skip
    if summary.get("why"):
        lines += ["", summary["why"]]
    return "\n".join(lines) + "\n"


def _evaluation(evaluation: Mapping[str, Any]) -> list[str]:
    models = evaluation.get("models") or {}
    if not models:
        return ["evaluation   too_little_data"] if evaluation else []
    placements = sorted({placement for figures in models.values() for placement in figures})
    lines = ["", "NDCG@10 on the test window, with its 95 % interval", "", f"| model | {' | '.join(placements)} |",
             f"|---|{'---|' * len(placements)}"]  # fmt: skip
    for name, figures in models.items():
        cells = []
        for placement in placements:
            value, low, high = figures.get(placement, {}).get("ndcg@10") or (None, None, None)
            cells.append("–" if value is None else f"{value:.3f} ({low:.3f}–{high:.3f})")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for placement, told in evaluation.get("compared", {}).items():
        if best := told.get("against_best_family"):
            ahead, low, high = best["ndcg@10"]
            lines += ["", f"{placement}: {told['lists_by']} against {best['name']} {ahead:+.4f} "
                          f"({low:+.4f} to {high:+.4f}), the same {told['people']:,} people"]  # fmt: skip
    return lines


def _top(counts: Mapping[str, int]) -> str:
    ranked = sorted(counts.items(), key=lambda kv: (-kv[1], kv[0]))
    return _some([f"{name} {count:,}" for name, count in ranked if count])


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more
