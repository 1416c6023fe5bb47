"""The counterfactual on real data: people of Online Retail are forgotten exactly, whatever their share of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import polars as pl
import pytest

from flows.erase import erase
from flows.nightly import night
from flows.retrain import retraining
from tasks import registry, scan, shards, sources
from tasks.findings import CheckReport
from tasks.settings import Run
from tests.nights import tables
from tests.privacy import worlds

DAYS = ("2011-02-12", "2011-02-13", "2011-02-14", "2011-02-15")
DAY = DAYS[-1]
"""Eleven weeks of shopping: enough for every family, and a night of a minute."""


@pytest.fixture(autouse=True)
def unchecked() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", lambda *_: CheckReport(()))
        yield


def live(run: Run) -> None:
    """A retraining, and three nights with what it promoted."""
    for day, flow in zip(DAYS, (retraining, night, night, night), strict=True):
        flow(worlds.quick(run.lake.parent, day))


def canaries(landing: Path) -> dict[str, str]:
    """People by what makes them special; two of them turn out to be one."""
    rows = duckdb.execute(
        "SELECT user_id, count(*) AS events FROM read_parquet($files) WHERE user_id IS NOT NULL "
        "GROUP BY ALL ORDER BY events DESC, user_id", {"files": f"{landing}/events/*/*.parquet"},
    ).fetchall()  # fmt: skip
    ids = [user for user, _ in rows]
    return {
        "smallest": min(ids), "largest": max(ids), "heavy": ids[0], "ordinary": ids[len(ids) // 2],
        "quarantined": ids[len(ids) // 3], "merged": ids[10], "alias": ids[11],
    }  # fmt: skip


def also(landing: Path, people: dict[str, str], *, there: bool) -> None:
    """What Online Retail has none of: a line that cannot be read, and a link between two ids."""
    day = DAY
    broken = [f"x,{people['quarantined']},view,too,many,fields,2011-02-01", "y,0000,view,too,many,fields,2011-02-01"]
    header = "event_id,user_id,event_type,item_id,occurred_at"
    for table, text in {
        "events": "\n".join([header, *(broken if there else broken[1:])]) + "\n",
        "identities": "user_id,linked_user_id,linked_at\n"
        + (f"{people['merged']},{people['alias']},2011-02-01T00:00:00Z\n" if there else ""),
    }.items():
        file = landing / table / day / "also.csv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        (file.parent / "_manifest.json").unlink(missing_ok=True)


def never(landing: Path, ids: list[str]) -> None:
    """Rewrite every file that names one of `ids`, by other means than tailorbird's."""
    for file in sorted(landing.glob("*/*/*.parquet")):
        rows = pl.read_parquet(file)
        if "user_id" in rows.columns:
            kept = rows.filter(rows["user_id"].is_null() | ~rows["user_id"].is_in(ids))
            if len(kept) < len(rows):
                kept.write_parquet(file)
                (file.parent / "_manifest.json").unlink(missing_ok=True)


@pytest.mark.prove
def test_people_of_online_retail_are_forgotten_exactly(
    real_data: Path, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    for name in ("erased", "never"):
        sources.run("online-retail", real_data / "online-retail", tmp_path / name / "landing")
        for folder in (f for f in (tmp_path / name / "landing").glob("*/*") if f.name > DAY):
            for file in folder.iterdir():
                file.unlink()
            folder.rmdir()
    people = canaries(tmp_path / "erased" / "landing")
    ids = sorted(people.values())
    with_them, without = (worlds.quick(tmp_path / name, DAY) for name in ("erased", "never"))
    also(Path(with_them.landing), people, there=True)
    live(with_them)
    before = scan.scan(Path(with_them.landing), with_them.lake, ids)
    assert scan.present(before)
    worlds.ask(with_them, [name for kind, name in people.items() if kind != "alias"])

    told = erase(with_them)

    also(Path(without.landing), people, there=False)
    never(Path(without.landing), ids)
    live(without)
    record_property("erasure", told)
    assert told["status"] == "done"
    assert not any(scan.scan(Path(with_them.landing), with_them.lake, ids).values())
    assert registry.serving(with_them.lake) == registry.serving(without.lake)
    digests = ("sha256", "bytes")
    for table in ("events", "users", "identities"):
        one, other = shards.read_manifest(with_them.lake, table), shards.read_manifest(without.lake, table)
        assert one.files == other.files
        assert [{k: v for k, v in e.items() if k not in digests} for e in one.ledger] == [
            {k: v for k, v in e.items() if k not in digests} for e in other.ledger
        ]
    mine, theirs = tables(with_them.lake), tables(without.lake)
    assert mine.keys() == theirs.keys()
    # A landed Parquet file that was written by another hand has other bytes.
    assert len(mine.pop("ingest_ledger")) == len(theirs.pop("ingest_ledger"))
    assert mine == theirs
    assert len(mine["recommendations"]) > 1000
