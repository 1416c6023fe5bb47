"""Two landings, one with six canary people and one in which they never were, and what is done to the first."""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb

from flows.erase import erase
from flows.nightly import night
from flows.retrain import retraining
from tasks import tombstones
from tasks.report import Summary
from tasks.settings import Run
from tests import nights
from tests.landings import csv
from tests.nights import a_run

SMALLEST, LARGEST = "!canary-smallest-1", "~canary-largest-01"
ORDINARY, HEAVY = "canary-ordinary-001", "canary-heavy-00001"
QUARANTINED = "canary-quarantined1"
MERGED, ALIAS = "canary-merged-00001", "canary-merged-alias"
CANARIES = (SMALLEST, LARGEST, ORDINARY, HEAVY, QUARANTINED, MERGED)
IDS = (*CANARIES, ALIAS)
"""Nobody asks under the alias: it goes with the person it belongs to."""

PERSON = "person-0000000001"
"""Of the small shop."""

DAYS = ("2026-03-20", "2026-03-27")
ASKED = datetime(2026, 4, 1, tzinfo=UTC)


def _events(user: str, items: list[str], count: int, day: str) -> list[str]:
    kinds = ("view", "purchase", "like", "cart_add")
    return [
        f"{user}-{day}-{n},{user},{kinds[n % 4]},{items[n % len(items)]},{day}T{n % 24:02}:{n % 60:02}:00Z,s-{user}"
        for n in range(count)
    ]


def lines(market: Path, day: str, *, canaries: bool) -> list[str]:
    """CSV events of one day: bystanders' lines between those of the canaries."""
    query = f"SELECT DISTINCT item_id FROM '{market}/items/*/*.parquet' ORDER BY 1 LIMIT 20"
    items = [item for (item,) in duckdb.execute(query).fetchall()]
    told: list[tuple[bool, str]] = []
    for number, user in enumerate(IDS):
        told += [(True, line) for line in _events(user, items[number:], 90 if user == HEAVY else 8, day)]
        told += [(False, line) for line in _events(f"bystander-{number}", items, 5, day)]
        # An event before the visitor signed in, and another visitor's.
        told.append((True, f"anon-{user}-{day},,view,{items[3]},{day}T00:00:01Z,s-{user}"))
        told.append((False, f"anon-{number}-{day},,view,{items[4]},{day}T00:00:02Z,s-other-{number}"))
    told.append((True, f"broken-1-{day},{QUARANTINED},view,{items[0]},not a time,s"))
    told.append((True, f"broken-2-{day},{QUARANTINED},view,too,many,fields,{day}T01:00:00Z,s"))
    told.append((False, f"broken-3-{day},bystander-1,view,{items[0]},not a time,s"))
    told.append((False, f"broken-4-{day},bystander-1,view,too,many,fields,{day}T01:00:00Z,s"))
    return [line for canary, line in told if canaries or not canary]


def land(landing: Path, market: Path, *, canaries: bool) -> None:
    """The small market, two days of extra events as CSV and packed CSV, links between ids, profiles as JSON."""
    shutil.copytree(market, landing)
    header = "event_id,user_id,event_type,item_id,occurred_at,session_id"
    for day, name in zip(DAYS, ("extra.csv", "extra.csv.gz"), strict=True):
        text = "\n".join([header, *lines(market, day, canaries=canaries)]).encode() + b"\n"
        data = gzip.compress(text, mtime=0) if name.endswith(".gz") else text
        if name.endswith(".gz"):
            data = data[:9] + b"\xff" + data[10:]  # no operating system, as Python's GzipFile says
        _write(landing / "events" / day / name, data, rows=text.count(b"\n") - 1)
    people = [*(IDS if canaries else ()), "bystander-0"]
    _write(
        landing / "users" / DAYS[0] / "extra.jsonl",
        b"".join(json.dumps({"user_id": u, "country": "DE"}).encode() + b"\n" for u in people),
        rows=len(people),
    )
    links = [*([(MERGED, ALIAS)] if canaries else []), ("bystander-0", "bystander-2")]
    told = "".join(f"{one},{other},{DAYS[0]}T00:00:00Z\n" for one, other in links)
    linked = f"user_id,linked_user_id,linked_at\n{told}".encode()
    _write(landing / "identities" / DAYS[0] / "links.csv", linked, rows=len(links))


