"""The champion at work: its recipe over tonight's settings, its knowledge over tonight's history."""

from __future__ import annotations

from dataclasses import replace

import duckdb
from pydantic import ValidationError

from tasks import training
from tasks.errors import BlockedError
from tasks.recommenders import interactions
from tasks.registry import Version
from tasks.settings import Config, Recommenders, Run
from tasks.training import Trained


def recipe(config: Config, version: Version) -> Config:
    """`config` with the families' settings of the version. Privacy, placements and all else stay tonight's.

    Raises:
        BlockedError: the version knows settings that this program does not, or lacks some.
    """
    try:
        settings = Recommenders.model_validate(version.settings["recommenders"])
    except (ValidationError, KeyError):
        raise _stranger(version) from None
    return config.model_copy(update={"recommenders": settings})


def load(con: duckdb.DuckDBPyConnection, run: Run, version: Version) -> Trained:
    """The version, folded onto everything that has happened up to the run; writes the marts of a model.

    What is counted in closed form is counted again tonight: exactly what a full fit would hold. What was learned step
    by step, item factors and how families are mixed, is the version's. People are scored from tonight's history; items
    that came later are brought by the families of tonight.

    Raises:
        BlockedError: the version was written by another program version, or knows not every placement's rule.
    """
    config = recipe(run.config, version)
    history = interactions.load(con, run.as_of, config.signals.half_life_days)
    try:
        trained = training.load(version.folder, history, config)
    except (OSError, ValueError, KeyError, TypeError):
        raise _stranger(version) from None
    if {p.repeats for p in config.placements.values()} - trained.weights.keys():
        raise BlockedError(f"models/{version.id}: has learned no list for a placement of the settings; retrain")
    trained = replace(trained, model_version=version.id)
    training.record(con, trained)
    return trained


def _stranger(version: Version) -> BlockedError:
    return BlockedError(
        f"models/{version.id}: was written by another version of tailorbird; `tailorbird demote`, then retrain"
    )
