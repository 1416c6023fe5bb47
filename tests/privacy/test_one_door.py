"""One door: nobody but the modules that apply tombstones knows where landing and history lie."""

import re
from pathlib import Path

import pytest

from tests.conftest import ROOT

PATHS = re.compile(r"""/ *["'](history|quarantine)["']|/ *(file\.)?store\b""")
LANDED = re.compile(r"\bfsspec\.(open|core)|url_to_fs")


def modules(pattern: re.Pattern[str]) -> set[str]:
    """Modules of the program in whose code the pattern occurs."""
    files = [*(ROOT / "tasks").rglob("*.py"), *(ROOT / "flows").rglob("*.py")]
    assert len(files) > 60
    return {str(f.relative_to(ROOT)) for f in files if pattern.search(_code(f))}


def _code(file: Path) -> str:
    """Without docstrings and comments."""
    text = re.sub(r'"{3}.*?"{3}', "", file.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"#.*", "", text)


def test_one_module_names_the_paths_of_history() -> None:
    # The doctor counts and verifies bytes and opens nothing.
    assert modules(PATHS) == {"tasks/shards.py", "tasks/doctor.py"}


def test_landed_bytes_are_opened_by_the_two_modules_that_verify_them() -> None:
    assert modules(LANDED) == {"tasks/landing.py", "tasks/receipt.py"}


@pytest.mark.parametrize("layer", ["features", "marts"])
def test_past_the_door_no_sql_reads_history(layer: str) -> None:
    files = list((ROOT / "sql" / layer).rglob("*.sql"))
    assert files
    assert not [f.name for f in files if re.search(r"\bhistory\.", re.sub(r"--.*", "", f.read_text()))]


def test_every_way_into_history_asks_the_tombstones_first() -> None:
    """Rows reach `history.*` through ingest alone, which reads the ledger before anything else."""
    code = _code(ROOT / "tasks" / "ingest.py")
    assert code.index("tombstones.read(run.lake)") < code.index("_ingest_table(")
    assert modules(re.compile(r"shards\.commit_manifest\(")) == {
        "tasks/ingest.py", "tasks/erasure.py", "tasks/removal.py"
    }  # fmt: skip
