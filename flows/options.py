"""What the commands share: their options, and how a result is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

Landing = Annotated[str, typer.Option(envvar="TAILORBIRD_LANDING", help="Folder or URL of the landed files.")]
Lake = Annotated[Path, typer.Option(envvar="TAILORBIRD_LAKE", help="Folder of the lake.")]
AsOf = Annotated[str | None, typer.Option(help="A date or an ISO 8601 instant; by default yesterday.")]
Settings = Annotated[Path | None, typer.Option("--config", help="A settings file; see `tailorbird config`.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Wait = Annotated[float, typer.Option(help="Seconds to wait for another run's lock.")]


def tell(content: Any, words: str | list[str], as_json: bool) -> None:
    """The result on standard output: for a machine, or in words, as a text that ends its lines or line by line."""
    if as_json:
        tell_json(content)
    else:
        print(words if isinstance(words, str) else "\n".join(words) + "\n", end="")


def tell_json(content: Any) -> None:
    print(json.dumps(content, indent=1, default=str))
