import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from datetime import date
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tasks import ingest, lake, sample, settings
from tasks.errors import ConfigurationError

SMALL = {"users": 200, "items": 300, "events": 5_000, "days": 60, "seed": 7}
TABLES = ("events", "impressions", "items", "users", "consents", "controls")
MALFORMED = ("wrong_columns", "bad_timestamp", "nan_amount", "unknown_type", "quoted_newline")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, int]]:
    landing = tmp_path_factory.mktemp("sample")
    return landing, sample.make(landing, **SMALL)  # type: ignore[arg-type] # a dict of ints has no end


def fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(f for f in folder.rglob("*") if f.is_file()):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def event_lines(landing: Path) -> list[list[str] | dict[str, object]]:
    """Every physical line of the events, header lines aside, cells of CSV split plainly."""
    lines: list[list[str] | dict[str, object]] = []
    for file in sorted((landing / "events").rglob("*")):
        if file.suffix == ".jsonl":
            lines += [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        elif file.suffix in {".csv", ".gz"}:
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            lines += [line.split(",") for line in content.decode().splitlines()[1:]]
    return lines


def events(landing: Path) -> pl.DataFrame:
    """The well-formed events, one row per id, as text."""
    header = next((landing / "events").rglob("events.csv")).read_text(encoding="utf-8").splitlines()[0].split(",")
    rows = []
    for line in event_lines(landing):
        if isinstance(line, dict):
            rows.append([None if line[c] is None else str(line[c]) for c in header])
        elif len(line) == len(header) and not line[0].endswith("-x"):
            rows.append([cell or None for cell in line])
    return pl.DataFrame(rows, schema=header, orient="row").unique("event_id", keep="first", maintain_order=True)


def items(landing: Path) -> pl.DataFrame:
    parts = [
        pl.read_parquet(f).with_columns(landed=pl.lit(f.parent.name))
        for f in sorted((landing / "items").rglob("*.parquet"))
    ]
    return pl.concat(parts)


def test_the_same_seed_writes_the_same_bytes_in_any_time_zone_and_hash_seed(
    made: tuple[Path, dict[str, int]], tmp_path: Path
) -> None:
    code = f"from pathlib import Path; from tasks import sample; sample.make(Path({str(tmp_path)!r}), **{SMALL})"
    env = os.environ | {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": "5", "POLARS_MAX_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=Path(__file__).parents[2])

    assert fingerprint(tmp_path) == fingerprint(made[0])


def test_another_seed_makes_another_market(made: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    sample.make(tmp_path, **(SMALL | {"seed": 8}))  # type: ignore[arg-type] # as above

    ids = [set(events(landing)["user_id"].drop_nulls()) for landing in (tmp_path, made[0])]
    assert ids[0] and ids[1] and ids[0].isdisjoint(ids[1])


def test_every_line_on_disk_is_counted_and_declared(made: tuple[Path, dict[str, int]]) -> None:
    landing, counts = made
    dirt = ("duplicate_rows", "duplicate_file_rows", "conflicts", *MALFORMED)

    assert len(event_lines(landing)) == counts["events_rows"] == counts["events"] + sum(counts[d] for d in dirt)
    assert counts["events"] == SMALL["events"] and all(counts[d] > 0 for d in dirt)
    declared = Counter[str]()
    for manifest in landing.rglob("_manifest.json"):
        for entry in json.loads(manifest.read_text(encoding="utf-8"))["files"]:
            content = (manifest.parent / entry["name"]).read_bytes()
            assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry["sha256"], entry["bytes"])
            declared.update({manifest.parent.parent.name: entry["rows"], "files": 1})
    assert declared == {t: counts[f"{t}_rows"] for t in TABLES} | {"files": counts["files"]}


def test_malformed_lines_are_as_many_as_declared(made: tuple[Path, dict[str, int]]) -> None:
    landing, counts = made
    cells = [line for line in event_lines(landing) if isinstance(line, list)]

    assert sum(len(c) == 3 for c in cells) == counts["wrong_columns"]
    assert sum("31.02.2026 25:61" in c for c in cells) == counts["bad_timestamp"]
    assert sum("nan" in c for c in cells) == counts["nan_amount"]
    assert sum("teleport" in c for c in cells) == counts["unknown_type"]
    assert (
        sum(any(part in cell for part in ('"first line', 'second line"') for cell in c) for c in cells)
        == counts["quoted_newline"]
    )


def test_wrong_and_missing_values_are_as_many_as_declared(made: tuple[Path, dict[str, int]]) -> None:
    landing, counts = made
    clean = events(landing)

    assert clean.height == counts["events"]
    assert clean["user_id"].null_count() == counts["anonymous"] > 0
    assert clean["device"].null_count() == counts["missing_device"] > 0
    assert (clean["country"].str.len_chars() > 2).sum() == counts["country_names"] > 0
    assert clean["device"].str.contains("[A-Z]").sum() == counts["device_case"] > 0
    assert clean["dwell_seconds"].str.starts_with("-").sum() == counts["negative_dwell"] > 0
    users = pl.concat([pl.read_parquet(f) for f in sorted((landing / "users").rglob("users.parquet"))])
    assert users.height == SMALL["users"]
    assert (users["birth_year"] == 1066).sum() == counts["impossible_birth_year"] > 0
    granted = "".join(f.read_text(encoding="utf-8") for f in (landing / "consents").rglob("consents.*"))
    assert granted.count("perhaps") == counts["unreadable_consents"] > 0
    set_ = "".join(f.read_text(encoding="utf-8") for f in (landing / "controls").rglob("controls.*"))
    assert set_.count("broken") == counts["unreadable_controls"] > 0
    assert all(value in set_ for _, value, _ in sample.CHOICES)


def test_duplicates_and_late_files_are_as_many_as_declared(made: tuple[Path, dict[str, int]]) -> None:
    landing, counts = made
    resent = list((landing / "events").rglob("events-resent.*"))
    late = [f for f in (landing / "events").rglob("*-20*") if f.is_file()]

    assert len(resent) == counts["duplicate_files"] > 0
    assert all(f.read_bytes() == f.with_name(f.name.replace("-resent", "")).read_bytes() for f in resent)
    assert len(late) == counts["late_files"] > 0
    assert all(f.name.split("-", 1)[1][:10] < f.parent.name for f in late)


def test_ingest_finds_the_declared_dirt_and_no_other(made: tuple[Path, dict[str, int]], tmp_path: Path) -> None:
    landing, counts = made
    run = settings.open_run(landing=str(landing), lake=tmp_path, as_of=sample.END)
    with lake.scratch(tmp_path) as room, lake.connect(room / "night.duckdb", run.config) as con:
        found = ingest.ingest(con, run, room)

    assert found.rows_in == sum(counts[f"{table}_rows"] for table in TABLES)
    assert found.duplicates == counts["duplicate_rows"] + counts["duplicate_file_rows"]
    assert found.quarantined == sum(found.reasons.values()) == sum(counts[d] for d in ("conflicts", *MALFORMED))
    assert found.fixed["events.dwell_seconds"] == counts["negative_dwell"]
    assert found.filled["events.device"] == counts["missing_device"]
    assert found.standardized["events.device"] == counts["device_case"]
    assert found.standardized["events.country"] == counts["country_names"]


def test_amounts_are_whole_cents(made: tuple[Path, dict[str, int]]) -> None:
    amounts = events(made[0])["amount"].drop_nulls()

    assert amounts.len() > 100 and amounts.str.contains(r"^[0-9]+\.[0-9]{1,2}$").all()


def test_nobody_acts_before_registering_and_nothing_is_bought_before_it_lands(
    made: tuple[Path, dict[str, int]],
) -> None:
    landing, _ = made
    clean, goods = events(landing), items(landing)
    users = pl.concat([pl.read_parquet(f) for f in sorted((landing / "users").rglob("users.parquet"))])
    signup = users.select("user_id", pl.col("signup_at").dt.strftime("%Y-%m-%dT%H:%M:%S"))
    landed = goods.group_by("item_id").agg(pl.col("landed").min())

    known = clean.join(signup, on="user_id")
    shown = clean.join(landed, on="item_id")
    assert known.height > 3_000 and (known["occurred_at"] > known["signup_at"]).all()
    assert shown.height > 3_000 and (shown["occurred_at"].str.slice(0, 10) >= shown["landed"]).all()


def test_the_catalogue_lives(made: tuple[Path, dict[str, int]]) -> None:
    goods = items(made[0])
    versions = goods.group_by("item_id").agg(
        pl.col("price").drop_nulls().n_unique().alias("prices"), pl.col("landed").min()
    )

    assert versions.height == SMALL["items"]
    assert versions["landed"].n_unique() > 4, "new items come weekly"
    assert (versions["prices"] > 1).any() and (goods["stock"] == 0).any() and goods["sensitive"].any()
    assert set(goods["review_status"]) == {"approved", "pending", "blocked"}


def test_taste_daypart_and_loyalty_are_there_to_be_learnt(made: tuple[Path, dict[str, int]]) -> None:
    landing, _ = made
    shelf = items(landing).unique("item_id", keep="last").select("item_id", pl.col("category").str.to_lowercase())
    seen = events(landing).filter(pl.col("user_id").is_not_null()).join(shelf, on="item_id").sort("event_id")

    def concentration(category: pl.Series) -> float:
        counted = seen.with_columns(category=category).group_by("user_id", "category").len()
        top = (
            counted.group_by("user_id")
            .agg(pl.col("len").max(), pl.col("len").sum().alias("all"))
            .filter(pl.col("all") >= 20)
        )
        return float((top["len"] / top["all"]).mean())  # type: ignore[arg-type] # a mean of floats

    shuffled = np.random.default_rng(1).permutation(seen["category"].to_numpy())
    assert concentration(seen["category"]) > 1.5 * concentration(pl.Series(shuffled))
    days = seen.group_by("user_id").agg(pl.col("occurred_at").str.slice(0, 10).n_unique().alias("days"))["days"]
    assert (days == 1).any() and (days >= 5).any()
    bought = seen.filter(event_type="purchase").group_by("user_id", "item_id").len()
    assert (bought["len"] > 1).any(), "people buy again"


def test_every_kind_of_file_and_signal_shows_up(made: tuple[Path, dict[str, int]]) -> None:
    landing, _ = made
    folders = {f.name for f in (landing / "events").iterdir()}
    endings = {f.name.split(".", 1)[1] for f in (landing / "events").rglob("*") if f.is_file()}

    assert endings == {"csv", "csv.gz", "jsonl", "json"}
    assert any(len(name) == len("2026-03-01T11") for name in folders)
    assert {"view", "search", "purchase", "return", "rate", "dismiss", "share"} <= set(events(landing)["event_type"])
    assert max(folders)[:10] <= sample.END.isoformat()


@pytest.mark.parametrize(("seed", "days"), [(0, 14), (1, 15), (2, 150)])
def test_the_smallest_market_has_all_its_events(tmp_path: Path, seed: int, days: int) -> None:
    counts = sample.make(tmp_path, users=20, items=50, events=500, days=days, seed=seed)

    assert counts["events"] == events(tmp_path).height == 500


def test_the_last_day_is_the_one_asked_for_and_too_little_is_refused(tmp_path: Path) -> None:
    sample.make(tmp_path, users=20, items=50, events=500, days=14, seed=1, end=date(2011, 11, 10))

    assert max(f.name for f in (tmp_path / "events").iterdir())[:10] == "2011-11-10"
    with pytest.raises(ConfigurationError, match="--days"):
        sample.make(tmp_path, users=20, items=50, events=500, days=3, seed=1)


def test_what_is_shown_at_the_top_is_clicked_more_often_and_nothing_is_clicked_before_it_is_shown(
    made: tuple[Path, dict[str, int]],
) -> None:
    landing, _ = made
    shown = pl.concat([pl.read_csv(f) for f in sorted((landing / "impressions").rglob("*.csv.gz"))])
    clicks = events(landing).filter(event_type="click").select("user_id", "item_id", "occurred_at")

    led = shown.join(clicks, on=["user_id", "item_id"]).filter(
        (pl.col("occurred_at") > pl.col("shown_at"))
        & (pl.col("occurred_at").str.slice(0, 10) == pl.col("shown_at").str.slice(0, 10))
    )

    assert shown.height > 500 and led.height > 50
    assert shown.unique(["user_id", "shown_at", "position"]).height == shown.height
    upper, lower = (led.filter(pl.col("position").is_between(*span)).height for span in ((1, 3), (4, 6)))
    assert upper > 2 * lower
