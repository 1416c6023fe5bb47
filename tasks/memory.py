"""How much memory the process holds while something is done, and that it keeps what it will need again."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
import threading
from pathlib import Path
from typing import Self

EVERY_SECONDS = 0.02
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""What glibc's mallopt calls them."""
WHOLE_TABLES = 2**30
"""Bytes: above every table of people × items that is made and thrown away, block after block."""


class Watch:
    """Looks at the resident memory in the background; `peak_mb` is the highest seen between enter and exit."""

    def __init__(self) -> None:
        self.peak_mb = 0.0
        self._done = threading.Event()
        self._eye = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> Self:
        self._eye.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._eye.join()
        self.peak_mb = max(self.peak_mb, resident_mb())

    def _look(self) -> None:
        while not self._done.wait(EVERY_SECONDS):
            self.peak_mb = max(self.peak_mb, resident_mb())


def resident_mb() -> float:
    """Of this process now; where the system does not tell, the highest so far."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / (2**20 if sys.platform == "darwin" else 2**10)


def keep_freed() -> None:
    """Have freed memory kept for the next table, not given back: the system would clear each page of it anew.

    A C library that cannot be asked is left alone.
    """
    ask = getattr(ctypes.CDLL(None), "mallopt", None)
    if ask is not None:
        ask(MMAP_THRESHOLD, WHOLE_TABLES)
        ask(TRIM_THRESHOLD, 2 * WHOLE_TABLES - 1)
