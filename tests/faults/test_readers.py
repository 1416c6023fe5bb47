"""Faults at publishing: readers during a storm of publications, and a publishing process killed at any instant."""

import multiprocessing
import random
import time
from pathlib import Path

import duckdb
import pytest

from tasks import publication, shelf
from tests.published import TABLES, fill, filled, night, publish_when_told, read_for, settings

# Clean children that already know the packages: a fork of this process would inherit DuckDB's locks, a fresh
# interpreter would spend a second on imports.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.published"])

READERS = 2
PATIENCE_SECONDS = 60


def storm(lake: Path, seconds: float, every: float, grace: float) -> tuple[int, list[tuple[int, int, int]]]:
    """Publish other lists every so often while readers read. Returns publications made, and what each reader saw."""
    config = settings(keep_publications=2, grace_seconds=grace)
    publication.publish(filled(word="day0"), night(lake, "2011-01-01", config), TABLES, {})
    pipes, readers = [], []
    for _ in range(READERS):
        ours, theirs = PROCESSES.Pipe()
        readers.append(PROCESSES.Process(target=read_for, args=(lake, seconds, theirs)))
        readers[-1].start()
        pipes.append(ours)
    assert [p.recv() for p in pipes if p.poll(PATIENCE_SECONDS)] == ["ready"] * READERS
    made, pruned, until = 0, 0, time.monotonic() + seconds
    while time.monotonic() < until:
        start = time.monotonic()
        made += 1
        # The same as_of over and over: the pointer moves each time, because the content differs.
        publication.publish(filled(word=f"day{made}"), night(lake, "2011-01-01", config), TABLES, {})
        pruned += len(publication.prune(lake, config))
        time.sleep(max(0.0, every - (time.monotonic() - start)))
    seen = [p.recv() for p in pipes if p.poll(PATIENCE_SECONDS)]
    for reader in readers:
        reader.join(PATIENCE_SECONDS)
    assert len(seen) == READERS
    assert pruned > 0
    return made, seen


def never_torn(made: int, seen: list[tuple[int, int, int]], at_least: int) -> None:
    assert made >= at_least
    for reads, torn, errors in seen:
        assert reads > made
        assert (torn, errors) == (0, 0)


def test_readers_see_one_whole_publication_while_others_are_published_and_pruned(tmp_path: Path) -> None:
    never_torn(*storm(tmp_path, seconds=6, every=0.4, grace=2), at_least=4)


@pytest.mark.prove
def test_readers_see_one_whole_publication_for_three_minutes(tmp_path: Path) -> None:
    never_torn(*storm(tmp_path, seconds=180, every=10, grace=20), at_least=17)


def killed_at_random(folder: Path, kills: int) -> None:
    # Given yesterday's publication and today's tables in a scratch file, and what publishing them comes to
    lake, scratch = folder / "lake", folder / "scratch.duckdb"
    yesterday = publication.publish(filled(word="yesterday"), night(lake, "2011-11-09"), TABLES, {})
    with duckdb.connect(str(scratch)) as con:
        fill(con, word="today")
    run = night(lake, "2011-11-10")
    started = time.monotonic()
    clean = publication.publish(scratch, night(folder / "clean", "2011-11-10"), TABLES, {})
    length = time.monotonic() - started
    draw = random.Random(4711)
    unfinished = 0

    for _ in range(kills):
        # When a process that publishes them is killed
        ours, theirs = PROCESSES.Pipe()
        child = PROCESSES.Process(target=publish_when_told, args=(theirs, scratch, run, TABLES))
        child.start()
        assert ours.poll(PATIENCE_SECONDS)
        assert ours.recv() == "ready"
        time.sleep(draw.uniform(0, 1.2 * length))
        child.kill()
        child.join(PATIENCE_SECONDS)
        unfinished += not ours.poll()

        # Then readers have yesterday or today, whole
        with duckdb.connect(str((lake / "serving.duckdb").resolve()), read_only=True) as con:
            words = con.execute("SELECT DISTINCT reason, as_of FROM recommendations").fetchall()
            assert words in ([("yesterday", "2011-11-09")], [("today", "2011-11-10")])
            defaults = con.execute("SELECT DISTINCT context, as_of FROM default_recommendations").fetchall()
            assert defaults == words

        # And the next start sweeps what is left and comes to what the clean run came to
        publication.sweep(lake)
        again = publication.publish(scratch, run, TABLES, {})
        assert again.content_hash == clean.content_hash
        assert sorted(f.name for f in (lake / "publications").iterdir()) == [yesterday.publication, clean.publication]
        assert sorted(f.name for f in lake.iterdir()) == ["current", "lake.json", "publications", "serving.duckdb"]
        assert all(shelf.intact(f) for f in (lake / "publications").iterdir())

        # (and once more from yesterday)
        publication.rollback(lake)
        (lake / "publications" / clean.publication / "serving.duckdb").unlink()
        assert publication.sweep(lake) == [clean.publication]

    # It proves something only if some were killed on the way.
    assert unfinished >= kills // 4


def test_a_publishing_process_killed_at_any_instant_changes_nothing(tmp_path: Path) -> None:
    killed_at_random(tmp_path, kills=8)


@pytest.mark.prove
def test_fifty_kills_change_nothing(tmp_path: Path) -> None:
    killed_at_random(tmp_path, kills=50)
