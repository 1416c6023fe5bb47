"""Folding in what happened since a training is what a full fit would give."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, timedelta
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from implicit.cpu.als import AlternatingLeastSquares

from tasks import blend, champion, features, training
from tasks.errors import BlockedError
from tasks.recommenders import Floats, Interactions, interactions
from tasks.recommenders.als import Als, first_factors
from tasks.registry import Version
from tests.sql.spec import CUT, Night
from tests.tasks.worlds import market

ALS_TOLERANCE = 0.05
"""Mean distance of two rows of scores of length 1: fold-in against the person's own factors of a full fit, or item
factors of ten days ago against tonight's."""
DAYS_AGO = 10


@dataclass(frozen=True)
class Story:
    night: Night
    then: Interactions
    now: Interactions
    version: Version
    """Trained ten days before tonight."""


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    night = market(people=150)
    run, half_life = night.run, night.run.config.signals.half_life_days
    cut = CUT - timedelta(days=DAYS_AGO)
    with features.window(night.con, run, cut, "window"):
        features.build(night.con, run, cut, training.NEEDED)
        then = interactions.load(night.con, cut, half_life)
    now = interactions.load(night.con, CUT, half_life)
    trained = training.train(night.con, run)
    folder = tmp_path_factory.mktemp("model")
    training.save(replace(trained, history=then, families=blend.fit(then, run.config)), folder)
    settings = {"recommenders": run.config.recommenders.model_dump(mode="json")}
    version = Version("2026-02-19-0123456789ab", cut.astimezone(UTC), settings, {}, folder)
    yield Story(night, then, now, version)
    night.con.close()


def test_closed_form_families_are_those_of_a_full_fit_to_tonight(story: Story) -> None:
    folded = champion.load(story.night.con, story.night.run, story.version).families
    full, stale = (blend.fit(history, story.night.run.config) for history in (story.now, story.then))

    closed = [family.name for family in blend.FAMILIES if family is not Als]
    assert closed == [family.name for family in blend.FITTED_NIGHTLY]
    for name in closed:
        assert folded.models[name].score(story.now).tobytes() == full.models[name].score(story.now).tobytes()
    assert any(
        stale.models[name].score(story.now).tobytes() != full.models[name].score(story.now).tobytes() for name in closed
    )


def test_als_folded_onto_tonight_is_within_the_tolerance_of_a_full_fit(story: Story) -> None:
    folded = champion.load(story.night.con, story.night.run, story.version).families.models["als"]
    full = Als.fit(story.now, story.night.run.config)

    assert 0 < distance(folded.score(story.now), full.score(story.now)) < ALS_TOLERANCE


def test_als_fold_in_is_within_the_tolerance_of_the_factors_of_its_own_fit(story: Story) -> None:
    config = story.night.run.config
    settings, cells = (
        config.recommenders.als,
        story.now.evidence(story.now.fresh(config.recommenders.als.half_life_days)),
    )
    model = AlternatingLeastSquares(
        factors=settings.factors, regularization=settings.regularization, alpha=settings.confidence,
        iterations=settings.iterations, num_threads=1, random_state=0,
    )  # fmt: skip
    model.item_factors = first_factors(story.now.catalogue.ids, settings.factors, config.run.seed)
    model.user_factors = np.zeros((cells.shape[0], settings.factors), dtype=np.float32)
    model.fit(sp.csr_matrix(cells), show_progress=False)
    own = np.maximum(model.user_factors @ model.item_factors.T, 0)

    assert distance(Als.fit(story.now, config).score(story.now), own) < ALS_TOLERANCE


def test_rows_carry_the_name_of_the_version(story: Story) -> None:
    assert champion.load(story.night.con, story.night.run, story.version).model_version == story.version.id


def test_a_version_of_another_program_is_refused_in_one_line(story: Story, tmp_path: Path) -> None:
    (tmp_path / "trained.json").write_text('{"format": 0}')
    strangers = [
        replace(story.version, folder=tmp_path),
        replace(story.version, settings={"recommenders": {"oracle": {}}}),
        replace(story.version, settings={}),
    ]

    for stranger in strangers:
        with pytest.raises(BlockedError, match="another version of tailorbird") as refused:
            champion.load(story.night.con, story.night.run, stranger)
        assert "\n" not in str(refused.value)


def test_tonights_privacy_floor_holds_whatever_the_version_was_trained_with(story: Story) -> None:
    config = champion.recipe(story.night.run.config, story.version)

    assert config.privacy == story.night.run.config.privacy


def distance(one: Floats, other: Floats) -> float:
    """Mean over people of 1 − cosine."""
    sizes = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    known = sizes > 0
    assert known.sum() > len(one) / 2
    return float((1 - (one * other).sum(axis=1)[known] / sizes[known]).mean())
