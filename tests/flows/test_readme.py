"""README tells the truth: the picture is the flow, the table is the command line."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from typer.main import get_command

from flows import cli
from tasks import errors
from tests.nights import STEPS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_picture_is_the_flow() -> None:
    (picture,) = re.findall(r"```mermaid\n(.*?)```", README, re.DOTALL)
    names = dict(re.findall(r"(\w+)\[([^\[\]()]+)\]", picture))
    chains = [line.strip().split(" --> ") for line in picture.splitlines()[1:3]]
    drawn = [re.sub(r"[\[(].*", "", node) for chain in chains for node in chain]

    ways = [names.get(node, node) for node in drawn[1:]]
    steps = list(dict.fromkeys(re.sub(r"^build features\..*", "build features", step) for step in STEPS))

    # The second line begins where the first one ends.
    assert list(dict.fromkeys(ways)) == steps


def test_the_table_is_the_command_line() -> None:
    rows = re.findall(r"^\| (`tailorbird .*?) \|", README, re.MULTILINE)
    told = {word.removeprefix("tailorbird ") for row in rows for word in re.findall(r"`(.*?)`", row)}

    assert told == set(get_command(cli.app).commands)  # type: ignore[attr-defined]  # typer's own group


def test_the_exit_codes_are_those_of_the_errors() -> None:
    kinds: list[type[errors.TailorbirdError]] = [errors.TailorbirdError, *errors.TailorbirdError.__subclasses__()]
    told = {int(code) for code in re.findall(r"(?:^|· )(\d) (?=done|a bug|usage|blocked|somebody|input)", README, re.M)}

    assert told == {0, *(kind.exit_code for kind in kinds)}


DEPLOYING = ("PREFECT_API_URL", "TAILORBIRD_HOME", "TAILORBIRD_LANDING", "TAILORBIRD_LAKE")


@pytest.mark.parametrize("missing", DEPLOYING)
def test_deploying_asks_for_what_readme_exports(missing: str) -> None:
    env = os.environ | dict.fromkeys(DEPLOYING, "somewhere")
    del env[missing]

    told = subprocess.run(
        ["make", "-o", ".venv/.ready", "BIN=/nowhere", "deploy"], cwd=ROOT, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip

    assert f"{missing}=" in README
    assert told.returncode != 0
    assert f"make deploy: {missing} is not set" in told.stderr
