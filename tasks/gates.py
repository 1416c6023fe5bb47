"""Gates: what must hold before the pointer moves. They can block a publication, never change it.

An earlier publication is looked at here and nowhere else; that it is missing skips a gate and blocks nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import duckdb

from tasks import quality
from tasks.errors import BlockedError
from tasks.settings import Config

# Positions further down change with every event; the top of a list is what people would miss.
OVERLAP_POSITIONS = 10


@dataclass(frozen=True)
class Verdict:
    """How one gate judged: for the run record, never published."""

    gate: str
    passed: bool
    observed: float | None
    threshold: float | None
    severity: str = "error"
    note: str = ""
    """Why the gate was skipped, or what the figure is."""


class ClosedGateError(BlockedError):
    """A gate did not let a publication pass; `verdicts` are all gates' for the run record."""

    def __init__(self, message: str, verdicts: Sequence[Verdict]) -> None:
        super().__init__(message)
        self.verdicts = tuple(verdicts)


@dataclass(frozen=True)
class Earlier:
    """The newest publication of an earlier as_of: its id, and its tables as relations that SQL can read."""

    id: str
    relations: Mapping[str, str]


def judge(con: duckdb.DuckDBPyConnection, config: Config, earlier: Earlier | None) -> list[Verdict]:
    """Every gate's verdict on `marts.*` of the night's database, in a fixed order."""
    scene = _Scene(con, config, earlier)
    gates: tuple[Callable[[_Scene], Verdict], ...] = (_rows, _people, _duplicates, _catalogue, _evaluation, _overlap)
    return [gate(scene) for gate in gates]


def enforce(verdicts: Sequence[Verdict]) -> None:
    """Stop at the gates that failed.

    Raises:
        ClosedGateError: names every failed gate, what it saw and what it asks for.
    """
    failed = [v for v in verdicts if not v.passed and v.severity == "error"]
    if failed:
        words = "; ".join(f"{v.gate} is {v.observed:.6g}, needs {v.threshold:.6g} ({v.note})" for v in failed)
        message = f"gate failed, nothing was published: {words}; see the [gates] settings and the runbook"
        raise ClosedGateError(message, verdicts)


@dataclass(frozen=True)
class _Scene:
    """The tables that the gates ask about."""

    con: duckdb.DuckDBPyConnection
    config: Config
    earlier: Earlier | None

    def number(self, sql: str) -> float:
        (value,) = self.con.execute(sql).fetchall()[0]
        return float(value or 0)

    def columns(self, table: str) -> set[str]:
        """The columns of `schema.name`, or nothing where there is no such table."""
        try:
            return {str(c[0]) for c in self.con.execute(f"SELECT * FROM {table} LIMIT 0").description or ()}
        except duckdb.CatalogException:
            return set()

    def has(self, table: str, *needed: str) -> bool:
        return set(needed) <= self.columns(table) and bool(self.columns(table))

    @property
    def before(self) -> str | None:
        """The earlier publication's recommendations as a relation."""
        return self.earlier.relations.get("recommendations") if self.earlier else None


def _skipped(gate: str, why: str) -> Verdict:
    return Verdict(gate, passed=True, observed=None, threshold=None, note=f"skipped: {why}")


def _rows(scene: _Scene) -> Verdict:
    """Somebody gets a list, be it the one for everybody."""
    lists = [t for t in ("marts.recommendations", "marts.default_recommendations") if scene.has(t)]
    rows = sum(scene.number(f"SELECT count(*) FROM {table}") for table in lists)
    return Verdict("rows", passed=rows > 0, observed=rows, threshold=1, note="rows of personal and default lists")


def _people(scene: _Scene) -> Verdict:
    """About as many people as last time have a list."""
    if scene.before is None:
        return _skipped("people", "no earlier publication")
    earlier = scene.number(f"SELECT count(DISTINCT user_id) FROM {scene.before}")
    if not earlier:
        return _skipped("people", "nobody had a list in the earlier publication")
    share = scene.number("SELECT count(DISTINCT user_id) FROM marts.recommendations") / earlier
    needed = scene.config.gates.min_people_share
    return Verdict("people", share >= needed, share, needed, note=f"people with a list, relative to {_name(scene)}")


