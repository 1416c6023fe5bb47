"""The blend: one scale for all families, weights that earlier windows taught, and a total order."""

import numpy as np
import pytest

from tasks import blend, candidates
from tasks.candidates import Candidates, Voice
from tasks.recommenders import Interactions
from tasks.recommenders.interactions import load
from tasks.recommenders.opinions import Alike, Table, ranked
from tasks.settings import Repeats
from tests.tasks.worlds import market, settings, world

LN = np.log2


@pytest.fixture(scope="module")
def history() -> Interactions:
    night = market()
    found = load(night.con, night.run.as_of, 90.0)
    night.con.close()
    return found


def test_ndcg_is_worked_by_hand() -> None:
    # Hits at 1 and 3 of three truths: (1 + 1/log2 4) / (1 + 1/log2 3 + 1/log2 4) = 1.5 / 2.1309 = .7039.
    hits = np.array([[True, False, True, False], [False, False, False, False], [False, True, False, False]])

    found = blend.ndcg(hits, np.array([3, 1, 9]), k=10)

    assert found[0] == pytest.approx(1.5 / (1.5 + 1 / LN(3)))
    assert found[1] == 0
    assert found[2] == pytest.approx((1 / LN(3)) / sum(1 / LN(p + 1) for p in range(1, 10)))
    # Normalised by min(k, truths): one hit at the top of a list of one is perfect, however many truths there are.
    assert blend.ndcg(hits[:1], np.array([3]), k=1)[0] == 1


def test_every_family_speaks_between_0_and_1_about_what_may_be_shown(history: Interactions) -> None:
    families = blend.fit(history, settings())

    scales = np.stack(blend.scales(families, history, min_people=1))

    assert families.names == tuple(f.name for f in blend.FAMILIES)
    assert scales.min() == 0
    assert scales.max() == 1
    assert np.isfinite(scales).all()


def test_an_item_with_few_people_is_brought_to_others_by_content_alone() -> None:
    # Three people share cup and jar; ann alone had pot. Below five people nothing but text may bring pot to others.
    events = "user_id | item_id | event_type | occurred_at\n" + "\n".join(
        f"{who} | {item} | purchase | 2026-02-{day} 00:00:00+00"
        for who in ("ann", "bob", "cem", "dan", "eve")
        for item in ("cup", "jar", *(("pot",) if who == "ann" else ()))
        for day in (20, 25)
    )
    there = world(
        events,
        "item_id | title | category\ncup | red cup | red\njar | red jar | red\npot | red pot | red\n"
        "lid | blue lid | blue\nfan | blue fan | blue",
        settings(5),
    )
    families = blend.fit(there, settings(5))
    pot, ann = there.catalogue.ids.index("pot"), there.people.index("ann")

    scales = blend.scales(families, there, min_people=5)

    assert set(families.names) == {f.name for f in blend.FAMILIES}
    others = [row for row in range(len(there)) if row != ann]
    for name, scale in zip(families.names, scales, strict=True):
        assert scale[others, pot].any() == (name == "content"), name
    assert scales[families.names.index("repeat")][ann, pot] > 0, "the own history stays the person's own"
    unfloored = blend.scales(families, there, min_people=1)
    assert unfloored[families.names.index("trending")][others, pot].all(), "else the floor had nothing to do"


def test_policies_let_in_what_they_say() -> None:
    there = world(
        """
        user_id | item_id | event_type | occurred_at
        ann     | cup     | purchase   | 2026-02-25 12:00:00+00
        ann     | jar     | view       | 2026-02-25 12:00:00+00
        ann     | pill    | purchase   | 2026-02-25 12:00:00+00
        ann     | old     | purchase   | 2026-02-25 12:00:00+00
        """,
        """
        item_id | title | sensitive | review_status | stock
        cup     | cup   | false     | approved      | -
        jar     | jar   | false     | approved      | 1
        pill    | pill  | true      | approved      | -
        old     | old   | false     | blocked       | -
        out     | out   | false     | approved      | 0
        wait    | wait  | false     | pending       | -
        new     | new   | false     | approved      | -
        """,
    )

    shown = {
        policy: {there.catalogue.ids[i] for i in np.flatnonzero(blend.allowed(there, policy)[0])}
        for policy in ("allowed", "never", "only")
    }

    assert shown == {"allowed": {"cup", "jar", "pill", "new"}, "never": {"new"}, "only": {"cup"}}


