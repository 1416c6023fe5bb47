"""The promises that every family keeps, and each one's formula on a case worked by hand."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from tasks import blend
from tasks.recommenders import Interactions, Recommender, TooLittleDataError
from tasks.recommenders.als import Als, first_factors
from tasks.recommenders.content import Content
from tasks.recommenders.ease import Ease
from tasks.recommenders.graph_filter import GraphFilter
from tasks.recommenders.interactions import load
from tasks.recommenders.item_item import ItemItem
from tasks.recommenders.profile import Profile
from tasks.recommenders.repeat import Repeat
from tasks.recommenders.trending import Trending
from tasks.recommenders.trending_near import TrendingNear
from tests.tasks.worlds import market, night_of, settings, shuffle, world

ITEMS = """
item_id | title         | sensitive
cup     | red cup       | false
jar     | red jar       | false
pot     | blue pot      | false
pan     | blue pan      | false
pill    | secret pill   | true
"""
FAMILIES = pytest.mark.parametrize("family", blend.FAMILIES, ids=lambda f: f.name)


@pytest.fixture(autouse=True)
def one_blas_thread() -> Iterator[None]:
    """As in a night."""
    with threadpool_limits(1, user_api="blas"):
        yield


@pytest.fixture(scope="module")
def history() -> Interactions:
    night = market()
    found = load(night.con, night.run.as_of, 90.0)
    night.con.close()
    return found


def cell(history: Interactions, scores: np.ndarray, person: str, item: str) -> float:
    return float(scores[history.people.index(person), history.catalogue.ids.index(item)])


def said(model: Recommender, block: Interactions, person: int) -> np.ndarray:
    """What a night hears of one person about every item."""
    (voice,) = blend.opinions(blend.Families({model.name: model}, {}), block, 1)
    items = np.arange(len(block.catalogue))
    return voice.opinion.at(np.full(len(items), person), items)


@FAMILIES
def test_a_family_repeats_itself_exactly(history: Interactions, family: type[Recommender]) -> None:
    first, second = (family.fit(history, settings()).score(history) for _ in range(2))

    assert first.dtype == np.float32
    assert first.shape == history.shape
    assert first.any()
    assert first.tobytes() == second.tobytes()


@FAMILIES
def test_a_family_comes_back_from_its_file_without_pickle(
    history: Interactions, family: type[Recommender], tmp_path: Path
) -> None:
    fitted = family.fit(history, settings())
    fitted.save(tmp_path / "model.npz")

    loaded = family.load(tmp_path / "model.npz")

    assert loaded.score(history).tobytes() == fitted.score(history).tobytes()
    with np.load(tmp_path / "model.npz", allow_pickle=False) as saved:
        assert not any(saved[name].dtype.hasobject for name in saved.files)


@FAMILIES
def test_a_person_is_scored_from_the_own_history_alone(history: Interactions, family: type[Recommender]) -> None:
    fitted = family.fit(history, settings())
    mixed = shuffle(history, seed=3)

    alone = said(fitted, history.take(np.array([5])), 0)
    among = said(fitted, mixed, mixed.people.index(history.people[5]))

    assert alone.tobytes() == among.tobytes()


@FAMILIES
def test_a_family_stores_nothing_that_grows_with_people(
    history: Interactions, family: type[Recommender], tmp_path: Path
) -> None:
    fitted = family.fit(history, settings())
    fitted.save(tmp_path / "model.npz")

    with np.load(tmp_path / "model.npz") as saved:
        sizes = {size for name in saved.files for size in saved[name].shape}
    assert len(history) not in sizes


@FAMILIES
def test_a_family_says_why_it_cannot_learn_from_nothing(family: type[Recommender]) -> None:
    nobody = world("user_id | item_id | occurred_at", "item_id | title\ncup | cup")

    with pytest.raises(TooLittleDataError):
        family.fit(nobody, settings())


def test_trending_is_the_mean_rate_of_its_windows() -> None:
    # cup: 3 purchases this week, so 3/7 + 3/14 + 3/28; pot: 6 purchases three weeks ago, so 6/28. Ratio .2857.
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-25 12:00:00+00
        bob     | cup     | purchase   | 2026-02-25 12:00:00+00
        cem     | cup     | purchase   | 2026-02-25 12:00:00+00
        ann     | pot     | purchase   | 2026-02-08 12:00:00+00
        ann     | pot     | purchase   | 2026-02-08 13:00:00+00
        bob     | pot     | purchase   | 2026-02-08 12:00:00+00
        bob     | pot     | purchase   | 2026-02-08 13:00:00+00
        cem     | pot     | purchase   | 2026-02-08 12:00:00+00
        cem     | pot     | purchase   | 2026-02-08 13:00:00+00
        """,
        ITEMS,
    )

    scores = Trending.fit(there, settings()).score(there)

    assert cell(there, scores, "ann", "cup") == 1
    assert cell(there, scores, "bob", "pot") == pytest.approx((6 / 28) / (3 / 7 + 3 / 14 + 3 / 28))
    assert cell(there, scores, "cem", "pan") == 0


