"""The choice: who makes the lists is decided by later days that it had not seen."""

from typing import Any

import numpy as np
import pytest

from tasks import choice
from tasks.choice import Learned
from tasks.ranker import Ranker
from tests.tasks.worlds import settings


def test_what_lies_beyond_a_window_teaches_no_ranker_that_it_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    # given: four windows, three halfway, and who is taught by which
    taught: list[tuple[list[str], list[str]]] = []

    def note(views: list[str], more: list[str], *_: object) -> Learned:
        taught.append((views, more))
        return Learned(np.ones(1), None, "")

    monkeypatch.setattr(choice, "_taught", note)
    monkeypatch.setattr(choice, "_gains", lambda *_: {})
    # when
    windows: list[Any] = ["a", "b", "c", "d"]
    halfway: list[Any] = ["ab", None, "cd"]
    choice._steps(windows, halfway, ["trending"], "purchase", "never", settings(), ranked=True)
    # then
    assert taught == [(["a", "b"], ["ab"]), (["a", "b", "c"], ["ab"]), (["a", "b", "c", "d"], ["ab", "cd"])]


def test_something_simpler_that_was_better_beyond_noise_makes_the_lists() -> None:
    # given: on later days the blend, or one family, was clearly better than the ranker
    draw = np.random.default_rng(5)
    people, found = 400, Ranker((), {}, {})
    low, high = draw.normal(0.2, 0.05, people), draw.normal(0.4, 0.05, people)
    learned = Learned(np.array([0.7, 0.3]), found, "")
    told = {
        "ranker": {"ranker": high, "blend": low, "trending": low, "repeat": low},
        "blend": {"ranker": low, "blend": high, "trending": low, "repeat": low},
        "repeat": {"ranker": low, "blend": low, "trending": low, "repeat": high},
    }
    for best, gains in told.items():
        # when
        chosen = choice._chosen(learned, [gains], ["trending", "repeat"], settings())
        # then
        assert chosen.chosen == best
        assert (chosen.ranker is not None) == (best == "ranker")
        assert chosen.why
    assert chosen.weights.argmax() == 1, "repeat alone leads"


def test_a_difference_within_noise_changes_nobody() -> None:
    draw = np.random.default_rng(5)
    level = draw.normal(0.3, 0.1, 400)
    gains = {"ranker": level, "blend": level + draw.normal(0.0005, 0.1, 400), "trending": level - 0.1}

    chosen = choice._chosen(Learned(np.ones(1), Ranker((), {}, {}), ""), [gains], ["trending"], settings())

    assert chosen.chosen == "ranker"


def test_a_ranker_that_no_later_window_judged_makes_no_list() -> None:
    chosen = choice._chosen(Learned(np.ones(1), Ranker((), {}, {}), ""), [], ["trending"], settings())

    assert chosen.ranker is None
    assert "no later window" in chosen.why
