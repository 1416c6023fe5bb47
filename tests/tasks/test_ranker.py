"""The ranker: what is kept says the same as what was grown."""

from pathlib import Path

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

from tasks.ranker import Forest, Ranker


def test_kept_trees_say_what_the_estimator_says(tmp_path: Path) -> None:
    # given
    draw = np.random.default_rng(3)
    table = draw.random((400, 3))
    table[::7, 1] = np.nan
    label = table[:, 0] + draw.random(400) > 1.2
    grown = HistGradientBoostingClassifier(max_iter=5, min_samples_leaf=5, early_stopping=False, random_state=0)
    grown.fit(table, label)
    knots = np.array([[0.0, 1.0], [0.0, 0.5]])
    trees = tuple(tree[0].nodes for tree in grown._predictors)
    ranker = Ranker(
        ("a", "b", "c"), {"purchase": Forest(trees, float(grown._baseline_prediction[0, 0]), knots)}, {"purchase": 1.0}
    )
    # when
    ranker.save(tmp_path / "ranker.npz")
    again = Ranker.load(tmp_path / "ranker.npz")
    # then
    np.testing.assert_allclose(again.forests["purchase"].raw(table), grown.predict_proba(table)[:, 1], rtol=1e-12)
    features = {name: table[:, place].astype(np.float32) for place, name in enumerate(ranker.columns)}
    score, chances = again.probabilities(features)
    assert score.tobytes() == ranker.probabilities(features)[0].tobytes()
    assert chances["purchase"].max() <= 0.5, "calibrated by the knots"
