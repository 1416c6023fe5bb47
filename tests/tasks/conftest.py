from pathlib import Path

import pytest

from tests.landings import Place
from tests.tasks.checked import con, landed, run

__all__ = ["con", "landed", "run"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
