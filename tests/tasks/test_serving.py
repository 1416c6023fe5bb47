"""The promises of the serving file: it says what it is, falls back, opens everywhere, and names whole publications."""

from dataclasses import replace
from pathlib import Path

import pytest

from tasks import publication
from tasks.errors import ConfigurationError
from tests.published import DEFAULTS, LISTS, TABLES, current, filled, night, put, served


def test_what_is_served_says_which_publication_it_is_and_what_its_columns_mean(tmp_path: Path) -> None:
    done = put(tmp_path)
    assert served(tmp_path, "SELECT DISTINCT publication_id, as_of FROM recommendations") == [
        (done.publication, "2011-11-10")
    ]
    assert served(tmp_path, "SELECT publication_id, content_hash FROM publication") == [
        (done.publication, done.content_hash)
    ]
    comments: dict[str, str] = dict(
        served(tmp_path, "SELECT column_name, comment FROM duckdb_columns() WHERE table_name = 'recommendations'")
    )
    assert comments["item_id"] == "What item_id is"
    assert None not in comments.values()
    ((said,),) = served(tmp_path, "SELECT comment FROM duckdb_views() WHERE view_name = 'recommendations'")
    assert "Purpose: personalization." in str(said)
    assert [c.name for c in LISTS.columns] + ["publication_id", "as_of"] == list(comments)


def test_a_person_without_a_list_gets_the_one_for_everybody(tmp_path: Path) -> None:
    put(tmp_path)
    own = served(tmp_path, "SELECT user_id, position, item_id FROM recommendations_for('u7', 'for_you')")
    default = served(tmp_path, "SELECT user_id, position, item_id, score FROM recommendations_for('new', 'for_you')")
    assert own == [("u7", p, f"i{p - 1}") for p in range(1, 6)]
    assert default == [("new", p, f"d{p - 1}", None) for p in range(1, 6)]
    assert served(tmp_path, "FROM recommendations_for('u7', 'elsewhere')") == []


def test_ratio_views_are_served_with_their_opening_comment(tmp_path: Path) -> None:
    views = {"per_person": "-- One row: entries\n-- per person.\nSELECT count(*) / 40 AS entries FROM recommendations"}
    publication.publish(filled(), night(tmp_path), TABLES, views)
    assert served(tmp_path, "FROM per_person") == [(5.0,)]
    assert served(tmp_path, "SELECT comment FROM duckdb_views() WHERE view_name = 'per_person'") == [
        ("One row: entries per person.",)
    ]


def test_a_view_of_something_that_is_not_published_is_a_mistake_in_the_configuration(tmp_path: Path) -> None:
    before = put(tmp_path)
    with pytest.raises(ConfigurationError, match="views cannot be made"):
        publication.publish(filled(word="new"), night(tmp_path), TABLES, {"odd": "SELECT * FROM nowhere"})
    assert current(tmp_path) == before.publication


def test_a_new_comment_or_view_reaches_rows_that_did_not_change(tmp_path: Path) -> None:
    first = put(tmp_path)
    reworded = replace(LISTS, description="Said better.", fingerprint="another")
    again = publication.publish(filled(), night(tmp_path), (reworded, DEFAULTS), {"people": "SELECT 1 AS one"})
    assert (again.publication, again.status) == (first.publication, "unchanged")
    ((said,),) = served(tmp_path, "SELECT comment FROM duckdb_views() WHERE view_name = 'recommendations'")
    assert said.startswith("Said better.")
    assert served(tmp_path, "FROM people") == [(1,)]


def test_older_duckdb_can_open_the_serving_file(tmp_path: Path) -> None:
    # The storage version stands after an 8 byte checksum and the magic word.
    put(tmp_path)
    header = (tmp_path / "serving.duckdb").read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_a_lake_may_lie_in_a_folder_with_an_awkward_name(tmp_path: Path) -> None:
    (tmp_path / "lake1").mkdir()
    lake = tmp_path / "lake[1] * anna's"
    put(lake)
    assert served(lake, "SELECT count(*) FROM recommendations") == [(200,)]


def test_a_table_without_rows_is_served_without_rows(tmp_path: Path) -> None:
    con = filled()
    con.execute("DELETE FROM marts.recommendations")
    assert publication.publish(con, night(tmp_path), TABLES, {}).tables["recommendations"] == 0
    assert served(tmp_path, "SELECT count(*), max(user_id) FROM recommendations") == [(0, None)]