def test_repeat_counts_days_decays_them_and_asks_for_demand() -> None:
    # ann: 2 days, the last 8.5 days before the cut; 2 purchases in two weeks: 2 · 2^(−8.5/270) · (1 + 2)^.35.
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-01-10 12:00:00+00
        ann     | cup     | purchase   | 2026-02-20 12:00:00+00
        ann     | cup     | purchase   | 2026-02-20 12:00:01+00
        bob     | pill    | purchase   | 2026-02-20 12:00:00+00
        """,
        ITEMS,
    )

    scores = Repeat.fit(there, settings()).score(there)

    assert cell(there, scores, "ann", "cup") == pytest.approx(2 * 2 ** (-8.5 / 270) * 3**0.35, rel=1e-4)
    assert np.count_nonzero(scores) == 1, "what nobody had repeats nowhere, and a sensitive item never"


def test_item_item_counts_together_and_divides_by_mass() -> None:
    # Three people with two fresh items each (weight w, degree 2w, so one item voices w/2w = 1/2):
    # G(cup, jar) = 2 · w/2, q = (2 + 1)/2 · … — cup: 3 voices of ½ = 1.5, jar: 2 of ½ = 1. S = w / √(1.5 · 1).
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-28 00:00:00+00
        ann     | jar     | purchase   | 2026-02-28 00:00:00+00
        bob     | cup     | purchase   | 2026-02-28 00:00:00+00
        bob     | jar     | purchase   | 2026-02-28 00:00:00+00
        cem     | cup     | purchase   | 2026-02-28 00:00:00+00
        cem     | pot     | purchase   | 2026-02-28 00:00:00+00
        dan     | cup     | purchase   | 2026-02-28 00:00:00+00
        """,
        ITEMS,
    )
    w = round(2 ** (-1 / 21) * 256) / 256

    model = ItemItem.fit(there, settings())
    s = model.similarity.toarray()
    cup, jar, pot = (there.catalogue.ids.index(i) for i in ("cup", "jar", "pot"))

    # dan's only item has the whole voice: 1.
    assert s[cup, jar] == pytest.approx(2 * w / 2 / (2.5 * 1) ** 0.5, rel=1e-4)
    assert s[cup, pot] == pytest.approx(w / 2 / (2.5 * 0.5) ** 0.5, rel=1e-4)
    assert s[jar, pot] == 0
    assert s[cup, cup] == 0
    assert cell(there, model.score(there), "dan", "jar") == pytest.approx(2 ** (-1 / 90) * s[cup, jar], rel=1e-3)


def test_item_item_knows_no_pair_that_too_few_people_share() -> None:
    events = "user_id | item_id | event_type | occurred_at\n" + "\n".join(
        f"{who} | {item} | purchase | 2026-02-28 00:00:00+00"
        for who, items in {"ann": ("cup", "jar", "pot"), "bob": ("cup", "jar"), "cem": ("cup", "jar", "pill"),
                           "dan": ("cup", "jar", "pill"), "eve": ("cup", "pill")}.items()
        for item in items
    )  # fmt: skip
    there = world(events, ITEMS)

    similar = ItemItem.fit(there, settings(min_people=3)).similarity

    cup, jar = there.catalogue.ids.index("cup"), there.catalogue.ids.index("jar")
    assert {(int(r), int(c)) for r, c in zip(*similar.nonzero(), strict=True)} == {(cup, jar), (jar, cup)}, (
        "pot is shared by one person, and the sensitive pill is evidence for nothing"
    )


def test_item_item_does_not_depend_on_the_order_of_people(history: Interactions) -> None:
    one = ItemItem.fit(history, settings()).similarity
    other = ItemItem.fit(shuffle(history, seed=11), settings()).similarity

    assert one.data.tobytes() == other.data.tobytes()
    assert one.indices.tobytes() == other.indices.tobytes()


