"""The page of main parameters is read from what is deployed: change that, and the page says so."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tasks import blend, contracts, transparency
from tasks.chances import Chance, Forest
from tasks.ranker import Ranker
from tests.nights import settings
from tests.published import put
from tests.sql.spec import defaults


def page(lake: Path, **changes: dict[str, object]) -> str:
    return transparency.as_markdown(transparency.explain(lake, settings(**changes)))


def test_every_table_of_people_is_told_with_purpose_and_time(tmp_path: Path) -> None:
    facts = transparency.explain(tmp_path, defaults())

    tables = {law.name for law in contracts.all_of("landing") if law.subject}
    assert {told["table"] for told in facts["collected"]} == tables
    assert all(told["purpose"] and told["kept_days"] > 0 and told["erased"] for told in facts["collected"])
    told = transparency.as_markdown(facts)
    assert all(f"**{table}**" in told for table in tables)
    assert "with free text 90 days" in told


def test_every_purpose_signal_placement_and_control_is_told(tmp_path: Path) -> None:
    config, told = defaults(), page(tmp_path)

    assert all(f"**{purpose}**" in told for purpose in config.privacy.basis)
    assert all(f"| {name.replace('_', ' ')} | {w:+g} |" in told for name, w in config.signals.weights.items())
    assert all(f"**{placement}**" in told for placement in config.placements)
    controls = {"level", "muted topics", "novelty share", "reset from", "paused"}
    assert all(f"**{control}**" in told for control in controls)
    assert "erase, access, restrict, object, lift" in told


def test_the_words_follow_the_deployed_settings(tmp_path: Path) -> None:
    before = page(tmp_path)
    basis = defaults().privacy.basis | {"personalization": "consent"}

    after = page(tmp_path, privacy={"basis": basis, "minimum_profiled_age": 77, "retention_days": {"events": 123}})

    assert "below 77" in after
    assert "123 days from the event" in after
    assert "Used only if you allow it (consent)" in after
    assert "below 77" not in before


def test_without_a_publication_there_are_no_weights_and_it_says_so(tmp_path: Path) -> None:
    put(tmp_path)  # lists without a record of models

    assert "Nothing has been published yet" in page(tmp_path / "elsewhere")
    assert "served is 2011-11-10" in page(tmp_path)


def test_every_family_has_words() -> None:
    assert {family.name for family in blend.FAMILIES} <= transparency.FAMILIES.keys()
    assert set(transparency.PURPOSES) == set(defaults().privacy.basis)
    assert set(transparency.REPEATS) == {"allowed", "never", "only"}


@pytest.fixture
def champion(tmp_path: Path) -> Path:
    """A lake whose champion has a ranker with one tree: two splits, of which the second gained three times as much."""
    kind = np.dtype([("feature_idx", np.int64), ("gain", np.float32), ("is_leaf", np.uint8)])
    nodes = np.array([(0, 1.0, 0), (2, 3.0, 0), (0, 0, 1), (0, 0, 1), (0, 9.0, 1)], dtype=kind)
    knots = np.array([[0.0, 1.0], [0.0, 1.0]])
    folder = tmp_path / "models" / "2011-11-10-0123456789ab"
    folder.mkdir(parents=True)
    chance = Chance(Forest((nodes,), 0.0), None, 0.0, 0.0, knots)
    Ranker(("blend", "noise", "person_events"), {"purchase": chance}, {"purchase": 1.0}).save(
        folder / "ranker-only.npz"
    )
    (tmp_path / "models" / "champion").symlink_to(folder.name)
    return tmp_path


def test_the_champions_importances_are_measured_on_its_trees(champion: Path) -> None:
    facts = transparency.explain(champion, defaults())

    assert facts["ranker"]["features"] == {"only": {"person_events": 0.75, "blend": 0.25, "noise": 0.0}}
    assert "| person events | 0.750 |" in transparency.as_markdown(facts)


def test_it_is_json_and_the_same_every_time(champion: Path, tmp_path: Path) -> None:
    facts = transparency.explain(champion, defaults())

    copy = tmp_path.with_name(tmp_path.name + "-copy")
    shutil.copytree(tmp_path, copy, symlinks=True)
    assert json.dumps(facts) == json.dumps(transparency.explain(copy, defaults()))