def _write(file: Path, data: bytes, rows: int) -> None:
    """The file, and a claim about it where its folder makes claims."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    manifest = file.parent / "_manifest.json"
    if manifest.is_file():
        content = json.loads(manifest.read_text())
        told = {"name": file.name, "sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data), "rows": rows}
        content["files"].append(told)
        manifest.write_text(json.dumps(content))


def a_night(root: Path, as_of: str = "2026-03-31", **changes: Any) -> Run:
    run = a_run(root / "landing", root / "lake", as_of, **changes)
    shelf = run.config.lake.model_copy(update={"grace_seconds": 0.0})
    return replace(run, config=run.config.model_copy(update={"lake": shelf}))


NIGHTS = ("2026-03-29", "2026-03-30", "2026-03-31")


def quick(root: Path, as_of: str = "2026-03-31") -> Run:
    """`a_night` of a lake in which retraining is quick."""
    return a_night(root, as_of, retraining={"trials": 2, "people": 50})


def lived(root: Path, market: Path, *, canaries: bool, nights: Iterable[str] = NIGHTS) -> Run:
    """A lake with a champion and some nights behind it; returns the run of the last."""
    land(root / "landing", market, canaries=canaries)
    told = retraining(quick(root, "2026-03-28"))
    assert told["status"] == "promoted"
    runs = [quick(root, day) for day in nights]
    assert {night(run)["champion"] for run in runs} == {told["registered"]}
    return runs[-1]


def differences(one: Path, other: Path) -> list[str]:
    """What of a lake's history, quarantine, models and current publication is not byte for byte the same in both.

    Of manifests what must differ is left out: `epoch` in all, `bytes` and `sha256` of nothing.
    """

    def facts(lake: Path) -> dict[str, Any]:
        found: dict[str, Any] = {"current": (lake / "current").readlink().name}
        homes = [lake / "history", lake / "quarantine", lake / "models", (lake / "current").resolve()]
        for home in homes:
            for file in sorted(f for f in home.rglob("*") if f.is_file()):
                name = f"{home.name}/{file.relative_to(home)}"
                if file.name == "manifest.json":
                    manifest = json.loads(file.read_text())
                    found[name] = {key: value for key, value in manifest.items() if key != "epoch"}
                elif file.name not in ("epoch", "serving.duckdb"):
                    found[name] = hashlib.sha256(file.read_bytes()).hexdigest()
        link = lake / "models" / "champion"
        found["serves"] = link.readlink().name if link.is_symlink() else None
        return found

    mine, theirs = facts(one), facts(other)
    return sorted(name for name in {*mine, *theirs} if mine.get(name) != theirs.get(name))


def a_shop(root: Path, people: list[str]) -> Run:
    """A shop of nine items, the last of which only PERSON ever looked at, and three days of it: too few for figures."""
    items = [{"item_id": f"item-{n}", "title": f"thing {n}"} for n in range(9)]
    nights.land(root / "landing", "items", "2026-03-20", items)
    events = [
        {
            "event_id": f"{user}-{day}-{n}",
            "user_id": user,
            "event_type": kind,
            "occurred_at": f"2026-03-{day:02}T10:{n:02}:00Z",
            "item_id": f"item-{8 if user == PERSON and not n % 3 else (int(user[-2:]) + n + day) % 8}",
        }
        for user in people
        for day in range(17, 20)
        for n, kind in enumerate(("view", "purchase", "view", "like"))
    ]
    columns = ("event_id", "user_id", "event_type", "occurred_at", "item_id")
    file = root / "landing" / "events" / "2026-03-20" / "events.csv"
    file.parent.mkdir(parents=True)
    file.write_bytes(csv(*([row[c] for c in columns] for row in events), header=columns))
    return a_night(root)


def ask(run: Run, people: Iterable[str] = CANARIES, at: datetime = ASKED) -> list[str]:
    with tombstones.opened(run.lake, create=True) as ledger:
        assert ledger is not None
        return [tombstones.receive(ledger, "erase", one, at) for one in people]


@dataclass(frozen=True)
class World:
    """What the first lake was before, was made into, and would be."""

    before: dict[str, int]
    bystanders: tuple[str, str]
    """Hash of everybody else's history before and after."""
    erased: Run
    never: Run
    requests: list[str]
    summary: Summary
    never_summary: Summary


def bystanders(run: Run) -> str:
    """An ordered hash of what history says about everybody else; where in a file a line stood is no fact about them."""
    digest = hashlib.sha256()
    for table in ("events", "users", "consents", "identities"):
        files = sorted(str(f) for f in (run.lake / "history" / table).rglob("*.parquet"))
        rows = duckdb.execute(
            "SELECT * EXCLUDE (landed_row) FROM read_parquet($files, hive_partitioning = false) WHERE "
            "user_id IS NOT NULL AND NOT list_contains($ids, user_id) ORDER BY ALL", {"files": files, "ids": list(IDS)},
        ).fetchall()  # fmt: skip
        assert rows
        digest.update(repr(rows).encode())
    return digest.hexdigest()


def make(root: Path, market: Path, scanned: Callable[[Run], dict[str, int]]) -> World:
    with_them, never = a_night(root / "erased"), a_night(root / "never")
    land(root / "erased" / "landing", market, canaries=True)
    land(root / "never" / "landing", market, canaries=False)
    night(with_them)
    before, others = scanned(with_them), bystanders(with_them)
    requests = ask(with_them)
    summary = erase(with_them)
    told = night(never)
    return World(before, (others, bystanders(with_them)), with_them, never, requests, summary, told)
