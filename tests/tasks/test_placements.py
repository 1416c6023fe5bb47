"""Placements: every list obeys its rules, names its evidence, and keeps rare items with those who had them."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as effort
from hypothesis import strategies as st

from tasks import blend, contracts, features, owners, placements, reasons, training
from tasks.lake import known_buckets
from tasks.recommenders.item_item import ItemItem
from tests.sql.spec import CUT, Night
from tests.tasks.worlds import market, night_of, settings, table

TABLES = ("recommendations", "default_recommendations", "short_lists")
SMALL = {"min_people": 5, "bootstrap": 20}


def published(night: Night) -> placements.Lists:
    return placements.recommend(night.con, night.run, training.train(night.con, night.run))


def lists(night: Night, name: str = "recommendations") -> pl.DataFrame:
    return table(night, name)


def ask(night: Night, question: str) -> list[tuple[Any, ...]]:
    return night.con.execute(question).fetchall()


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[Night, placements.Lists]]:
    night = market(config=settings(3, evaluation=SMALL))
    night.con.execute(
        "UPDATE staging.items SET review_status = 'blocked', recommendable = false WHERE item_id = 'i000'"
    )
    night.con.execute("UPDATE staging.items SET stock = 0, recommendable = false WHERE item_id = 'i001'")
    night.con.execute("UPDATE staging.items SET sensitive = true WHERE item_id = 'i002'")
    night.con.execute("UPDATE features.item_attributes a SET recommendable = i.recommendable, sensitive = i.sensitive "
                      "FROM staging.items i WHERE i.item_id = a.item_id")  # fmt: skip
    yield night, published(night)
    night.con.close()


def broken(con: duckdb.DuckDBPyConnection, table: str) -> list[str]:
    """Promises of a list that `table` breaks, whatever the data."""
    key = "user_id, placement, context" if table == "recommendations" else "placement, context, segment"
    laws = {
        "positions are contiguous from 1": f"SELECT {key} FROM marts.{table} GROUP BY ALL "
                                           "HAVING min(position) <> 1 OR max(position) <> count(*)",
        "no item twice": f"SELECT {key}, item_id FROM marts.{table} GROUP BY ALL HAVING count(*) > 1",
        "only what may be shown": f"SELECT 1 FROM marts.{table} SEMI JOIN "
                                  "(FROM staging.items WHERE NOT recommendable) USING (item_id)",
        "only what is on offer": f"SELECT 1 FROM marts.{table} ANTI JOIN staging.items USING (item_id)",
    }  # fmt: skip
    if table == "recommendations":
        laws |= {
            "better comes first": "SELECT 1 FROM marts.recommendations QUALIFY score > lag(score) "
                                  f"OVER (PARTITION BY {key} ORDER BY position)",
            "discover is new": "SELECT 1 FROM marts.recommendations SEMI JOIN staging.events USING (user_id, item_id) "
                               "WHERE placement = 'discover'",
            "buy again was bought": "SELECT 1 FROM marts.recommendations ANTI JOIN (FROM staging.events WHERE "
                                    "event_type = 'purchase') USING (user_id, item_id) WHERE placement = 'buy_again'",
            "evidence is the person's own": "SELECT 1 FROM marts.recommendations r ANTI JOIN staging.events e ON "
                                            "e.user_id = r.user_id AND e.item_id = r.reason_item_id "
                                            "WHERE r.reason_item_id IS NOT NULL",
            "a sensitive item is no evidence": "SELECT 1 FROM marts.recommendations r SEMI JOIN (FROM staging.items "
                                               "WHERE sensitive) i ON i.item_id = r.reason_item_id",
        }  # fmt: skip
    return [law for law, sql in laws.items() if con.execute(sql).fetchall()]


@pytest.mark.parametrize("name", ["recommendations", "default_recommendations"])
def test_lists_keep_every_promise(shop: tuple[Night, placements.Lists], name: str) -> None:
    night, _ = shop

    assert lists(night, name).height > 0
    assert broken(night.con, name) == []


def test_the_tables_are_what_their_contracts_say_in_the_order_of_their_publication(
    shop: tuple[Night, placements.Lists],
) -> None:
    night, _ = shop

    for name in TABLES:
        contract = contracts.load("marts", name)
        assert ask(night, f"SELECT column_name, column_type FROM (DESCRIBE marts.{name})") == [
            (c.name, c.type) for c in contract.columns
        ]
        shelved = name == "recommendations"
        bucket = [owners.bucket_of("user_id", known_buckets(night.run.lake, night.run.config))] if shelved else []
        order = ", ".join([*bucket, *contract.key])
        assert ask(night, f"FROM marts.{name}") == ask(night, f"FROM marts.{name} ORDER BY {order}"), name
        closed = [c for c in contract.columns if c.one_of]
        for column in closed:
            assert set(lists(night, name)[column.name].drop_nulls()) <= set(column.one_of), column.name


def test_the_summary_counts_what_was_written(shop: tuple[Night, placements.Lists]) -> None:
    night, found = shop

    assert found.rows == dict(ask(night, "SELECT placement, count(*) FROM marts.recommendations GROUP BY 1"))
    assert [(found.people,)] == ask(night, "SELECT count(DISTINCT user_id) FROM marts.recommendations")
    assert found.short["buy_again"] > 0
    assert found.default_rows == lists(night, "default_recommendations").height


def test_a_list_shorter_than_k_says_why(shop: tuple[Night, placements.Lists]) -> None:
    night, _ = shop

    unexplained = ask(night, """
        WITH wanted AS (SELECT DISTINCT user_id, placement FROM features.user_item,
                        (VALUES ('for_you'), ('discover'), ('buy_again')) p(placement)),
             had AS (SELECT user_id, placement, count(*) AS rows FROM marts.recommendations GROUP BY ALL)
        SELECT w.user_id, w.placement FROM wanted w LEFT JOIN had h USING (user_id, placement)
        LEFT JOIN marts.short_lists s USING (user_id, placement)
        WHERE coalesce(h.rows, 0) <> coalesce(s.rows, 20)
    """)  # fmt: skip
    assert unexplained == []
    whys = ask(night, "SELECT DISTINCT placement, why FROM marts.short_lists WHERE placement = 'buy_again'")
    assert whys == [("buy_again", "no_more_items_to_repeat")]


def test_reasons_fit_their_entries(shop: tuple[Night, placements.Lists]) -> None:
    night, _ = shop
    entries = lists(night)

    again = entries.filter(pl.col("reason_code") == "bought_before")
    assert again.height > 0
    assert again["item_id"].equals(again["reason_item_id"])
    linked = entries.filter(pl.col("reason_code").is_in(["because_you_bought", "because_you_liked"]))
    assert linked.height > 0
    assert (linked["item_id"] != linked["reason_item_id"]).all()
    together = ask(night, """
        SELECT min(people) FROM (
            SELECT r.item_id, r.reason_item_id, count(DISTINCT a.user_id) AS people
            FROM (SELECT DISTINCT item_id, reason_item_id FROM marts.recommendations
                  WHERE reason_code IN ('because_you_bought', 'because_you_liked')) r
            JOIN staging.events a ON a.item_id = r.item_id
            JOIN staging.events b ON b.item_id = r.reason_item_id AND b.user_id = a.user_id
            GROUP BY ALL)
    """)  # fmt: skip
    assert together[0][0] >= 3, "a reason needs min_people people behind it"
    assert entries.filter(pl.col("reason_code") == "trending")["reason_item_id"].null_count() == (
        entries.filter(pl.col("reason_code") == "trending").height
    )


def test_the_best_evidence_is_found() -> None:
    night = market()
    trained = training.train(night.con, night.run)
    block, model = trained.history, trained.families.models["item_item"]
    assert isinstance(model, ItemItem)
    people = np.repeat(np.arange(10), 4)
    items = np.tile(np.arange(4), 10)

    strength, own = reasons._strongest(block, people, items, model)

    pull = block.evidence(block.weight).toarray()[people] * model.similarity.toarray()[:, items].T
    np.testing.assert_allclose(strength, pull.max(axis=1), rtol=1e-6)
    found = strength > 0
    assert found.any()
    assert (pull[np.flatnonzero(found), own[found]] == strength[found]).all()


def test_what_one_person_had_comes_to_others_only_by_its_text() -> None:
    config = settings(5, evaluation=SMALL)
    night = market(config=config)
    night.con.execute("""
        INSERT INTO history.items BY NAME SELECT 'secret' AS item_id, 'red thing' AS title, 'approved' AS review_status,
               false AS sensitive, TIMESTAMPTZ '2025-11-01 00:00:00+00' AS landed_on;
        INSERT INTO history.events BY NAME SELECT 's' || n AS event_id, 'u000' AS user_id, 'secret' AS item_id,
               'purchase' AS event_type, TIMESTAMPTZ '2026-02-20 00:00:00+00' + to_days(n::INTEGER) AS occurred_at,
               TIMESTAMPTZ '2026-02-28 00:00:00+00' AS landed_on FROM range(5) t(n)
    """)
    night.open()
    features.build(night.con, night.run, CUT)

    published(night)

    assert ("u000",) in ask(night, "SELECT user_id FROM marts.recommendations WHERE item_id = 'secret'")
    assert ask(night, "SELECT DISTINCT recommender FROM marts.recommendations WHERE item_id = 'secret' "
                      "AND user_id <> 'u000'") in ([], [("content",)])  # fmt: skip
    assert ask(night, "SELECT * FROM marts.recommendations WHERE reason_item_id = 'secret' AND user_id <> 'u000'") == []
    assert ask(night, "SELECT * FROM marts.default_recommendations WHERE item_id = 'secret' "
                      "AND reason_code <> 'newest'") == []  # fmt: skip


def test_who_objects_has_no_list_and_teaches_nothing() -> None:
    night = market(config=settings(evaluation=SMALL))
    without = market(config=settings(evaluation=SMALL))
    night.con.execute("""
        INSERT INTO history.consents BY NAME SELECT 'u003' AS user_id, 'personalization' AS purpose, false AS granted,
               TIMESTAMPTZ '2026-02-01 00:00:00+00' AS recorded_at, TIMESTAMPTZ '2026-02-02 00:00:00+00' AS landed_on
    """)
    without.con.execute("DELETE FROM history.events WHERE user_id = 'u003'")
    for each in (night, without):
        each.open()
        features.build(each.con, each.run, CUT)
        published(each)

    assert ask(night, "SELECT 1 FROM marts.recommendations WHERE user_id = 'u003'") == []
    for name in TABLES:
        assert lists(night, name).equals(lists(without, name)), name


def test_the_size_of_a_block_and_the_number_of_threads_change_nothing() -> None:
    night = market(config=settings(evaluation=SMALL))
    trained = training.train(night.con, night.run)
    found = []
    for cells, threads in ((20_000_000, 1), (2_400, 2), (240, 2)):
        night.setting("run", max_block_cells=cells, threads=threads)
        placements.recommend(night.con, night.run, trained)
        found.append([lists(night, name) for name in TABLES])

    assert len(list(trained.history.blocks(240 // 6))) == 60, "one person at a time"
    for other in found[1:]:
        assert all(a.equals(b) for a, b in zip(found[0], other, strict=True))


def test_a_catalogue_without_events_gets_default_lists_newest_first() -> None:
    night = night_of(
        "user_id | item_id | occurred_at",
        """
        item_id | title | landed_on              | review_status
        old     | old   | 2026-01-01 00:00:00+00 | approved
        b       | b     | 2026-02-01 00:00:00+00 | approved
        a       | a     | 2026-02-01 00:00:00+00 | approved
        no      | no    | 2026-02-02 00:00:00+00 | blocked
        """,
    )

    found = published(night)

    assert found.people == 0
    assert lists(night).is_empty()
    default = lists(night, "default_recommendations")
    assert default.filter(pl.col("placement") == "for_you")["item_id"].to_list() == ["a", "b", "old"]
    assert set(default["reason_code"]) == {"newest"}
    runs = lists(night, "model_runs").filter(pl.col("role") == "family")
    assert all(why.startswith("too_little_data") for why in runs["why"])


def test_a_country_has_its_list_when_enough_people_live_there() -> None:
    people = {f"f{n}": "FR" for n in range(4)} | {f"d{n}": "DE" for n in range(3)} | {"z": "ZZ"}
    rows = [(u, "fr" if c == "FR" else "de") for u, c in people.items()] + [(u, "all") for u in people]
    night = night_of(
        "user_id | item_id | event_type | occurred_at\n"
        + "\n".join(f"{u} | {i} | purchase | 2026-02-25 12:00:00+00" for u, i in rows),
        "item_id | title\n" + "\n".join(f"{i} | {i}" for i in ("fr", "de", "all")),
        settings(4),
    )
    night.given("staging.users", "user_id | country\n" + "\n".join(f"{u} | {c}" for u, c in people.items()))

    published(night)

    default = lists(night, "default_recommendations").filter(pl.col("placement") == "for_you")
    assert set(default["segment"]) == {"all", "FR"}, "three people are too few, and ZZ is no country"
    french = default.filter(pl.col("segment") == "FR")
    assert french["item_id"].to_list()[:2] == ["all", "fr"]
    assert french["reason_code"].to_list()[:2] == ["popular_in_country"] * 2


@effort(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.integers(0, 7), st.sampled_from(["view", "purchase", "return", "like"]),
            st.integers(1, 60),
        ),
        max_size=40,
    ),
    st.integers(1, 4),
    st.integers(1, 3),
)  # fmt: skip
@example(events=[(0, 0, "view", 1), (0, 0, "view", 5)], k=1, min_people=1)  # a window in which nobody chose
def test_any_small_world_keeps_every_promise(events: list[tuple[int, int, str, int]], k: int, min_people: int) -> None:
    config = settings(min_people, evaluation={"min_people": 1, "bootstrap": 5})
    config = config.model_copy(
        update={"placements": {n: p.model_copy(update={"k": k}) for n, p in config.placements.items()}}
    )
    rows = "\n".join(
        f"u{u} | i{i} | {kind} | {(CUT - np.timedelta64(days, 'D').astype('timedelta64[s]').item()).isoformat()}"
        for u, i, kind, days in events
    )
    night = night_of(
        "user_id | item_id | event_type | occurred_at\n" + rows,
        "item_id | title | sensitive | review_status\n"
        + "\n".join(f"i{i} | thing {i % 3} | {str(i == 5).lower()} | {'blocked' if i == 6 else 'approved'}"
                    for i in range(8)),
        config,
    )  # fmt: skip

    published(night)

    promises = [*broken(night.con, "recommendations"), *broken(night.con, "default_recommendations")]
    if not any(kind == "purchase" for _, _, kind, _ in events):
        # Where nothing is sold, what was liked is what may be repeated.
        promises = [p for p in promises if p != "buy again was bought"]
    assert promises == []
    assert lists(night)["position"].max() is None or int(str(lists(night)["position"].max())) <= k
    night.con.close()


def test_the_version_says_what_was_learned_from() -> None:
    night = market(config=settings(evaluation=SMALL))

    one, again = training.train(night.con, night.run), training.train(night.con, night.run)
    other = training.train(night.con, replace(night.run, label="another day"))

    assert one.model_version == again.model_version != other.model_version
    assert one.model_version.startswith(("blend-", "ranker-"))
    assert blend.DECIMALS == 6
