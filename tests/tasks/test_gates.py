"""The promises of the gates: each stops what it is for, lets the ordinary pass, and says when it could not judge."""

from dataclasses import replace

import duckdb
import pytest

from tasks import gates
from tasks.errors import BlockedError
from tasks.gates import ClosedGateError, Earlier, Verdict
from tasks.settings import load_config
from tests.published import filled

ORDER = ["rows", "people", "duplicates", "catalogue", "evaluation", "overlap"]


def with_earlier(con: duckdb.DuckDBPyConnection, people: int = 40, shift: int = 0) -> Earlier:
    """An earlier publication, whose lists lie in the table `before` of the same database."""
    rows = filled(people=people, shift=shift).execute("FROM marts.recommendations").fetchall()
    con.execute("CREATE TABLE before AS FROM marts.recommendations LIMIT 0")
    con.executemany("INSERT INTO before VALUES ($1, $2, $3, $4, $5, $6, $7)", rows)
    return Earlier("2011-11-09-0123456789ab", {"recommendations": "before"})


def judged(con: duckdb.DuckDBPyConnection, earlier: Earlier | None = None) -> dict[str, Verdict]:
    verdicts = gates.judge(con, load_config(), earlier)
    assert [v.gate for v in verdicts] == ORDER
    return {v.gate: v for v in verdicts}


def runs(con: duckdb.DuckDBPyConnection, *figures: tuple[str, str, float | None, float | None]) -> None:
    """`marts.model_runs` with (placement, role, lower end, upper end)."""
    con.execute(
        "CREATE TABLE marts.model_runs (placement VARCHAR, role VARCHAR, test_ndcg_10_low DOUBLE, "
        "test_ndcg_10_high DOUBLE, used BOOLEAN DEFAULT true)"
    )
    con.executemany("INSERT INTO marts.model_runs BY POSITION VALUES ($1, $2, $3, $4, DEFAULT)", figures)


def catalogue(con: duckdb.DuckDBPyConnection, items: int) -> None:
    con.execute("CREATE SCHEMA staging; CREATE TABLE staging.items (item_id VARCHAR, recommendable BOOLEAN)")
    con.execute("INSERT INTO staging.items SELECT 'i' || i, true FROM range($n) AS t(i)", {"n": items})
    con.execute("INSERT INTO staging.items SELECT 'hidden' || i, false FROM range(100000) AS t(i)")


def test_an_ordinary_night_passes_every_gate() -> None:
    con = filled()
    catalogue(con, 50)
    runs(con, ("for_you", "blend", 0.3, 0.4), ("for_you", "baseline", 0.2, 0.25))
    verdicts = judged(con, with_earlier(con))
    assert all(v.passed for v in verdicts.values())
    assert {g: v.observed for g, v in verdicts.items()} == {
        "rows": 205, "people": 1, "duplicates": 0, "catalogue": 0.1, "evaluation": 0.4, "overlap": 1,
    }  # fmt: skip
    gates.enforce(list(verdicts.values()))


def test_the_first_night_has_nothing_to_be_compared_with() -> None:
    verdicts = judged(filled())
    assert {g for g, v in verdicts.items() if v.note.startswith("skipped: ")} == {
        "people", "catalogue", "evaluation", "overlap",
    }  # fmt: skip
    assert all(v.passed for v in verdicts.values())


def test_a_night_without_any_list_is_stopped() -> None:
    con = filled(people=0)
    con.execute("DELETE FROM marts.default_recommendations")
    assert not judged(con)["rows"].passed


def test_default_lists_alone_are_enough_where_nobody_has_events() -> None:
    verdicts = judged(filled(people=0))
    assert all(v.passed for v in verdicts.values())


@pytest.mark.parametrize(("people", "passes"), [(19, False), (20, True), (80, True)])
def test_losing_half_of_the_people_is_stopped(people: int, passes: bool) -> None:
    con = filled(people=people)
    verdict = judged(con, with_earlier(con, people=40))["people"]
    assert (verdict.passed, verdict.observed, verdict.threshold) == (passes, people / 40, 0.5)


@pytest.mark.parametrize("table", ["recommendations", "default_recommendations"])
def test_an_item_twice_in_one_list_is_stopped(table: str) -> None:
    con = filled()
    con.execute(f"UPDATE marts.{table} SET item_id = 'same' WHERE position <= 3")
    verdict = judged(con)["duplicates"]
    assert not verdict.passed
    assert verdict.observed == {"recommendations": 80, "default_recommendations": 2}[table]


def test_the_same_few_items_for_everybody_are_stopped() -> None:
    con = filled(people=2000)
    catalogue(con, 5000)
    verdict = judged(con)["catalogue"]
    assert (verdict.passed, verdict.observed) == (False, 5 / 5000)


def test_a_few_people_need_not_cover_a_large_catalogue() -> None:
    con = filled(people=2)
    catalogue(con, 5000)
    assert judged(con)["catalogue"].passed


def test_a_blend_below_a_baseline_beyond_both_intervals_is_stopped() -> None:
    con = filled()
    runs(con, ("for_you", "blend", 0.1, 0.2), ("for_you", "baseline", 0.05, 0.1), ("for_you", "baseline", 0.3, 0.4))
    assert not judged(con)["evaluation"].passed


def test_each_placement_is_compared_with_its_own_baseline() -> None:
    good = [("for_you", "blend", 0.3, 0.4), ("for_you", "baseline", 0.2, 0.3), ("discover", "blend", 0.05, 0.1)]
    for low, passes in ((0.09, True), (0.11, False)):
        con = filled()
        runs(con, *good, ("discover", "baseline", low, 0.2))
        verdict = judged(con)["evaluation"]
        assert (verdict.passed, verdict.observed, verdict.threshold) == (passes, 0.1, low)


@pytest.mark.parametrize("low", [0.15, None, float("nan")])
def test_overlapping_or_missing_figures_stop_nothing(low: float | None) -> None:
    con = filled()
    runs(con, ("for_you", "blend", 0.1, 0.2), ("for_you", "baseline", low, 0.4))
    verdict = judged(con)["evaluation"]
    assert verdict.passed
    assert verdict.note == "skipped: too_little_data" or verdict.observed == 0.2


def test_all_lists_different_overnight_is_stopped() -> None:
    con = filled(shift=5)
    assert not judged(con, with_earlier(con))["overlap"].passed


def test_overlap_is_over_the_people_of_both_days() -> None:
    con = filled(people=10, shift=2)
    verdict = judged(con, with_earlier(con, people=20))["overlap"]
    assert verdict.observed == 3 / 5


def test_a_failed_gate_says_which_what_it_saw_and_what_it_needs() -> None:
    con = filled(people=1)
    verdicts = gates.judge(con, load_config(), with_earlier(con))
    with pytest.raises(ClosedGateError, match=r"people is 0\.025, needs 0\.5 .*2011-11-09-0123456789ab") as blocked:
        gates.enforce(verdicts)
    assert blocked.value.exit_code == BlockedError.exit_code == 3
    assert blocked.value.verdicts == tuple(verdicts)
    gates.enforce([replace(v, severity="warning") for v in verdicts])


def test_verdicts_are_plain_records() -> None:
    records = gates.as_records(gates.judge(filled(), load_config(), None))
    assert [set(r) for r in records] == [{"gate", "passed", "observed", "threshold", "severity", "note"}] * len(ORDER)
