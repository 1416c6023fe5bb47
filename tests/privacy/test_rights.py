"""People's rights in the published tables: whoever said no is served like a stranger and teaches nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import duckdb
import pytest

from flows.access import answer
from flows.erase import erase
from flows.nightly import Night, night
from flows.steps import plainly
from tasks import contracts, limits, tombstones
from tasks.report import Summary
from tasks.settings import Run
from tests.nights import LAST, land, tables, without_checks
from tests.privacy.worlds import ASKED, a_night

BEFORE = "2026-03-20"
NOON = f"{BEFORE}T12:00:00Z"
OTHER_PURPOSES = {"ingest_ledger", "metrics_daily", "quality_checks", "recommendation_outcomes"}
"""Tables that personalization does not make."""


@dataclass(frozen=True)
class World:
    run: Run
    summary: Summary
    people: dict[str, str]
    """What they asked for → who."""
    without: Run
    """The same landing, in which those who said no have no history."""


def chosen(market: Path) -> list[str]:
    """People with the most events who set nothing for themselves, and whose registration all landed by then."""
    landed = f"read_csv('{market}/events/2026-*/*.csv', union_by_name = true, all_varchar = true, ignore_errors = true)"
    set_ = f"read_csv('{market}/controls/*/*.csv', union_by_name = true, all_varchar = true)"
    users = f"'{market}/users/*/users.parquet'"
    rows = duckdb.execute(
        f"SELECT e.user_id FROM {landed} AS e SEMI JOIN {users} AS u ON u.user_id = e.user_id "
        f"ANTI JOIN {set_} AS c ON c.user_id = e.user_id GROUP BY ALL ORDER BY count(*) DESC, 1"
    ).fetchall()
    return [user for (user,) in rows]


REFUSALS = ("object", "restrict", "told", "consent", "age", "pause", "level")
WISHES = ("mute", "new", "reset", "none")


def forgetful(people: dict[str, str]) -> Callable[..., None]:
    """Steps of a night that loses what those who said no ever did, and what came before a reset."""

    def step(name: str, do: Callable[..., None], *given: Any) -> None:
        if name == "open history":
            tonight: Night = given[0]
            gone = [people[kind] for kind in REFUSALS]
            with tonight.open() as con:
                for table in ("events", "impressions", "users"):
                    con.execute(f"DELETE FROM history.{table} WHERE list_contains($1, user_id)", [gone])
                for table, moment in (("events", "occurred_at"), ("impressions", "shown_at")):
                    con.execute(
                        f"DELETE FROM history.{table} WHERE user_id = $1 AND {moment} < CAST($2 AS TIMESTAMPTZ)",
                        [people["reset"], NOON],
                    )
                con.execute("DELETE FROM history.controls WHERE user_id = $1", [people["reset"]])
        plainly(name, do, *given)

    return step


@pytest.fixture(scope="module")
def world(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("rights")
    landing = root / "landing"
    shutil.copytree(market, landing)
    people = dict(zip(REFUSALS + WISHES, chosen(market), strict=False))
    # Hours of their own: what a folder's manifest does not name is not read.
    controls = [
        {"user_id": people["pause"], "paused": "true"},
        {"user_id": people["level"], "level": "0"},
        {"user_id": people["mute"], "muted_topics": "Plain|Books|Home"},
        {"user_id": "somebody-new", "muted_topics": "Plain|Books|Home"},
        {"user_id": people["new"], "novelty_share": "1"},
        {"user_id": people["reset"], "reset_from": NOON},
    ]
    columns = ("user_id", "level", "muted_topics", "novelty_share", "reset_from", "paused", "changed_at")
    told = [{c: {**row, "changed_at": NOON}.get(c, "") for c in columns} for row in controls]
    land(landing, "controls", "2026-03-21T23", told, "rights.csv")
    refused = {"user_id": people["consent"], "purpose": "personalization", "granted": "false", "recorded_at": NOON}
    land(landing, "consents", "2026-03-21T23", [refused], "rights.csv")
    asked = [
        {"request_id": kind, "user_id": people[kind], "kind": kind, "requested_at": NOON, "verified_at": NOON}
        for kind in ("object", "restrict")
    ]
    land(landing, "privacy_requests", "2026-03-21T23", asked, "rights.csv")
    land(landing, "users", "2026-03-31T22", [{"user_id": people["age"], "birth_year": 2015}], "rights.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", None)  # put back when the test is over
        without_checks()
        run, without = (a_night(root / name) for name in ("with", "without"))
        for one in (run, without):
            (one.lake.parent).mkdir()
            Path(one.landing).symlink_to(landing, target_is_directory=True)
            one.lake.mkdir()
            with tombstones.opened(one.lake, create=True) as ledger:
                assert ledger is not None
                limits.enter(ledger, "object", people["told"], ASKED.replace(month=3, day=20))
        summary = night(run)
        night(without, forgetful(people))
        yield World(run, summary, people, without)


def served(run: Run, person: str, placement: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(run.lake / "current" / "serving.duckdb"), read_only=True) as con:
        return con.execute(
            "SELECT position, item_id, score, reason_code FROM recommendations_for($1, $2)", [person, placement]
        ).fetchall()


def test_whoever_said_no_is_in_no_published_table(world: World) -> None:
    named = {kind for kind in REFUSALS for rows in tables(world.run.lake).values() for row in rows
             if world.people[kind] in row}  # fmt: skip

    assert named == set()
    assert any(world.people["none"] in row for row in tables(world.run.lake)["recommendations"])


def test_whoever_said_no_or_started_anew_teaches_nothing(world: World) -> None:
    ours, theirs = tables(world.run.lake), tables(world.without.lake)

    compared = sorted(ours.keys() - OTHER_PURPOSES)

    assert {"recommendations", "similar_items", "trending_items", "model_runs", "model_evaluation"} <= set(compared)
    assert [name for name in compared if ours[name] != theirs[name]] == []
    assert ours["metrics_daily"] != theirs["metrics_daily"], "analytics is another purpose"


@pytest.mark.parametrize("kind", REFUSALS)
def test_whoever_said_no_is_served_the_default_list(world: World, kind: str) -> None:
    for placement in ("for_you", "discover"):
        stranger = served(world.run, "nobody-ever-seen", placement)
        assert stranger
        assert served(world.run, world.people[kind], placement) == stranger


def test_the_summary_counts_them_by_reason_and_says_no_id(world: World) -> None:
    counted = world.summary["withheld_because"]

    # The market has people of its own who refuse, pause, or want no profile.
    assert counted["objection"] == 2
    assert counted["restriction"] == 1
    assert counted["age"] == 1
    assert all(counted[reason] >= 1 for reason in ("consent", "pause", "level"))
    assert sum(counted.values()) == world.summary["withheld"]["personalization"]
    assert not any(person in str(world.summary) for person in world.people.values())


def topics(run: Run) -> dict[str, set[str]]:
    """Item → words that a mute may name."""
    rows = duckdb.execute(
        f"SELECT item_id, lower(category), lower(tags) FROM '{run.landing}/items/*/*.parquet'"
    ).fetchall()
    return {i: {*(p.strip() for p in c.replace("/", ">").split(">")), *t.split("|")} for i, c, t in rows}


@pytest.mark.parametrize("who", ["mute", "somebody-new"])
def test_a_muted_topic_is_never_served(world: World, who: str) -> None:
    person, words = world.people.get(who, who), topics(world.run)

    for placement in ("for_you", "discover", "buy_again"):
        shown = served(world.run, person, placement)
        assert shown or placement == "buy_again"
        assert [at for at, *_ in shown] == list(range(1, len(shown) + 1))
        assert not any(words[item] & {"plain", "books", "home"} for _, item, *_ in shown)
    assert any(words[item] & {"plain", "books", "home"} for _, item, *_ in served(world.run, "a stranger", "for_you"))


def test_who_wants_only_what_is_new_gets_only_that(world: World) -> None:
    person = world.people["new"]
    files = f"read_parquet('{world.run.lake}/history/events/*/*.parquet', hive_partitioning = false)"
    met = {item for (item,) in duckdb.execute(f"SELECT item_id FROM {files} WHERE user_id = $1", [person]).fetchall()}

    shown = {item for _, item, *_ in served(world.run, person, "for_you")}

    assert len(met) > 3
    assert shown
    assert not shown & met


def test_access_hands_out_what_an_erasure_would_find_with_reasons_in_words(world: World) -> None:
    person, to = world.people["none"], world.run.lake.parent / "answers"
    with tombstones.opened(world.run.lake) as ledger:
        assert ledger is not None
        request = tombstones.receive(ledger, "access", person, ASKED)
    told = answer(world.run, to, request=request)["requests"][request]
    with tombstones.opened(world.run.lake) as ledger:
        assert ledger is not None
        asked = tombstones.receive(ledger, "erase", person, ASKED)

    found = erase(world.run, request=asked, dry_run=True)["found"]

    assert told["counts"] == found
    assert sum(place.startswith("publications/") for place in found) >= 3
    lists = json.loads((to / request / "everything.json").read_text())["tables"]["recommendations"]
    assert all(row["title"] and row["reason"] for row in lists)
    page = (to / request / "index.html").read_text()
    assert escape(lists[0]["title"]) in page
    assert "active days" in page


def test_a_correction_is_followed_by_the_next_run(world: World) -> None:
    person = world.people["age"]
    land(Path(world.run.landing), "users", "2026-04-01", [{"user_id": person, "birth_year": 1990}], "corrected.csv")

    summary = night(a_night(world.run.lake.parent, "2026-04-01"))

    assert summary["withheld_because"]["age"] == 0
    assert any(person in row for row in tables(world.run.lake)["recommendations"])


def test_every_table_of_people_was_looked_at(world: World) -> None:
    people = {law.name for law in contracts.all_of("marts") if law.subject}

    assert people <= tables(world.run.lake).keys()
    assert LAST in world.summary["as_of"]
