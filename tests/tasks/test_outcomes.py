"""What was served before is looked up for one table, and that table is no part of what a publication is."""

from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from tasks import contracts, outcomes, publication, shelf
from tests.published import column, contract, current, filled, night, served
from tests.sql.spec import CUT, Night, open_night

LISTS = contract(
    "recommendations",
    *(column(name, "INTEGER" if name == "position" else "VARCHAR", key=n) for n, name in
      enumerate(outcomes.LISTS, start=1)),
    subject="user_id",
)  # fmt: skip
LATER = contract("recommendation_outcomes", column("shown_on", "DATE", key=1), column("clicks", "BIGINT"))
LATER.properties["hashed"] = False


def put(lake: Path, as_of: str, clicks: int = 0, people: int = 9) -> publication.Published:
    con = filled(people=people)
    con.execute("ALTER TABLE marts.recommendations DROP COLUMN score; ALTER TABLE marts.recommendations DROP reason")
    con.execute("ALTER TABLE marts.recommendations ADD COLUMN recommender VARCHAR DEFAULT 'als'")
    con.execute("ALTER TABLE marts.recommendations ADD COLUMN model_version VARCHAR DEFAULT 'm1'")
    con.execute(
        f"CREATE TABLE marts.recommendation_outcomes AS SELECT DATE '2011-11-01' AS shown_on, {clicks} AS clicks"
    )
    return publication.publish(con, night(lake, as_of), (LISTS, LATER), {})


def test_a_publication_serves_until_the_next_one_or_until_the_window_is_over(tmp_path: Path) -> None:
    for as_of in ("2011-09-01", "2011-11-01", "2011-11-02"):
        put(tmp_path, as_of)
    again = put(tmp_path, "2011-11-02", people=12)  # takes the place of the one before
    con = duckdb.connect()
    con.execute("SET TimeZone = 'UTC'")

    count = outcomes.gather(con, night(tmp_path, "2011-11-10"))

    first, second = con.execute("SELECT * FROM retained.publications ORDER BY served_from").fetchall()
    assert count == 2, "the one of September is too long ago"
    assert first[1:] == (datetime(2011, 11, 2, tzinfo=UTC), datetime(2011, 11, 3, tzinfo=UTC))
    assert second == (again.publication, datetime(2011, 11, 3, tzinfo=UTC), datetime(2011, 11, 6, tzinfo=UTC))
    assert con.execute("SELECT count(*), count(DISTINCT user_id) FROM retained.lists").fetchall() == [(105, 12)]


def test_nothing_published_is_nothing_to_look_at(tmp_path: Path) -> None:
    con = duckdb.connect()

    assert outcomes.gather(con, night(tmp_path)) == 0
    assert con.execute("SELECT count(*) FROM retained.lists").fetchall() == [(0,)]


def test_outcomes_do_not_change_what_a_publication_is_and_are_brought_up_to_date(tmp_path: Path) -> None:
    first = put(tmp_path, "2011-11-10", clicks=1)
    reader = duckdb.connect(str((tmp_path / "serving.duckdb").resolve()), read_only=True)

    second = put(tmp_path, "2011-11-10", clicks=2)

    assert (second.publication, second.content_hash) == (first.publication, first.content_hash)
    assert second.status == "unchanged"
    assert reader.execute("SELECT clicks FROM recommendation_outcomes").fetchall() == [(1,)], (
        "who reads goes on reading"
    )
    reader.close()
    assert served(tmp_path, "SELECT clicks FROM recommendation_outcomes") == [(2,)]
    home = tmp_path / "publications" / current(tmp_path)
    assert shelf.intact(home)
    assert len(shelf.strays(home)) == 1
    publication.prune(tmp_path, night(tmp_path).config.model_copy(
        update={"lake": night(tmp_path).config.lake.model_copy(update={"grace_seconds": 0.0})}
    ))  # fmt: skip
    assert not shelf.strays(home)
    assert served(tmp_path, "SELECT clicks FROM recommendation_outcomes") == [(2,)]


def test_one_table_alone_is_outside_the_content_hash() -> None:
    assert [c.name for c in contracts.all_of("marts") if not c.hashed] == ["recommendation_outcomes"]


@pytest.fixture
def world() -> Night:
    night = open_night()
    night.landed(
        events="""
        user_id | item_id | event_type | occurred_at
        ada     | cup     | click      | 2026-02-20 09:00:00+00
        ada     | cup     | purchase   | 2026-02-20 10:00:00+00
        ada     | pot     | purchase   | 2026-02-20 10:00:00+00
        ada     | -       | search     | 2026-02-20 10:00:00+00
        ada     | cup     | purchase   | 2026-02-23 09:00:00+00
        bob     | cup     | purchase   | 2026-02-20 10:00:00+00
        """,
        impressions="""
        user_id | item_id | shown_at
        ada     | cup     | 2026-02-20 08:00:00+00
        ada     | cup     | 2026-02-20 08:30:00+00
        """,
    )
    return night


def test_own_share_is_that_of_events_after_an_impression_of_their_item(world: Night) -> None:
    world.open()

    # Ada's click and her first cup; not the pot, nor the cup after three days, nor bob, whom nobody showed anything.
    assert outcomes.own_lists_share(world.con, CUT, 4) == 0.6
    assert outcomes.own_lists_share(world.con, CUT, 3) == 0.4


def test_without_impressions_nobody_can_tell(world: Night) -> None:
    world.con.execute("DELETE FROM history.impressions")
    world.open()

    assert outcomes.own_lists_share(world.con, CUT, 3) is None
