"""The command line of what serves: trained models and publications, which ones there are and which one it is."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.options import Json, Lake, Wait, tell


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: tailorbird models --lake lake")(models)
    app.command(epilog="Example: tailorbird promote 2011-11-10-0123456789ab --lake lake")(promote)
    app.command(epilog="Example: tailorbird demote --lake lake")(demote)
    app.command(epilog="Example: tailorbird publications --lake lake")(publications)
    app.command(epilog="Example: tailorbird rollback --lake lake --dry-run")(rollback)


def models(lake: Lake, as_json: Json = False) -> None:
    """List the trained models, oldest data first."""
    from dataclasses import asdict

    from tasks import registry

    known = registry.models(lake)
    lines = []
    for one in known:
        mark = "!" if not one.intact else "*" if one.champion else "+" if one.serves else " "
        lines.append(f"{mark} {one.version:<32} {one.bytes:>12,} bytes\n")
    tell([asdict(model) for model in known], "".join(lines), as_json)


def promote(
    version: Annotated[str, typer.Argument(help="A model of `tailorbird models`.")],
    lake: Lake,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Serve a trained model from the next night on."""
    from tasks import lake as lakes
    from tasks import registry, shelf

    shelf.reach(lake)
    with lakes.lock(lake, wait=wait):
        registry.promote(lake, version)
    tell({"champion": version}, f"champion {version}\n", as_json)


def demote(lake: Lake, wait: Wait = 0, as_json: Json = False) -> None:
    """Serve the model before the champion again from the next night on."""
    from tasks import lake as lakes
    from tasks import registry, shelf

    shelf.reach(lake)
    with lakes.lock(lake, wait=wait):
        before = registry.demote(lake)
    tell({"champion": before}, f"champion {before or 'none: nights train on their own'}\n", as_json)


def publications(lake: Lake, as_json: Json = False) -> None:
    """List the publications that can be served, oldest first."""
    from dataclasses import asdict

    from tasks import publication

    known = publication.publications(lake)
    lines = []
    for one in known:
        mark = "*" if one.current else "!" if not one.complete else " "
        lines.append(f"{mark} {one.id:<32} {one.rows:>12,} rows\n")
    tell([asdict(p) for p in known], "".join(lines), as_json)


def rollback(
    lake: Lake,
    to: Annotated[str | None, typer.Option(help="A publication's id; by default the newest earlier day's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Verify and say what would be served.")] = False,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Serve an earlier publication until the next night."""
    from tasks import hiding, publication, shelf
    from tasks import lake as lakes
    from tasks.settings import load_config

    shelf.reach(lake)
    with lakes.lock(lake, wait=wait):
        if not dry_run:
            hiding.cleanse(lake, load_config())
        target = publication.rollback(lake, to, dry_run=dry_run)
    found = {"publication": target.id, "as_of": target.as_of, "dry_run": dry_run}
    tell(found, f"{'would serve' if dry_run else 'serving'} {target.id}\n", as_json)
