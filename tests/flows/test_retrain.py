"""Retraining changes what is served for the better or not at all, and a night follows the champion of its day."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from flows.nightly import Night, ingest_landing, night
from flows.retrain import as_text, retraining
from flows.steps import plainly
from tasks import challenge, evaluation, registry, sample, tuning
from tasks import lake as lakes
from tasks.challenge import Judgement
from tasks.errors import BlockedError
from tasks.evaluation import Truth
from tasks.report import Summary
from tasks.settings import Run
from tests.nights import LAST, a_run, read, shelf, without_checks

EARLIER = "2026-03-25"
POOR: Mapping[str, Mapping[str, Any]] = {
    "trending": {"windows_days": (90,)},
    "repeat": {"demand_exponent": 1.0},
    "item_item": {"half_life_days": 0.02},
    "graph_filter": {"half_life_days": 0.02},
    "ease": {"half_life_days": 0.02},
    "als": {"half_life_days": 0.02, "factors": 1},
    "content": {"dimensions": 2, "half_life_days": 0.02},
}
"""Settings of a team that believes in the last half hour only."""


@pytest.fixture(autouse=True, scope="module")
def unchecked() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.quality.check", None)
        without_checks()
        yield


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrain") / "landing"
    sample.make(folder, users=160, items=60, events=6000, days=30, seed=5)
    return folder


@pytest.fixture(scope="module")
def ingested(landing: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake that has taken everything in, to be copied."""
    lake = tmp_path_factory.mktemp("ingested") / "lake"
    run = a_run(landing, lake)
    with lakes.lock(lake), lakes.scratch(lake) as room:
        ingest_landing(Night(run, room))
    return lake


@dataclass
class Place:
    """A lake whose champion can be had by decree."""

    landing: Path
    lake: Path

    def run(
        self, as_of: str = LAST, families: Mapping[str, Mapping[str, Any]] | None = None, ranker: bool = False
    ) -> Run:
        """Without a ranker unless asked for: trees make up for a poor family, and take their time."""
        run = a_run(self.landing, self.lake, as_of)
        known, trees = run.config.recommenders, run.config.ranker
        changed = {name: getattr(known, name).model_copy(update=dict(v)) for name, v in (families or {}).items()}
        grown = trees.model_copy(update={"min_successes": 5 if ranker else 1_000_000, "iterations": 20})
        sections = {"recommenders": known.model_copy(update=changed), "ranker": grown}
        return replace(run, config=run.config.model_copy(update=sections))

    def crown(self, run: Run) -> str:
        """The champion of these settings, whatever the figures say."""
        with pytest.MonkeyPatch.context() as patch:
            for judge in ("against_baselines", "against_champion"):
                patch.setattr(challenge, judge, lambda *_: Judgement(True, "is champion by decree"))
            version = retraining(run, trials=0)["registered"]
        assert isinstance(version, str)
        return version

    def hash(self, as_of: str = LAST) -> str:
        return str(night(self.run(as_of))["content_hash"])