def lesson(scores: list[list[list[float]]], happened: list[list[bool]]) -> blend.Lesson:
    """families × people × items, and what happened; every item is a candidate."""
    scales = np.array(scores, dtype=np.float32)
    items = np.tile(np.arange(scales.shape[2]), (scales.shape[1], 1))
    known = Candidates(items, np.ones(items.shape, dtype=bool), scales)
    return blend.Lesson(known, np.array(happened), np.count_nonzero(happened, axis=1))


def test_weights_go_to_the_family_that_was_right() -> None:
    # The second family puts the truth first, the first family puts it last.
    items = 30
    right = 0.6 * np.eye(items, dtype=np.float32)[:20]
    wrong = (right == 0) * np.linspace(0.5, 1, items, dtype=np.float32)
    silent = np.zeros_like(right)

    weights = blend.learn([lesson([wrong.tolist(), right.tolist(), silent.tolist()], right.astype(bool).tolist())], 3)

    assert weights[1] > weights[0]
    assert weights[0] >= blend.WHISPER, "a family that may fill a list keeps a whisper"
    assert weights[2] == 0, "a family that never says anything has no weight"


def test_weights_repeat_exactly_and_do_not_depend_on_the_order_of_people() -> None:
    draw = np.random.default_rng(5)
    scores = draw.random((3, 40, 60)).astype(np.float32)
    happened = draw.random((40, 60)) < 0.05
    order = draw.permutation(40)

    one = blend.learn([lesson(scores.tolist(), happened.tolist())], 3)
    again = blend.learn([lesson(scores[:, order].tolist(), happened[order].tolist())], 3)

    assert one.tolist() == again.tolist()
    assert one.sum() == pytest.approx(1, abs=1e-3)


def test_learning_never_does_worse_than_equal_weights() -> None:
    draw = np.random.default_rng(6)
    taught = lesson(draw.random((4, 50, 40)).tolist(), (draw.random((50, 40)) < 0.1).tolist())

    learned = blend.worth([taught], blend.learn([taught], 4))

    assert learned > blend.worth([taught], np.full(4, 0.25))


def test_without_people_no_family_learns_and_each_says_so() -> None:
    nobody = world("user_id | item_id | occurred_at", "item_id | title\ncup | cup")

    families = blend.fit(nobody, settings())

    assert not families.models
    assert set(families.unused) == {f.name for f in blend.FAMILIES}
    assert all(why.startswith("too_little_data: ") for why in families.unused.values())


@pytest.mark.parametrize("min_people", [1, 5])
def test_what_is_said_briefly_is_what_the_whole_table_says(history: Interactions, min_people: int) -> None:
    # given: families that need no table, and the same families with one
    families = blend.fit(history, settings())
    policies: list[Repeats] = ["allowed", "never", "only"]
    muted = np.array([0, 0, 3]), np.array([1, 2, 5])
    briefly = blend.opinions(families, history, min_people)
    pairs = tuple(np.indices(history.shape).reshape(2, -1))
    whole = [Voice(Table(voice.opinion.at(*pairs).reshape(history.shape)), voice.may) for voice in briefly]
    assert sum(not isinstance(voice.opinion, Table) for voice in briefly) == 7
    # when
    said, read = (candidates.gather(voices, history, policies, 7, muted) for voices in (briefly, whole))
    # then
    scales = np.stack(blend.scales(families, history, min_people))
    for policy in policies:
        known = said[policy]
        assert known.items.tobytes() == read[policy].items.tobytes()
        assert known.valid.tobytes() == read[policy].valid.tobytes()
        assert known.scores.tobytes() == read[policy].scores.tobytes()
        scored = np.take_along_axis(scales, known.items[None], 2) * known.valid
        np.testing.assert_allclose(known.scores, scored, atol=1e-6)
        assert not any((known.items[u] == i)[known.valid[u]].any() for u, i in zip(*muted, strict=True))


def test_what_trends_in_a_category_is_found_whoever_had_its_best() -> None:
    # given: strengths so near that the product with a lean makes some equal, and people who had many of the leaders
    draw = np.random.default_rng(3)
    strength = np.repeat(draw.random(60), 5).astype(np.float32)
    strength[1::5] = np.nextafter(strength[::5], np.float32(0))
    kind, lean = draw.integers(0, 7, 300), draw.random((20, 7)).astype(np.float32)
    may = draw.random(300) < 0.9
    aside = draw.integers(0, 20, 400), np.argsort(-strength)[draw.integers(0, 40, 400)]
    opinion = Alike(strength, kind, lean, ranked(strength, kind))
    # when
    for k in (1, 4, 50):
        briefly = opinion.best(k, may, aside)
        whole = Table(lean[:, kind] * strength).best(k, may, aside)
        # then
        assert [of.tolist() for of in briefly] == [of.tolist() for of in whole]
