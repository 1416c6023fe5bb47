"""What several suites share: one small marketplace, and where the real data is."""

import os
import shutil
from pathlib import Path

import pytest

from tasks import sample

ROOT = Path(__file__).parents[1]

# A night syncs thousands of small files to the disk. What the tests prove is what a killed process leaves, not what a
# power cut does: where there is memory for it, their folders lie in memory.
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 8 << 30
if os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > MEMORY_BYTES:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


@pytest.fixture(scope="session")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The landing folder of a small marketplace, 2026-03-18 to 2026-03-31, with all its dirt. Not to be written to."""
    landing = tmp_path_factory.mktemp("market") / "landing"
    sample.make(landing, users=60, items=60, events=2000, days=14, seed=7)
    return landing


@pytest.fixture(scope="session")
def season(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same from 2026-03-11 on, enough for a model that beats the baselines beyond noise."""
    landing = tmp_path_factory.mktemp("season") / "landing"
    sample.make(landing, users=60, items=60, events=2500, days=21, seed=7)
    return landing


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets, beside the project or where $TAILORBIRD_DATA says."""
    folder = Path(os.environ.get("TAILORBIRD_DATA") or ROOT.parent / "shared" / "data")
    if not (folder / "online-retail").is_dir():
        pytest.skip("no online-retail in ../shared/data; set $TAILORBIRD_DATA")
    return folder


# What is quick to tell comes first: a wrong word in the SQL need not wait for a night to be killed. Then the longest
# files, so that no worker waits for the other's at the end.
ORDER = (
    "sql", "tasks", "benchmarks", "flows/test_retrain.py", "faults/test_nightly_faults.py", "flows/test_cli.py",
    "flows/test_purity.py", "flows", "privacy", "faults",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(ROOT / "tests")
        return next((ORDER.index(name) for name in (path.as_posix(), path.parts[0]) if name in ORDER), 0)

    items.sort(key=place)
