"""The registry keeps its word: what is served is what was registered, and which model serves is a matter of record."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tasks import doctor, registry
from tasks.errors import BlockedError, ConfigurationError
from tasks.settings import load_config
from tests.nights import a_run

OCTOBER, NOVEMBER, DECEMBER = "2011-10-31", "2011-11-30", "2011-12-31"


def registered(lake: Path, as_of: str, knowledge: bytes = b"what was learned") -> str:
    """A version of two files."""
    built = lake.parent / "built"
    built.mkdir(parents=True, exist_ok=True)
    (built / "als.npz").write_bytes(knowledge)
    (built / "trained.json").write_bytes(b"{}")
    return registry.register(a_run(lake.parent, lake, as_of), built, {"ndcg": 0.5})


def night(day: int, month: int = 11) -> datetime:
    return datetime(2011, month, day, tzinfo=UTC)


def serves(lake: Path, cut: datetime) -> str | None:
    found = registry.champion_for(lake, cut)
    return found.id if found else None


def files(lake: Path) -> dict[str, bytes]:
    return {str(f.relative_to(lake)): f.read_bytes() for f in sorted((lake / "models").rglob("*")) if f.is_file()}


# Versions


def test_the_same_model_is_the_same_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    here, there = tmp_path / "here" / "lake", tmp_path / "there" / "deep" / "lake"

    once, again, elsewhere = registered(here, OCTOBER), registered(here, OCTOBER), registered(there, OCTOBER)

    assert once == again == elsewhere
    assert files(here) == files(there)
    assert not any(str(tmp_path).encode() in content for content in files(here).values())


def test_other_knowledge_or_another_cut_is_another_version(tmp_path: Path) -> None:
    lake = tmp_path / "lake"

    found = {registered(lake, OCTOBER), registered(lake, OCTOBER, b"other"), registered(lake, NOVEMBER)}

    assert len(found) == len(registry.models(lake)) == 3


@pytest.mark.parametrize("name", ["als.npz", "trained.json", "manifest.json"])
def test_a_changed_byte_is_refused_in_one_clear_line(tmp_path: Path, name: str) -> None:
    lake = tmp_path / "lake"
    registered(lake, OCTOBER, b"older")
    version = registered(lake, NOVEMBER)
    for one in registry.models(lake):
        registry.promote(lake, one.version)
    file = lake / "models" / version / name
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1) + b" ")

    with pytest.raises(BlockedError, match=f"models/{version}: is gone or damaged") as refused:
        registry.champion_for(lake, night(1, 12))

    assert refused.value.exit_code == 3
    assert "\n" not in str(refused.value)
    assert [one.intact for one in registry.models(lake)] == [True, False]


def test_a_manifest_that_was_made_to_fit_other_files_is_refused(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    version, other = registered(lake, OCTOBER), registered(lake, OCTOBER, b"other")
    for name in ("als.npz", "manifest.json"):
        content = (lake / "models" / other / name).read_bytes().replace(other.encode(), version.encode())
        (lake / "models" / version / name).write_bytes(content)

    with pytest.raises(BlockedError):
        registry.promote(lake, version)


@pytest.mark.parametrize("version", ["2011-10-31-000000000000", "../history", "", "champion"])
def test_what_is_not_there_cannot_be_promoted(tmp_path: Path, version: str) -> None:
    registered(tmp_path / "lake", OCTOBER)

    with pytest.raises(ConfigurationError, match="no such model"):
        registry.promote(tmp_path / "lake", version)


# Who serves


def test_a_night_uses_the_newest_champion_whose_data_end_by_its_day(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    old, new = registered(lake, OCTOBER), registered(lake, NOVEMBER)
    registry.promote(lake, old)
    before = [serves(lake, night(day)) for day in (1, 30)]
    registry.promote(lake, new)

    assert before == [serves(lake, night(day)) for day in (1, 30)] == [old, old]
    assert serves(lake, night(1, 12)) == new
    assert serves(lake, night(31, 10)) is None


def test_the_order_of_retrainings_does_not_matter(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    versions = {month: registered(lake, month) for month in (NOVEMBER, DECEMBER, OCTOBER)}
    for version in versions.values():
        registry.promote(lake, version, in_order=True)

    assert registry.serving(lake) == [versions[OCTOBER], versions[NOVEMBER], versions[DECEMBER]]
    assert serves(lake, night(15)) == versions[OCTOBER]


def test_demote_brings_the_old_one_back_and_in_the_end_nobody_serves(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    old, new = registered(lake, OCTOBER), registered(lake, NOVEMBER)
    registry.promote(lake, old)
    registry.promote(lake, new)

    assert (registry.demote(lake), serves(lake, night(31, 12))) == (old, old)
    assert (lake / "models" / "champion").readlink() == Path(old)
    assert (registry.demote(lake), serves(lake, night(31, 12))) == (None, None)
    assert not (lake / "models" / "champion").is_symlink()
    with pytest.raises(ConfigurationError):
        registry.demote(lake)
    assert {one.version for one in registry.models(lake)} == {old, new}


def test_who_promotes_an_older_one_is_served_it(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    old, new = registered(lake, OCTOBER), registered(lake, NOVEMBER)
    for version in (old, new, old):
        registry.promote(lake, version)

    assert serves(lake, night(31, 12)) == old
    assert registry.demote(lake) == new


def test_a_promotion_cut_down_leaves_the_former_champion_and_a_link_that_is_mended(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    old = registered(lake, OCTOBER)
    registry.promote(lake, old)
    (lake / "models" / ".staging-0123abcd").mkdir()
    (lake / "models" / ".promotions.json.0123abcd").write_bytes(b"[")
    (lake / "models" / "champion").unlink()

    left = registry.sweep(lake)

    assert left == [".promotions.json.0123abcd", ".staging-0123abcd"]
    assert serves(lake, night(31, 12)) == old
    assert (lake / "models" / "champion").readlink() == Path(old)


def test_a_damaged_record_of_promotions_is_refused(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    registry.promote(lake, registered(lake, OCTOBER))
    (lake / "models" / "promotions.json").write_text("[")

    with pytest.raises(BlockedError, match=r"promotions\.json: is damaged"):
        registry.champion_for(lake, night(1))


def test_pruning_keeps_the_newest_and_the_champion(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    versions = [registered(lake, f"2011-10-{day}", bytes([day])) for day in range(11, 16)]
    for version in (versions[1], versions[0]):
        registry.promote(lake, version)

    gone = registry.prune(lake, keep=2)

    assert gone == versions[1:3]
    assert registry.serving(lake) == [versions[0]]
    assert {one.version for one in registry.models(lake)} == {versions[0], *versions[3:]}


def test_a_discarded_champion_makes_room_for_the_one_before(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    old, new = registered(lake, OCTOBER), registered(lake, NOVEMBER)
    for version in (old, new):
        registry.promote(lake, version)

    registry.discard(lake, new)

    assert serves(lake, night(31, 12)) == old
    assert not any(new in name or new.encode() in content for name, content in files(lake).items())


def test_the_manifest_says_what_a_model_came_from(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    version = registered(lake, OCTOBER)

    told = json.loads((lake / "models" / version / "manifest.json").read_text())

    assert told.keys() == {"version", "as_of", "cut", "seed", "settings", "contracts", "metrics", "files"}
    assert told["cut"] == "2011-11-01T00:00:00+00:00"
    assert told["settings"].keys() == set(registry.RECIPE)
    assert told["files"].keys() == {"als.npz", "trained.json"}
    assert "landing.events" in told["contracts"]


def test_a_damaged_model_is_found_by_the_doctor(tmp_path: Path) -> None:
    lake = tmp_path / "lake"
    versions = [registered(lake, OCTOBER), registered(lake, NOVEMBER)]
    registry.promote(lake, versions[0])
    (lake / "models" / versions[1] / "als.npz").write_bytes(b"")

    found = doctor.examine(lake, load_config())

    assert [(one["version"], one["champion"], one["intact"]) for one in found["models"]] == [
        (versions[0], True, True),
        (versions[1], False, False),
    ]
    assert [problem for problem in found["problems"] if versions[1] in problem]
