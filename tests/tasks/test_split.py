"""A public split: what is refused, what is measured, and that the test matrix is only measured on."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp

from tasks import matrices, split
from tasks.errors import ConfigurationError, MissingInputError
from tests.tasks.worlds import settings

PEOPLE, ITEMS = 120, 80


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Two tastes of items: 12 of the own half known of each person, 3 to be found."""
    draw = np.random.default_rng(5)
    known, truth = (sp.lil_array((PEOPLE, ITEMS)) for _ in range(2))
    for person in range(PEOPLE):
        chosen = draw.choice(ITEMS // 2, size=15, replace=False) + person % 2 * (ITEMS // 2)
        known[person, chosen[:12]] = 1
        truth[person, chosen[12:]] = 1
    train, test = tmp_path / "train.npz", tmp_path / "test.npz"
    sp.save_npz(train, known.tocsr())
    sp.save_npz(test, truth.tocsr())
    return train, test


def without_seconds(found: dict[str, dict[str, float]]) -> dict[str, tuple[float, float]]:
    return {name: (figures["recall@20"], figures["ndcg@20"]) for name, figures in found.items()}


def test_families_and_blend_are_measured_alike_with_any_number_of_threads(files: tuple[Path, Path]) -> None:
    one, two = (split.run(*files, settings(run={"threads": n})) for n in (1, 2))

    assert set(one["models"]) == {"trending", "item_item", "graph_filter", "als", "blend"}
    assert set(one["models"]["blend"]) == {"recall@20", "ndcg@20", "seconds", "peak_rss_mb"}
    assert without_seconds(one["models"]) == without_seconds(two["models"])
    assert one["models"]["blend"]["recall@20"] > 0.6, "28 items of the own taste are left, 20 are ranked"
    assert one["people_measured"] == PEOPLE


def test_settings_and_weights_never_see_the_test_matrix(files: tuple[Path, Path]) -> None:
    train, test = files
    found = split.run(train, test, settings())
    sp.save_npz(test, sp.csr_array(np.eye(PEOPLE, ITEMS)))

    other = split.run(train, test, settings())

    assert other["models"] != found["models"]
    assert (other["weights"], other["validation"]) == (found["weights"], found["validation"])


def test_a_budget_names_what_it_leaves_out(files: tuple[Path, Path]) -> None:
    found = split.run(*files, settings(), budget=0.001)

    assert set(found["left_out"]) >= {"a setting of als", "als"}
    assert set(found["models"]) == {"trending", "blend"}


def test_recall_is_over_all_truths_and_ndcg_over_the_ideal_list() -> None:
    # Hits at 1 and 3 of 3 truths: recall 2/3, NDCG (1 + 1/2) / (1 + 1/log2(3) + 1/2). The second has no truth.
    positions = np.array([[4, 0, 2, *range(5, 22)], [*range(20)]])
    truth = sp.csr_array((np.ones(3), ([0, 0, 0], [4, 2, 30])), shape=(2, 40))

    recall, gain = split.recall_and_ndcg(positions, np.ones(positions.shape, dtype=bool), truth)

    assert recall.tolist() == [pytest.approx(2 / 3)]
    assert gain.tolist() == [pytest.approx(1.5 / (1.5 + 1 / np.log2(3)))]


def test_nobody_loses_the_only_item_to_the_validation_part() -> None:
    cells = sp.csr_array(np.tril(np.ones((60, 60), dtype=np.float32)))

    shown, hidden = matrices.held_out(cells, seed=1)

    assert (np.diff(shown.indptr) > 0).all()
    assert 0.1 < hidden.nnz / cells.nnz < 0.2
    assert ((shown + hidden) != cells).nnz == 0


@pytest.mark.parametrize(
    "content", [b"", b"no archive", b"PK\x05\x06" + b"\0" * 18], ids=["empty", "text", "no arrays"]
)
def test_a_file_that_is_no_matrix_is_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.npz").write_bytes(content)

    with pytest.raises(ConfigurationError, match="is no sparse matrix"):
        matrices.read(tmp_path / "x.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, -1.0])
def test_a_cell_that_is_no_count_is_refused(tmp_path: Path, value: float) -> None:
    sp.save_npz(tmp_path / "x.npz", sp.csr_array([[1.0, value]]))

    with pytest.raises(ConfigurationError, match="finite"):
        matrices.read(tmp_path / "x.npz")


def test_a_missing_file_and_another_shape_are_told_apart(files: tuple[Path, Path], tmp_path: Path) -> None:
    sp.save_npz(tmp_path / "other.npz", sp.csr_array(np.ones((2, 3))))

    with pytest.raises(MissingInputError, match="no such file"):
        split.run(tmp_path / "nowhere.npz", files[1], settings())
    with pytest.raises(ConfigurationError, match="2 × 3, but the training matrix is 120 × 80"):
        split.run(files[0], tmp_path / "other.npz", settings())