def _duplicates(scene: _Scene) -> Verdict:
    """No item twice in one list."""
    grains = {
        "marts.recommendations": ("user_id", "placement", "context", "item_id"),
        "marts.default_recommendations": ("placement", "context", "segment", "item_id"),
    }
    repeated = sum(
        scene.number(
            f"SELECT coalesce(sum(n - 1), 0) FROM (SELECT count(*) AS n {quality.repeated(table, ', '.join(grain))})"
        )
        for table, grain in grains.items()
        if scene.has(table, *grain)
    )
    return Verdict("duplicates", passed=repeated == 0, observed=repeated, threshold=0, note="entries beyond the first")


def _catalogue(scene: _Scene) -> Verdict:
    """Personal lists reach into the catalogue.

    Measured against what they could reach: five people with twenty entries each cannot show ten thousand items.
    """
    entries = scene.number("SELECT count(*) FROM marts.recommendations")
    if not entries:
        return _skipped("catalogue", "nobody has a personal list")
    known = next((t for t in ("staging.items", "features.item_attributes") if scene.has(t, "recommendable")), None)
    items = scene.number(f"SELECT count(*) FROM {known} WHERE recommendable") if known else 0
    if not items:
        return _skipped("catalogue", "the number of items that may be shown is not known")
    share = scene.number("SELECT count(DISTINCT item_id) FROM marts.recommendations") / min(items, entries)
    needed = scene.config.gates.min_catalogue_coverage
    return Verdict("catalogue", share >= needed, share, needed, note="share of the items that lists could show")


def _evaluation(scene: _Scene) -> Verdict:
    """At no placement is the blend worse than the best baseline beyond both intervals; the verdict shows the worst."""
    if not scene.has("marts.model_runs", "placement", "role", "test_ndcg_10_low", "test_ndcg_10_high"):
        return _skipped("evaluation", "no figures")
    figures = scene.con.execute(
        "SELECT max(test_ndcg_10_high) FILTER (used AND role IN ('blend', 'ranker')) AS blend, "
        "max(test_ndcg_10_low) FILTER (role = 'baseline') AS baseline, placement FROM marts.model_runs "
        "WHERE isfinite(test_ndcg_10_low) AND isfinite(test_ndcg_10_high) GROUP BY placement "
        "HAVING blend IS NOT NULL AND baseline IS NOT NULL ORDER BY blend - baseline, placement LIMIT 1"
    ).fetchall()
    if not figures:
        return _skipped("evaluation", "too_little_data")
    observed, needed, placement = figures[0]
    note = f"upper end of the blend's NDCG@10 at {placement} against the lower end of the best baseline's"
    return Verdict("evaluation", observed >= needed, observed, needed, note=note)


def _overlap(scene: _Scene) -> Verdict:
    """Lists of people who had one before are not all different overnight."""
    if scene.before is None:
        return _skipped("overlap", "no earlier publication")
    top = f"SELECT DISTINCT user_id, placement, item_id FROM {{}} WHERE position <= {OVERLAP_POSITIONS}"
    before, now = top.format(scene.before), top.format("marts.recommendations")
    shared, entries = scene.con.execute(
        f"WITH now AS ({now}), before AS ({before}), both_days AS (SELECT DISTINCT user_id FROM now) "
        "SELECT count(now.item_id), count(*) FROM before SEMI JOIN both_days USING (user_id) "
        "LEFT JOIN now USING (user_id, placement, item_id)"
    ).fetchall()[0]
    if not entries:
        return _skipped("overlap", "nobody has a list in both")
    needed = scene.config.gates.min_overlap
    note = f"share of the first {OVERLAP_POSITIONS} entries kept since {_name(scene)}"
    return Verdict("overlap", shared / entries >= needed, shared / entries, needed, note=note)


def _name(scene: _Scene) -> str:
    return scene.earlier.id if scene.earlier else ""


def as_records(verdicts: Sequence[Verdict]) -> list[dict[str, Any]]:
    """The verdicts as the run record keeps them."""
    return [asdict(v) for v in verdicts]
