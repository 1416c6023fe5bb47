"""A model that was saved scores as the one that was trained, in another catalogue too."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tasks import blend, training
from tasks.recommenders import Floats, Interactions
from tests.sql.spec import Night
from tests.tasks.worlds import market


@pytest.fixture(scope="module")
def trained() -> Iterator[tuple[Night, training.Trained]]:
    night = market()
    yield night, training.train(night.con, night.run)
    night.con.close()


def test_a_saved_model_scores_as_the_trained_one(trained: tuple[Night, training.Trained], tmp_path: Path) -> None:
    # given
    night, model = trained
    # when
    training.save(model, tmp_path)
    again = training.load(tmp_path, model.history, night.run.config)
    # then
    assert again.families.names == model.families.names
    assert len(again.families.names) == len(blend.FAMILIES)
    assert _opinions(again).tobytes() == _opinions(model).tobytes()
    assert again.runs.equals(model.runs)
    assert again.figures.equals(model.figures)
    assert again.evaluation == model.evaluation
    assert {p: w.tolist() for p, w in again.weights.items()} == {p: w.tolist() for p, w in model.weights.items()}


def test_equal_models_are_equal_bytes(trained: tuple[Night, training.Trained], tmp_path: Path) -> None:
    # given
    _, model = trained
    folders = [tmp_path / name for name in ("one", "other")]
    # when
    for folder in folders:
        folder.mkdir()
        training.save(model, folder)
    # then
    one, other = ({file.name: file.read_bytes() for file in folder.iterdir()} for folder in folders)
    assert len(one) == len(blend.FAMILIES) + 1
    assert one == other


def test_a_model_names_no_person(trained: tuple[Night, training.Trained], tmp_path: Path) -> None:
    # given
    _, model = trained
    # when
    training.save(model, tmp_path)
    # then
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"i000" in written
    assert not [person for person in model.history.people if person.encode() in written]


def test_an_aligned_family_gives_each_item_its_own_score(trained: tuple[Night, training.Trained]) -> None:
    # given: the same catalogue, with one item in front that no family knows
    _, model = trained
    places = np.array([-1, *range(len(model.history.catalogue))])
    # when / then
    block = model.history.take(np.arange(5))
    wider = _with_a_stranger(block)
    for family in model.families.models.values():
        scores = family.align(places).score(wider)
        assert not scores[:, 0].any()
        np.testing.assert_allclose(scores[:, 1:], family.score(block), rtol=1e-5, atol=1e-6)


def test_a_model_of_another_format_is_refused(trained: tuple[Night, training.Trained], tmp_path: Path) -> None:
    # given
    night, model = trained
    training.save(model, tmp_path)
    file = tmp_path / "trained.json"
    file.write_text(file.read_text().replace(f'"format": {training.FORMAT}', '"format": 0'))
    # when / then
    with pytest.raises(ValueError, match="format"):
        training.load(tmp_path, model.history, night.run.config)


def _opinions(model: training.Trained) -> Floats:
    scores = np.stack(blend.scales(model.families, model.history, 1))
    assert (scores > 0).any(axis=(1, 2)).all()
    return scores


def _with_a_stranger(block: Interactions) -> Interactions:
    old = block.catalogue
    grown = replace(
        old,
        ids=("a", *old.ids),
        text=("", *old.text),
        people=np.concatenate(([0], old.people)),
        demand={days: np.concatenate(([0], demand)) for days, demand in old.demand.items()},
        newest=np.concatenate(([0], old.newest + 1)),
        recommendable=np.concatenate(([True], old.recommendable)),
        sensitive=np.concatenate(([False], old.sensitive)),
    )
    return replace(block, catalogue=grown, columns=(block.columns + 1).astype(np.int32))
