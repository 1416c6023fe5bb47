"""Graves: everybody who was erased, and how an id is known to be one of theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from tasks.keys import Key

Kind = Literal["user", "session"]


@dataclass(frozen=True)
class Tombstone:
    erased_at: datetime
    """Whatever happened until then is gone; what happens later is another life."""
    epoch: int
    request: str
    kind: Kind = "user"


@dataclass(frozen=True)
class Tombstones:
    """Everybody who was erased, as of an epoch."""

    epoch: int
    keys: tuple[Key, ...]
    graves: Mapping[str, Tombstone]
    clear: Mapping[str, str] = field(default_factory=dict)
    """Digest → id of a person whose request is still open."""
    asked: dict[tuple[Kind, str], Tombstone | None] = field(default_factory=dict)
    told: dict[tuple[Kind, int], set[str] | None] = field(default_factory=dict)

    def known(self, kind: Kind, since: int = 0) -> set[str] | None:
        """The ids of all tombstones of an epoch after `since`; None if of some only the digest is left."""
        if (kind, since) not in self.told:
            digests = [digest for digest, g in self.graves.items() if g.kind == kind and g.epoch > since]
            lost = any(digest not in self.clear for digest in digests)
            self.told[kind, since] = None if lost else {self.clear[digest] for digest in digests}
        return self.told[kind, since]

    def match(self, kind: Kind, ids: Iterable[str], since: int = 0) -> dict[str, Tombstone]:
        """Of `ids`, those with a tombstone of an epoch after `since`."""
        found = {}
        # A digest costs microseconds, and ids come by the million.
        known = self.known(kind, since)
        for name in ids if known is None else sorted(known.intersection(ids)):
            if (kind, name) not in self.asked:
                graves = (self.graves.get(key.digest(kind, name)) for key in self.keys)
                self.asked[kind, name] = next((g for g in graves if g), None)
            if (grave := self.asked[kind, name]) and grave.epoch > since:
                found[name] = grave
        return found
