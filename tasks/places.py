"""The map: every place where a person may be known, for how long, how they go from it and how that is proven.

Tables tell it in their contracts; the few places that are no tables tell it here. `docs/privacy.md` shows all of it,
and a file of the lake that no entry explains fails the tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from tasks import contracts, landing, shelf


class Entry(NamedTuple):
    place: str
    subject: str
    purpose: str
    retention: str
    erase: str
    prove: str


OTHERS = (
    Entry(
        "quarantine/<table>", "user_id", "repair", "90 days", "rebuilt from landing without them",
        "scan of decoded records; a record that cannot be read goes if it names them anywhere",
    ),
    Entry(
        "publications/<id>/manifest", "none", "serving", "with the publication", "holds counts and digests",
        "scan of manifest and serving file",
    ),
    Entry("lake/files", "none", "operation", "with the lake", "holds the number of buckets", "scan"),
    Entry("lake/history", "none", "audit", "with the lake", "holds counts and digests", "scan of table manifests"),
    Entry(
        "lake/models", "none", "personalization", "until pruned", "holds no row of anybody; what serves is trained "
        "anew without the person, of what serves no more the receipt says so",
        "counterfactual, byte for byte; scan of arrays",
    ),
    Entry("lake/runs", "none", "operation", "400 runs", "holds counts, names of files and of checks", "scan"),
    Entry(
        "lake/.scratch", "user_id", "one run", "dies with the run", "wiped when a run starts and when it ends",
        "no file is left after a run",
    ),
    Entry(
        "ledger", "person", "compliance", "an id in clear until the receipt, a keyed hash for ever",
        "deleted with the receipt, in a database that overwrites what it deletes", "scan of the file",
    ),
    Entry(
        "exports", "person", "access", "30 days (privacy.export_days)",
        "removed by retain when their time is over, and at once with the person", "the export register is empty",
    ),
    Entry("prefect", "none", "operation", "Prefect's own", "receives opaque request ids only", "scan of its home"),
    Entry("temp", "none", "operation", "none", "nothing is written there", "scan"),
)  # fmt: skip

LAKE_FILES = ("lake.json", ".lock", "current", "serving.duckdb")


def entries() -> list[Entry]:
    """The whole map."""
    found = []
    for layer, home in (("landing", "landing"), ("landing", "history"), ("marts", "publications/<id>")):
        for law in contracts.all_of("landing" if layer == "landing" else "marts"):
            told = (str(law.properties[name]) for name in contracts.PRIVACY_PROPERTIES)
            found.append(Entry(f"{home}/{law.name}", *told))
    return [*found, *OTHERS]


def of(root: str, path: Path) -> str:
    """The place of a file, given relative to a root (`landing`, `lake` or another place as a whole)."""
    parts = path.parts
    if root == "landing":
        table = len(parts) == 3 and parts[0] in contracts.names("landing") and landing.LABEL.fullmatch(parts[1])
        return f"landing/{parts[0]}" if table else "landing/other"
    if root != "lake":
        return root
    if parts[0] in ("history", "quarantine"):
        return f"{parts[0]}/{parts[1]}" if len(parts) == 4 else "lake/history"
    if parts[0] == "publications" and len(parts) > 2:
        inner = parts[2]
        known = inner if inner in contracts.names("marts") else ""
        plain = inner in ("manifest.json", "serving.duckdb", shelf.SUPERSEDED)
        return f"publications/{parts[1]}/{known or ('manifest' if plain else 'other')}"
    if parts[0] in ("runs", "models", ".scratch"):
        return f"lake/{parts[0]}"
    return "lake/files" if len(parts) == 1 and parts[0] in LAKE_FILES else "lake/other"


def explained(place: str) -> bool:
    """Whether the map has an entry for the place."""
    parts = place.split("/")
    general = {
        "publications": f"publications/<id>/{parts[-1]}",
        "quarantine": "quarantine/<table>",
    }.get(parts[0], place)
    return general in {entry.place for entry in entries()}


def as_markdown() -> str:
    """The map as a table."""
    lines = [
        "| place | whom it names | purpose | kept | how they go | how that is proven |",
        "|---|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(entry)} |" for entry in entries())]) + "\n"
