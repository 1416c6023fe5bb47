"""Registry: trained models as immutable folders in `lake/models/`, and the pointer to the one that is served.

```
lake/models/<data cut>-<12 hex>/   trained.json, one .npz per family, manifest.json
lake/models/promotions.json        the versions that serve, the champion last: replaced whole, the only switch
lake/models/epoch                  the newest erasures that what serves knows nothing of
lake/models/champion               symbolic link to the champion, for whoever looks
```

The id holds a hash of the manifest, the manifest one of every file: what was changed cannot be loaded. A version holds
what was learned about items and how families are mixed, nothing of a person; to forget a version, `discard` it. Which
model a night uses is a function of this folder and the night's cut alone. Writers hold `lake.lock`.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks import contracts, shelf
from tasks.errors import BlockedError, ConfigurationError
from tasks.lake import sha256, sync_folder, write_atomically
from tasks.settings import Run

RECIPE = ("recommenders", "signals", "evaluation", "privacy")
"""Sections of the settings that a model depends on."""
VERSION = re.compile(r"\d{4}-\d\d-\d\d(T\d{6})?-[0-9a-f]{12}")


@dataclass(frozen=True)
class Version:
    """One model on disk, as its manifest describes it."""

    id: str
    cut: datetime
    """Nothing from this instant on has taught it."""
    settings: Mapping[str, Any]
    """The sections of RECIPE that it was trained with."""
    metrics: Mapping[str, Any]
    """Figures on the days that it was tested on."""
    folder: Path


@dataclass(frozen=True)
class Entry:
    """One line of `tailorbird models`."""

    version: str
    cut: str
    champion: bool
    serves: bool
    """Whether nights from its cut on use it, until the cut of the next such version."""
    intact: bool
    bytes: int


def register(run: Run, built: Path, metrics: Mapping[str, Any]) -> str:
    """Take the files in the folder `built` in as a version, durable before it has its name; returns its id.

    The same files, settings and data cut are the same version: then nothing is written.
    """
    files = {f.name: {"bytes": f.stat().st_size, "sha256": sha256(f)} for f in sorted(built.iterdir())}
    laws = [contract for layer in ("landing", "features") for contract in contracts.all_of(layer)]
    facts = {
        "as_of": run.label,
        "cut": run.as_of.astimezone(UTC).isoformat(),
        "seed": run.seed,
        "settings": run.config.model_dump(mode="json", include=set(RECIPE)),
        "contracts": {f"{c.layer}.{c.name}": c.fingerprint for c in laws},
        "metrics": metrics,
        "files": files,
    }
    version = f"{run.label}-{_hash(facts)}"
    home = _home(run.lake) / version
    if _intact(home):
        return version
    if home.exists():
        shelf.discard(home)
    staging = home.with_name(f".staging-{secrets.token_hex(4)}")
    staging.mkdir(parents=True)
    for name in files:
        write_atomically(staging / name, (built / name).read_bytes())
    write_atomically(staging / "manifest.json", _bytes({"version": version, **facts}))
    staging.rename(home)
    sync_folder(home.parent)
    return version


def open_version(lake: Path, version: str) -> Version:
    """The version, once every byte of it is verified.

    Raises:
        BlockedError: it is not what was registered.
    """
    folder = _home(lake) / version
    if not _intact(folder):
        raise BlockedError(
            f"models/{version}: is gone or damaged and is not used; restore it, or serve another one with "
            "`tailorbird demote` or `promote`"
        )
    manifest = _manifest(folder)
    cut = datetime.fromisoformat(manifest["cut"])
    return Version(version, cut, manifest["settings"], manifest["metrics"], folder)


def champion_for(lake: Path, cut: datetime) -> Version | None:
    """The model of a night at `cut`: of the versions that serve, the last one whose data cut is not after it.

    Raises:
        BlockedError: that model is damaged. No other one takes its place in silence.
    """
    fitting = [version for version in serving(lake) if _cut(lake, version) <= cut]
    return open_version(lake, fitting[-1]) if fitting else None


def serving(lake: Path) -> list[str]:
    """The versions that may serve, the champion last."""
    file = _home(lake) / "promotions.json"
    if not file.is_file():
        return []
    try:
        return [str(version) for version in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError):
        raise BlockedError(f"{file}: is damaged; delete it, then `tailorbird promote` the versions again") from None


def champion(lake: Path) -> str | None:
    """The id of the version that serves the newest nights."""
    return stand[-1] if (stand := serving(lake)) else None


def promote(lake: Path, version: str, *, in_order: bool = False) -> None:
    """Make `version` the champion.

    Args:
        lake: whose registry.
        version: one that is registered.
        in_order: keep the order of data cuts: behind a champion that has seen later days, the version serves earlier
            nights only.

    Raises:
        ConfigurationError: there is no such version.
        BlockedError: it is damaged.
    """
    if not VERSION.fullmatch(version) or not (_home(lake) / version).is_dir():
        raise ConfigurationError(f"{lake}: there is no such model; see `tailorbird models`")
    cut = open_version(lake, version).cut
    stand = [other for other in serving(lake) if other != version]
    place = len(stand)
    while in_order and place and _cut(lake, stand[place - 1]) > cut:
        place -= 1
    serve(lake, [*stand[:place], version, *stand[place:]])


def demote(lake: Path) -> str | None:
    """Serve the model before the champion again; returns it, or nothing if nights train on their own from now on.

    Raises:
        ConfigurationError: there is no champion.
        BlockedError: the model before is damaged.
    """
    stand = serving(lake)
    if not stand:
        raise ConfigurationError(f"{lake}: no model is served; see `tailorbird models`")
    for before in stand[-2:-1]:
        open_version(lake, before)
    serve(lake, stand[:-1])
    return champion(lake)


def serve(lake: Path, stand: Sequence[str]) -> None:
    """Let exactly these versions serve, the champion last."""
    write_atomically(_home(lake) / "promotions.json", _bytes(list(stand)))
    _point(lake)


def epoch(lake: Path) -> int:
    """The newest erasures that what serves knows nothing of."""
    file = _home(lake) / "epoch"
    try:
        return int(file.read_text(encoding="utf-8")) if file.is_file() else 0
    except ValueError:
        return 0


def stamp(lake: Path, epoch_: int) -> None:
    """Say that what serves knows nothing of the people who were erased until `epoch_`."""
    if epoch_ > epoch(lake):
        _home(lake).mkdir(parents=True, exist_ok=True)
        write_atomically(_home(lake) / "epoch", f"{epoch_}\n".encode())


def models(lake: Path) -> list[Entry]:
    """Every version, oldest data cut first."""
    serves, here = serving(lake), champion(lake)
    found = []
    for folder in _folders(lake):
        try:
            cut = _manifest(folder)["cut"]
        except (OSError, ValueError, KeyError, TypeError):
            cut = ""
        size = sum(f.stat().st_size for f in folder.iterdir())
        found.append(Entry(folder.name, cut, folder.name == here, folder.name in serves, _intact(folder), size))
    return sorted(found, key=lambda entry: (entry.cut, entry.version))


def prune(lake: Path, keep: int) -> list[str]:
    """Remove all but the `keep` newest versions by data cut, never the champion; returns what went."""
    here = champion(lake)
    old = [entry.version for entry in models(lake)][:-keep]
    gone = [version for version in old if version != here]
    for version in gone:
        discard(lake, version)
    return gone


def discard(lake: Path, version: str) -> None:
    """Remove a version for good; where it was the champion, the one before it is."""
    stand = serving(lake)
    if version in stand:
        serve(lake, [other for other in stand if other != version])
    shelf.discard(_home(lake) / version)


def sweep(lake: Path) -> list[str]:
    """Remove what killed runs left."""
    home = _home(lake)
    leftovers = sorted(home.glob(".*")) if home.is_dir() else []
    for left in leftovers:
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left)
        else:
            left.unlink()
    if home.is_dir():
        _point(lake)
    return [left.name for left in leftovers]


def _home(lake: Path) -> Path:
    return lake / "models"


def _folders(lake: Path) -> list[Path]:
    home = _home(lake)
    return sorted(f for f in home.iterdir() if VERSION.fullmatch(f.name)) if home.is_dir() else []


def _manifest(folder: Path) -> dict[str, Any]:
    manifest: dict[str, Any] = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def _cut(lake: Path, version: str) -> datetime:
    """The data cut of a version that serves. Unverified: whoever uses the version opens it."""
    try:
        return datetime.fromisoformat(_manifest(_home(lake) / version)["cut"])
    except (OSError, ValueError, KeyError, TypeError):
        raise BlockedError(f"models/{version}: is gone or damaged; restore it, or `tailorbird demote`") from None


def _intact(folder: Path) -> bool:
    """Whether the folder holds exactly the bytes that its name stands for."""
    try:
        manifest = _manifest(folder)
        facts = {name: value for name, value in manifest.items() if name != "version"}
        named = manifest["version"] == folder.name and folder.name.endswith("-" + _hash(facts))
        return named and all(sha256(folder / name) == file["sha256"] for name, file in manifest["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _point(lake: Path) -> None:
    """Let the link follow what serves."""
    link, here = _home(lake) / "champion", champion(lake)
    if here is None:
        link.unlink(missing_ok=True)
    elif not link.is_symlink() or link.readlink() != Path(here):
        fresh = link.with_name(f".champion.{secrets.token_hex(4)}")
        fresh.symlink_to(here)
        fresh.replace(link)
    sync_folder(link.parent)


def _bytes(facts: Any) -> bytes:
    return json.dumps(facts, indent=1, sort_keys=True).encode() + b"\n"


def _hash(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(_bytes(facts)).hexdigest()[:12]