def test_graph_filter_passes_the_broadest_taste() -> None:
    # One taste, cup and jar: both have mass q = 2w, and V = (1, 1)/√2 of eigenvalue 1 after scaling. So each own item
    # gives w q^-.5 · ½ · q^.3 to each of the two, and both together w q^-.2. Nothing comes to the pot of another taste.
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-28 00:00:00+00
        ann     | jar     | purchase   | 2026-02-28 00:00:00+00
        bob     | cup     | purchase   | 2026-02-28 00:00:00+00
        bob     | jar     | purchase   | 2026-02-28 00:00:00+00
        cem     | pot     | purchase   | 2026-02-28 00:00:00+00
        """,
        ITEMS,
    )
    w = 2 ** (-1 / 90)
    exact = GraphFilter.fit(there, settings())
    scores = exact.score(there)

    assert cell(there, scores, "ann", "jar") == pytest.approx(w * (2 * w) ** -0.2, rel=1e-4)
    assert cell(there, scores, "ann", "cup") == pytest.approx(w * (2 * w) ** -0.2, rel=1e-4)
    assert cell(there, scores, "ann", "pot") == pytest.approx(0, abs=1e-6)
    assert cell(there, scores, "cem", "cup") == pytest.approx(0, abs=1e-6)


def test_ease_explains_an_item_by_the_others() -> None:
    # Two people of weight w with both: XᵀX + λI = ((2w² + λ, 2w²), (2w², 2w² + λ)), whose inverse has the entries
    # (2w² + λ) / d and −2w² / d. So B = 2w² / (2w² + λ), and nobody has B of an item with itself.
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-28 00:00:00+00
        ann     | jar     | purchase   | 2026-02-28 00:00:00+00
        bob     | cup     | purchase   | 2026-02-28 00:00:00+00
        bob     | jar     | purchase   | 2026-02-28 00:00:00+00
        cem     | cup     | purchase   | 2026-02-28 00:00:00+00
        cem     | pot     | purchase   | 2026-02-28 00:00:00+00
        """,
        ITEMS,
    )
    config = settings()
    few = config.recommenders.ease.model_copy(update={"max_items": 2})
    config = config.model_copy(update={"recommenders": config.recommenders.model_copy(update={"ease": few})})
    exact = Ease.fit(there, config)
    scores = exact.score(there)
    w = 2 ** (-1 / few.half_life_days)
    shared, cups, jars = 2 * w**2, 3 * w**2 + few.regularization, 2 * w**2 + few.regularization

    assert cell(there, scores, "cem", "jar") == pytest.approx(w * shared / cups, rel=1e-4)
    assert cell(there, scores, "ann", "cup") == pytest.approx(w * shared / jars, rel=1e-4)
    assert cell(there, scores, "ann", "pot") == 0, "beyond the items that most people met"


def test_als_starts_an_item_from_its_id_and_the_seed_alone() -> None:
    among_others = first_factors(("a", "cup", "z"), 8, seed=1)

    assert among_others[1].tobytes() == first_factors(("cup",), 8, seed=1)[0].tobytes()
    assert among_others[1].tobytes() != first_factors(("cup",), 8, seed=2)[0].tobytes()
    assert (among_others >= 0).all()
    assert (among_others < 0.01).all()


def test_als_folds_a_person_in_by_the_normal_equations(history: Interactions) -> None:
    # x = (YᵀY + Yᵀ(C − I)Y + λI)⁻¹ Yᵀ C p, written out for one person.
    config = settings()
    model = Als.fit(history, config)
    block = history.take(np.array([2]))
    cells = block.evidence(block.fresh(config.recommenders.als.half_life_days)).toarray()[0].astype(np.float64)
    y = model.factors.astype(np.float64)
    confidence = cells * config.recommenders.als.confidence
    # implicit reads its input as C; where it is 0, C is 1 and p is 0.
    met = confidence > 0
    a = y.T @ y + (y[met].T * (confidence[met] - 1)) @ y[met] + config.recommenders.als.regularization * np.eye(64)
    x = np.linalg.solve(a, y[met].T @ confidence[met])

    np.testing.assert_allclose(model.score(block)[0], np.maximum(y @ x, 0), atol=2e-3)


def test_als_is_the_same_with_one_and_two_threads(history: Interactions) -> None:
    one, two = (Als.fit(history, settings(run={"threads": n})).factors for n in (1, 2))

    assert one.tobytes() == two.tobytes()


