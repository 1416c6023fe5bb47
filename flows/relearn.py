"""Relearning: the models that serve become what they would be had the people who were erased never been there.

The retraining that brought a model is run again, cold and at the model's own cut, as the first that this lake ever had:
an earlier champion that was learned with the person must not decide what is better than it. What it promotes serves,
and nothing else does. `lake/models/epoch` says which erasures that has been done for, so a killed run is repeated.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from flows import retrain
from flows.steps import Step, plainly
from tasks import hiding, registry, tombstones
from tasks.settings import Run


def behind(lake: Path) -> bool:
    """Whether somebody was erased whom a model that serves may have learned from."""
    with tombstones.opened(lake) as ledger:
        if ledger is None or registry.epoch(lake) >= tombstones.tombstones(ledger).epoch:
            return False
        return bool(registry.serving(lake)) and tombstones.taught(ledger, since=registry.epoch(lake))


def caught_up(lake: Path) -> bool:
    """Whether models and current publication are those of a night after the last erasure."""
    return not behind(lake) and hiding.rebuilt(lake, tombstones.epoch(lake))


def relearn(run: Run, room: Path, step: Step = plainly) -> list[str]:
    """Bring the models up to the ledger; returns those that serve afterwards. Call it under the lock.

    Args:
        run: landing, lake and settings; its cut says which model the current night uses.
        room: private scratch.
        step: how each step is run.

    Raises:
        BlockedError: a check stopped the retraining; what served goes on serving, and the next run tries again.
    """
    if behind(run.lake):
        lasting = [registry.champion(run.lake)]
        if tonight := registry.champion_for(run.lake, run.as_of):
            lasting.insert(0, tonight.id)
        versions = [registry.open_version(run.lake, name) for name in dict.fromkeys(filter(None, lasting))]
        before = registry.serving(run.lake)
        fresh = []
        for version in versions:
            inner = room / version.id
            inner.mkdir()
            then = replace(run, as_of=version.cut, label=version.id.rsplit("-", 1)[0])
            told = retrain.under_lock(then, inner, step, first=True)
            fresh += [told["registered"]] if told["registered"] else []
        registry.serve(run.lake, fresh)
        # By their cut, too: a pass that was killed right here no longer serves what it has to throw away.
        cuts = {version.cut.isoformat() for version in versions}
        known = [entry.version for entry in registry.models(run.lake) if entry.version in before or entry.cut in cuts]
        for name in set(known) - set(fresh):
            registry.discard(run.lake, name)
    registry.stamp(run.lake, tombstones.epoch(run.lake))
    return registry.serving(run.lake)
