"""Killed, out of space, in another time zone: an ingest that is run again writes the bytes of a clean one."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.landings import Place, csv, event, files_of

INGEST = """
import os, resource, sys
from pathlib import Path
from tests.landings import Place
place = Place(Path(sys.argv[1]))
place.config = Path(sys.argv[2]) if len(sys.argv) > 2 else None
if limit := int(os.environ.get("FILE_LIMIT", 0)):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
place.ingest("2011-10-05")
"""
ROOT = Path(__file__).parents[2]


def start(place: Place, *also: str, env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", INGEST, str(place.root), *also],
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stderr=subprocess.DEVNULL,
    )


def land(place: Place) -> Place:
    draw = random.Random(3)
    for number, day in enumerate(["2011-09-29", "2011-09-30", *(f"2011-10-0{d}" for d in range(1, 6))]):
        rows = [
            event(draw.randrange(4_000), user=f"u{draw.randrange(60)}", item=f"i{draw.randrange(3)}")
            for _ in range(700)
        ]
        place.land(f"events/{day}/a.csv", csv(*rows, ["x", "u1", "none", "i", "2011-09-25"]))
        items = ([f"i{n}", f"title {number // 2}"] for n in range(5))
        place.land(f"items/{day}/a.csv", csv(*items, header=("item_id", "title")))
    return place


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> Place:
    place = land(Place(tmp_path_factory.mktemp("clean")))
    place.ingest("2011-10-05")
    assert place.last.duplicates + place.last.quarantined > 50
    return place


def converges(place: Place, clean: Place) -> None:
    place.ingest("2011-10-05")
    assert files_of(place.lake) == files_of(clean.lake)
    assert not (place.lake / ".scratch").exists()


def kill_at_random_moments(tmp_path: Path, clean: Place, times: int) -> None:
    draw = random.Random(times)
    landed = land(Place(tmp_path / "landed"))
    began = time.monotonic()
    assert start(landed).wait() == 0
    whole = time.monotonic() - began
    killed = 0
    place = landed
    for number in range(times):
        place = Place(tmp_path / str(number))
        place.root.mkdir()
        place.landing.symlink_to(landed.landing)
        process = start(place)
        # Starting Python and importing takes the first third: nothing is at stake then. One moment in each part of the
        # rest, so that a few kills are spread as well as many.
        time.sleep(whole * (0.3 + 0.7 * (number + draw.random()) / times))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        converges(place, clean)
    assert killed >= max(1, times / 2)


def test_killed_at_random_moments_it_then_writes_the_bytes_of_a_clean_run(tmp_path: Path, clean: Place) -> None:
    kill_at_random_moments(tmp_path, clean, 2)


@pytest.mark.prove
def test_killed_at_fifty_random_moments_it_still_does(tmp_path: Path, clean: Place) -> None:
    kill_at_random_moments(tmp_path, clean, 50)


def test_without_room_on_the_disk_it_fails_and_then_converges(tmp_path: Path, clean: Place) -> None:
    place = land(Place(tmp_path))

    process = start(place, env={"FILE_LIMIT": "1500"})
    assert process.wait() != 0

    assert not (place.lake / ".scratch").exists()
    converges(place, clean)


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.prove)])
def test_threads_time_zone_and_hash_seed_change_no_byte(tmp_path: Path, clean: Place, threads: int) -> None:
    place = land(Place(tmp_path))
    config = tmp_path / "threads.toml"
    config.write_text(f"[run]\nthreads = {threads}\n")
    env = {"TZ": "Pacific/Auckland", "PYTHONHASHSEED": str(threads + 40)}

    assert start(place, str(config), env=env).wait() == 0

    assert files_of(place.lake) == files_of(clean.lake)