def test_content_brings_what_nobody_met() -> None:
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-28 00:00:00+00
        bob     | pot     | purchase   | 2026-02-28 00:00:00+00
        """,
        ITEMS,
    )

    scores = Content.fit(there, settings()).score(there)

    assert cell(there, scores, "ann", "jar") > 0.9 > 0.1 > cell(there, scores, "ann", "pan")
    assert cell(there, scores, "bob", "pan") > 0.9 > 0.1 > cell(there, scores, "bob", "jar")


def test_a_sensitive_item_in_the_history_changes_no_score(history: Interactions) -> None:
    secret = np.zeros(len(history.catalogue), dtype=bool)
    secret[history.columns[0]] = True
    hiding = replace(history, catalogue=replace(history.catalogue, sensitive=secret))
    held = hiding.columns != history.columns[0]
    kept = np.concatenate(([0], np.cumsum(held)))
    facts = {f: getattr(hiding, f)[held] for f in ("columns", "weight", "events", "purchases", "days", "first_age",
                                                    "last_age")}  # fmt: skip
    without = replace(hiding, indptr=kept[hiding.indptr], **facts)

    for family in blend.FAMILIES:
        assert family.fit(hiding, settings()).score(hiding).tobytes() == (
            family.fit(without, settings()).score(without).tobytes()
        ), family.name


def test_dislikes_count_against_what_reads_alike_and_common_words_tell_nothing_apart() -> None:
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-28 00:00:00+00
        ann     | pot     | dislike    | 2026-02-28 00:00:00+00
        bob     | cup     | purchase   | 2026-02-28 00:00:00+00
        """,
        "item_id | title\ncup | a thing red\njar | a thing red\npot | a thing blue\npan | a thing blue\n",
    )

    scores = Content.fit(there, settings()).score(there)

    assert cell(there, scores, "bob", "jar") == pytest.approx(1)
    assert cell(there, scores, "bob", "pan") == cell(there, scores, "ann", "pan") == 0


def test_trending_near_lifts_the_categories_that_a_person_is_at_home_in() -> None:
    # Four purchases of the last week, all in one window of 7 days: cup 2 of 2, jar 1, pot 1 of the highest 2.
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-03-01 00:00:00+00
        bob     | cup     | purchase   | 2026-03-01 00:00:00+00
        bob     | jar     | purchase   | 2026-03-01 00:00:00+00
        cem     | pot     | purchase   | 2026-03-01 00:00:00+00
        """.replace("2026-03-01 00", "2026-02-28 23"),
        "item_id | title | category\ncup | cup | red\njar | jar | red\npot | pot | blue\n",
    )
    config = settings()

    model = TrendingNear.fit(there, config)
    scores = model.score(there)

    # Strengths 1, 1/2, 1/2: red is 3/4 of what trends, blue 1/4. Ann's one purchase w is red, m is 2.
    w = float(there.weight[0])
    red, blue = (w + 2 * 0.75) / ((w + 2) * 0.75), 2 * 0.25 / ((w + 2) * 0.25)
    assert config.recommenders.trending_near.prior == 2
    assert cell(there, scores, "ann", "cup") == pytest.approx(red, rel=1e-5)
    assert cell(there, scores, "ann", "jar") == pytest.approx(red / 2, rel=1e-5)
    assert cell(there, scores, "ann", "pot") == pytest.approx(blue / 2, rel=1e-5)


def test_a_profile_is_what_people_like_them_choose_shrunk_towards_everybody() -> None:
    # Six people: four of DE, three of whom had the cup; two of FR, too few to be told apart.
    night = night_of(
        "user_id | item_id | event_type | occurred_at\n" + "\n".join(
            f"{who} | {item} | purchase | 2026-02-20 00:00:00+00"
            for who, item in (("d1", "cup"), ("d2", "cup"), ("d3", "cup"), ("d4", "pot"), ("f1", "pot"), ("f2", "pot"))
        ),
        ITEMS, settings(3),
    )  # fmt: skip
    homes = "\n".join(f"{who} | {'DE' if who[0] == 'd' else 'FR'}" for who in ("d1", "d2", "d3", "d4", "f1", "f2"))
    night.given("staging.users", "user_id | country\n" + homes)
    there = load(night.con, night.run.as_of, 90.0)
    night.con.close()
    config = settings(3)

    model = Profile.fit(there, config)
    scores = model.score(there)

    # Half of all had the cup. Of DE 3 of 4 did, and 100 people more like everybody: (3 + 50) / 104. One of DE had the
    # pot, which is nobody's business. FR is two people, and whoever told nothing that counts gets no opinion.
    assert model.groups == ("country=DE",)
    assert cell(there, scores, "d1", "cup") == pytest.approx(53 / 104, rel=1e-5)
    assert cell(there, scores, "d1", "pot") == pytest.approx(0.5, rel=1e-5)
    assert cell(there, scores, "f1", "cup") == 0
    assert model.align(np.array([0, -1])).score(there).shape == (6, 2)


def test_a_profile_is_the_same_on_disk(tmp_path: Path) -> None:
    groups = ("age_band=25-34", "country=DE")
    model = Profile(groups, np.arange(9, dtype=np.float32).reshape(3, 3))

    model.save(tmp_path / "profile.npz")
    again = Profile.load(tmp_path / "profile.npz")

    assert (again.groups, again.share.tolist()) == (groups, model.share.tolist())
