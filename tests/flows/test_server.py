"""Deployed: a real server, `make deploy`, a worker, and runs that leave one publication and no person's id."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import automations
from tasks import scan
from tests.nights import people, shelf
from tests.privacy import worlds

pytestmark = [pytest.mark.prove, pytest.mark.server]

ROOT = Path(__file__).parents[2]
PREFECT = str(Path(sys.executable).with_name("prefect"))
PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Server:
    url: str
    home: Path
    """What Prefect keeps: its database, its storage, and the logs of server and worker."""
    env: dict[str, str]
    lake: Path

    def ask(self, path: str, **body: Any) -> Any:
        request = urllib.request.Request(
            f"{self.url}/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def prefect(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [PREFECT, "--no-prompt", *words], cwd=self.home, env=self.env, capture_output=True, text=True,
            timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip


@contextmanager
def process(log: Path, env: dict[str, str], *command: str) -> Iterator[None]:
    """A process and all that it starts, ended at the end."""
    with log.open("wb") as out:
        started = subprocess.Popen(command, cwd=log.parent, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        yield
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@pytest.fixture(scope="module")
def server(market: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with everything deployed and a worker."""
    home = tmp_path_factory.mktemp("prefect")
    lake = home.parent / f"{home.name}-lake"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {
        "PREFECT_HOME": str(home), "PREFECT_API_URL": url, "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1", "TAILORBIRD_HOME": str(ROOT), "TAILORBIRD_LANDING": str(market),
        "TAILORBIRD_LAKE": str(lake),
    }  # fmt: skip
    with process(home / "server.log", env, PREFECT, "server", "start", "--host", "127.0.0.1", "--port", str(port)):
        until = time.monotonic() + PATIENCE_SECONDS
        while not answers(url):
            assert time.monotonic() < until, (home / "server.log").read_text()[-2000:]
            time.sleep(0.5)
        # The environment is there already: nothing is to be installed by a test.
        deployed = subprocess.run(
            ["make", "-o", ".venv/.ready", f"BIN={Path(sys.executable).parent}", "deploy"],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        assert deployed.returncode == 0, deployed.stderr[-2000:]
        with process(home / "worker.log", env, PREFECT, "worker", "start", "--pool", "tailorbird"):
            yield Server(url, home, env, lake)


def test_make_deploy_deploys_what_readme_says(server: Server) -> None:
    deployments = {d["entrypoint"]: d for d in server.ask("deployments/filter")}

    assert {entry.partition(":")[0]: d["name"] for entry, d in deployments.items()} == {
        "flows/nightly.py": "production",
        "flows/retrain.py": "weekly",
        "flows/erase.py": "daily",
        "flows/retain.py": "daily",
        "flows/backfill.py": "manual",
    }
    for deployment in deployments.values():
        assert deployment["parameters"]["landing"] == server.env["TAILORBIRD_LANDING"]
        assert deployment["parameters"]["lake"] == server.env["TAILORBIRD_LAKE"]
        assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
        assert deployment["work_pool_name"] == "tailorbird"
        (step,) = deployment["pull_steps"]
        assert step["prefect.deployments.steps.set_working_directory"] == {"directory": str(ROOT)}
    (schedule,) = deployments["flows/nightly.py:nightly"]["schedules"]
    assert (schedule["schedule"]["cron"], schedule["schedule"]["timezone"]) == ("30 2 * * *", "Etc/UTC")


def test_a_deployed_night_completes_twice_at_once_and_leaves_one_publication(server: Server) -> None:
    night = [PREFECT, "deployment", "run", "nightly/production", "--watch", "-p", "as_of=2026-03-31"]
    both = [subprocess.Popen(night, cwd=server.home, env=server.env, stdout=subprocess.PIPE) for _ in range(2)]
    told = [one.communicate(timeout=PATIENCE_SECONDS)[0].decode() for one in both]

    assert [one.returncode for one in both] == [0, 0], [*told, (server.home / "worker.log").read_text()[-3000:]]
    assert len(shelf(server.lake)) == 1
    runs = server.ask("flow_runs/filter", flow_runs={"state": {"type": {"any_": ["COMPLETED"]}}})
    assert [r["name"] for r in runs] == ["nightly-2026-03-31"] * 2
    assert all(r["parameters"].keys() <= {"landing", "lake", "as_of", "config", "wait"} for r in runs)
    (artifact,) = {a["key"] for a in server.ask("artifacts/latest/filter")}
    assert artifact == "nightly"


def test_a_deployed_backfill_completes(server: Server) -> None:
    told = server.prefect(
        "deployment", "run", "backfill/manual", "--watch", "-p", "first=2026-03-29", "-p", "last=2026-03-30"
    )

    assert told.returncode == 0, told.stdout[-1000:] + (server.home / "worker.log").read_text()[-3000:]
    assert {name[:10] for name in shelf(server.lake)} >= {"2026-03-29", "2026-03-30"}


def test_drift_starts_one_retraining_however_often_it_was_deployed_and_is_said(server: Server) -> None:
    # Given that the automations are upserted once more than `make deploy` did
    say = "from prefect.events import emit_event; from flows.nightly import DRIFT, RESOURCE; " \
        "emit_event(DRIFT, {'prefect.resource.id': RESOURCE})"  # fmt: skip
    again = [[sys.executable, "-m", "flows.automations"], [sys.executable, "-c", say], [sys.executable, "-c", say]]

    # When two nights say that the world has moved
    for command in again:
        subprocess.run(command, cwd=ROOT, env=server.env, check=True, timeout=PATIENCE_SECONDS)

    # Then there is one automation, and it has started one run
    (automation,) = server.ask("automations/filter")
    assert automation["name"] == automations.RETRAIN_ON_DRIFT
    retrain = {"deployments": {"name": {"any_": ["weekly"]}}}
    until = time.monotonic() + PATIENCE_SECONDS
    while not (runs := [r for r in server.ask("flow_runs/filter", **retrain) if not r["auto_scheduled"]]):
        assert time.monotonic() < until, (server.home / "server.log").read_text()[-3000:]
        time.sleep(1)
    time.sleep(5)
    runs = [r for r in server.ask("flow_runs/filter", **retrain) if not r["auto_scheduled"]]
    assert len(runs) == 1
    assert runs[0]["parameters"]["lake"] == server.env["TAILORBIRD_LAKE"]


def test_a_deployed_erasure_leaves_nobody_in_any_encoding(server: Server, market: Path, tmp_path: Path) -> None:
    # Given a lake of its own, with people whose ids occur nowhere by chance, and what they asked
    landing, lake, settings = tmp_path / "landing", tmp_path / "lake", tmp_path / "tailorbird.toml"
    worlds.land(landing, market, canaries=True)
    settings.write_text("[lake]\ngrace_seconds = 0\n")
    where = [word for name, path in {"landing": landing, "lake": lake, "config": settings}.items()
             for word in ("-p", f"{name}={path}")]  # fmt: skip
    night = server.prefect("deployment", "run", "nightly/production", "--watch", "-p", "as_of=2026-03-31", *where)
    assert night.returncode == 0, night.stdout[-1000:] + (server.home / "worker.log").read_text()[-3000:]
    before = scan.scan(landing, lake, worlds.IDS)
    command = [str(Path(sys.executable).with_name("tailorbird")), "request", "--lake", str(lake), "--user-file", "-"]
    subprocess.run(
        command, input="\n".join(worlds.CANARIES), env=server.env, text=True, check=True, timeout=PATIENCE_SECONDS
    )

    # When the deployment forgets them
    erased = server.prefect("deployment", "run", "erase/daily", "--watch", *where)

    # Then they were there, and neither the lake nor anything of Prefect's names one of them, however it is written
    assert erased.returncode == 0, erased.stdout[-1000:] + (server.home / "worker.log").read_text()[-3000:]
    assert scan.present(before)
    after = scan.scan(landing, lake, worlds.IDS, [("prefect", server.home)])
    assert any(place.startswith("prefect") for place in after)
    assert {place: hits for place, hits in after.items() if hits} == {}


def test_prefect_keeps_no_id_of_a_person(server: Server, market: Path) -> None:
    ids = people(server.lake)
    kept = [f for f in server.home.rglob("*") if f.is_file()]

    assert len(ids) > 20
    assert any(f.suffix == ".db" for f in kept)
    leaks = {f.name for f in kept for blob in [f.read_bytes()] for one in ids if one.encode() in blob}
    assert leaks == set()