@pytest.fixture(scope="module")
def place(landing: Path, ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A lake with a champion of the settings in force, trained to the last day."""
    here = Place(landing, tmp_path_factory.mktemp("place") / "lake")
    shutil.copytree(ingested, here.lake)
    here.crown(here.run())
    return here


@pytest.fixture(scope="module")
def dated(landing: Path, ingested: Path, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A lake whose champion is six days old, to be copied."""
    here = Place(landing, tmp_path_factory.mktemp("dated") / "lake")
    shutil.copytree(ingested, here.lake)
    here.crown(here.run(EARLIER))
    return here


@pytest.fixture
def old(dated: Place, tmp_path: Path) -> Place:
    return Place(dated.landing, Path(shutil.copytree(dated.lake, tmp_path / "lake", symlinks=True)))


@pytest.fixture
def fresh(landing: Path, ingested: Path, tmp_path: Path) -> Place:
    """A lake without a model."""
    return Place(landing, Path(shutil.copytree(ingested, tmp_path / "lake")))


def models(lake: Path) -> dict[str, bytes]:
    return {str(f.relative_to(lake)): f.read_bytes() for f in sorted((lake / "models").rglob("*")) if f.is_file()}


def shuffling(only: str, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Steps of which `only` learns from what other people did: every window but the last has its people shuffled."""
    honest = evaluation.truth

    def shuffled(con: Any, run: Run, history: Any, start: Any, end: Any) -> Truth:
        happened, windows = honest(con, run, history, start, end), evaluation.split(con, run)
        if windows is None or end == windows.end:
            return happened
        order = np.random.default_rng(1).permutation(len(history))
        return Truth({signal: sp.csr_array(table[order]) for signal, table in happened.by_signal.items()})

    def step(name: str, do: Callable[..., None], *given: Any) -> None:
        monkeypatch.setattr(evaluation, "truth", shuffled if name == only else honest)
        plainly(name, do, *given)

    return step


def test_a_challenger_that_learned_from_shuffled_labels_is_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = place.run(families={"als": {"confidence": 6.0}})
    before = models(place.lake)

    refused = retraining(run, shuffling("train challenger", monkeypatch), trials=0)

    assert refused["status"] == "kept"
    assert "not better than the champion beyond noise" in refused["why"]
    assert refused["comparison"]["ndcg@10"]["all"][0] < 0
    assert models(place.lake) == before


def test_twice_on_the_same_data_the_same_bytes_and_nothing_promoted(place: Place, fresh: Place) -> None:
    fresh.crown(fresh.run())
    before = models(place.lake)

    again = retraining(place.run(), trials=0)

    assert (again["status"], again["registered"]) == ("kept", None)
    assert models(place.lake) == before == models(fresh.lake)


def test_a_better_one_is_promoted_demote_brings_the_old_one_back_and_nights_follow(fresh: Place) -> None:
    place = fresh
    cold = place.hash(EARLIER)
    poor = place.crown(place.run(families=POOR))
    served = place.hash()

    won = retraining(place.run(), trials=0)

    assert won["status"] == "promoted", as_text(won)
    assert won["comparison"]["ndcg@10"]["all"][1] > 0
    better = place.hash()
    assert better != served
    assert registry.demote(place.lake) == poor
    assert place.hash() == served
    # Both champions know the last day: a night of an earlier one goes without.
    assert place.hash(EARLIER) == cold


def test_a_night_ranks_with_the_trees_of_its_champion(fresh: Place) -> None:
    # given
    version = fresh.crown(fresh.run(ranker=True))
    # when
    told = night(fresh.run())
    # then
    assert told["champion"] == version
    rows = read(fresh.lake / "current" / "model_runs", "placement, used, recommender")
    ranked = {placement for placement, used, recommender in rows if used and recommender == "ranker"}
    chances = read(fresh.lake / "current" / "recommendations", "DISTINCT placement, p_purchase IS NOT NULL")
    assert ranked, "otherwise the rest proves nothing"
    assert {placement for placement, known in chances if known} == ranked
    assert read(fresh.lake / "current" / "model_reliability", "count(*)") != [(0,)]


def test_rows_name_the_champion_and_the_summary_tells_it(place: Place) -> None:
    told = night(place.run())

    assert told["champion"] == registry.champion(place.lake)
    assert model_versions(place.lake) == {told["champion"]}


def test_a_search_that_is_cut_short_says_so_and_promotes_nothing(place: Place) -> None:
    before = models(place.lake)

    cut = retraining(place.run(families=POOR), trials=3, budget=0)

    assert (cut["status"], cut["search"]["complete"]) == ("cut_short", False)
    assert "cut short after 0 of 3 trials" in cut["why"]
    assert models(place.lake) == before


def test_a_search_finds_the_same_again_and_nothing_worse(place: Place) -> None:
    tried: list[Summary] = [retraining(place.run(families={"repeat": {"half_life_days": 1}}), trials=2) for _ in "ab"]

    assert tried[0]["search"] == tried[1]["search"]
    assert tried[0]["search"]["best"] >= tried[0]["search"]["start"] > 0
    assert tried[0]["search"]["trials"] == 2


def test_a_champion_that_nobody_beats_is_refitted_when_it_is_old(old: Place) -> None:
    place, champion = old, registry.champion(old.lake)
    run = place.run()
    strict = run.config.retraining.model_copy(update={"refresh_days": 6})

    kept = retraining(run, trials=0)
    refreshed = retraining(replace(run, config=run.config.model_copy(update={"retraining": strict})), trials=0)

    assert (kept["status"], kept["champion"]) == ("kept", champion)
    assert refreshed["status"] == "refreshed"
    assert registry.serving(place.lake) == [champion, refreshed["registered"]]
    assert night(place.run("2026-03-30"))["champion"] == champion


def test_a_damaged_champion_stops_the_night_and_yesterday_stays(old: Place) -> None:
    place, version = old, registry.champion(old.lake)
    assert version is not None
    place.hash(EARLIER)
    published = shelf(place.lake)
    (place.lake / "models" / version / "als.npz").write_bytes(b"")

    with pytest.raises(BlockedError, match=f"models/{version}: is gone or damaged") as refused:
        night(place.run())

    assert refused.value.exit_code == 3
    assert shelf(place.lake) == published


def test_a_failed_retraining_changes_nothing_that_is_served(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    before = models(place.lake)
    monkeypatch.setattr(tuning, "search", broken)

    with pytest.raises(RuntimeError):
        retraining(place.run(), trials=0)

    assert models(place.lake) == before


def broken(*_: object) -> None:
    raise RuntimeError("out of memory")


def model_versions(lake: Path) -> set[str]:
    return {str(version) for (version,) in read(lake / "current" / "recommendations", "DISTINCT model_version")}
