"""What a person sees: progress while work goes on, and a summary at the end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def track(things: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The things, with a progress bar on standard error where that is a terminal."""
    if not sys.stderr.isatty():
        yield from things
        return
    from rich.console import Console
    from rich.progress import track as bar

    yield from bar(things, description=what, total=total, console=Console(stderr=True), transient=True)
