"""What can go wrong, as the exit codes that the command line documents.

A message names what, where and what to do. It never holds a value from the data.
"""

from __future__ import annotations

from typing import Any


class TailorbirdError(Exception):
    """A failure with a documented exit code; anything else is a bug and exits 1."""

    exit_code = 1
    summary: dict[str, Any] | None = None
    """How far the run came, where it came anywhere."""


class ConfigurationError(TailorbirdError):
    """The command line, the configuration or a contract is not usable."""

    exit_code = 2


class BlockedError(TailorbirdError):
    """A check, a gate or the conservation ledger refused to go on; what was published stays."""

    exit_code = 3


class ConflictError(TailorbirdError):
    """Somebody else holds the lake's lock, or the publication moved underneath us."""

    exit_code = 4


class MissingInputError(TailorbirdError):
    """A folder or file that the command was given is not there."""

    exit_code = 5
