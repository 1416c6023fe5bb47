"""The command line of people's rights: ask, erase, scan, receipts. No id of a person ever stands on a command line."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flows.options import AsOf, Json, Lake, Landing, Settings, Wait, tell
from tasks.errors import BlockedError, ConfigurationError, MissingInputError

receipts = typer.Typer(
    help="Receipts of erasure.",
    no_args_is_help=True,
    epilog="Example: tailorbird receipt verify receipt.json --lake lake",
)

Users = Annotated[str, typer.Option(help="File with one id per line; - reads standard input.")]


class Kind(StrEnum):
    ERASE = "erase"
    ACCESS = "access"
    OBJECT = "object"
    RESTRICT = "restrict"
    LIFT = "lift"


class Expectation(StrEnum):
    PRESENT = "present"
    ABSENT = "absent"


def register(app: typer.Typer) -> None:
    """Add these commands to the program."""
    app.command(epilog="Example: tailorbird request --lake lake --kind erase --user-file ids.txt")(request)
    app.command(epilog="Example: tailorbird erase --landing landing --lake lake --dry-run")(erase)
    app.command(epilog="Example: tailorbird access --lake lake --request r-0123456789abcdef --to answers")(access)
    app.command(epilog="Example: tailorbird retain --landing landing --lake lake --dry-run")(retain)
    app.command(epilog="Example: tailorbird scan --landing landing --lake lake --user-file ids.txt --json")(scan)
    app.command("explain-system", epilog="Example: tailorbird explain-system --lake lake > how.md")(explain_system)
    app.add_typer(receipts, name="receipt")


def request(
    lake: Lake,
    kind: Annotated[Kind, typer.Option(help="What is asked for.")] = Kind.ERASE,
    user_file: Annotated[str | None, typer.Option(help="File with one id per line; - reads standard input.")] = None,
    requested_at: Annotated[str | None, typer.Option(help="ISO 8601 instant with its offset; by default now.")] = None,
    list_: Annotated[bool, typer.Option("--list", help="Show every request instead.")] = False,
    as_json: Json = False,
) -> None:
    """Enter requests, verified by you, and print their opaque ids; or list them."""
    from tasks import deadlines, limits, shelf, tombstones

    shelf.reach(lake)
    if list_ == (user_file is not None):
        raise ConfigurationError("request: give either --user-file or --list")
    if user_file is not None:
        people, moment = _people(user_file), _moment(requested_at)
        with tombstones.opened(lake, create=True) as ledger:
            assert ledger is not None
            # An objection holds from the next run on; there is nothing else to do for it.
            enter = limits.enter if kind.value in limits.KINDS else tombstones.receive
            made = [enter(ledger, kind.value, one, moment) for one in people]
        tell({"requests": made}, made, as_json)
        return
    with tombstones.opened(lake) as ledger:
        known = tombstones.requests(ledger) if ledger else []
    now = datetime.now(UTC)
    told = [
        {
            "request": r.request,
            "kind": r.kind,
            "state": r.state,
            "requested_at": r.requested_at.isoformat(),
            "days_open": deadlines.days_open(r, now),
            "alarm": deadlines.alarm(r, now),
        }
        for r in known
    ]
    tell(
        {"requests": told},
        [
            f"{t['request']}  {t['kind']:<8} {t['state']:<10} {t['requested_at']}"
            + ("" if t["days_open"] is None else f"  open for {t['days_open']} days")
            + (f"  ALARM: more than {t['alarm']}" if t["alarm"] else "")
            for t in told
        ],
        as_json,
    )


def erase(
    landing: Landing,
    lake: Lake,
    request: Annotated[str | None, typer.Option(help="Only this request; by default every verified one.")] = None,
    config: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what there is; change nothing.")] = False,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Forget everybody who asked for it, prove it, and sign a receipt."""
    from flows.erase import erase_flow

    summary = erase_flow(landing, str(lake), request, str(config) if config else None, dry_run, wait)
    lines = [f"{one}  {state}" for one, state in summary["requests"].items()]
    lines += [f"{place:<48} {rows:>10,}" for place, rows in summary["found"].items()]
    tell(summary, [f"erase: {summary['status']}", *lines], as_json)


def access(
    lake: Lake,
    to: Annotated[Path, typer.Option(help="Folder for the answers, one folder per request, for your eyes only.")],
    landing: Annotated[str | None, typer.Option(envvar="TAILORBIRD_LANDING", help="Counts landed files, too.")] = None,
    request: Annotated[str | None, typer.Option(help="Only this request; by default every verified one.")] = None,
    config: Settings = None,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Hand out everything that is held of whoever asked, and what was concluded from it."""
    from flows.access import access_flow

    summary = access_flow(str(lake), str(to), landing, request, str(config) if config else None, wait)
    lines = [f"access: {summary['status']}"]
    for name, told in summary["requests"].items():
        lines += [f"{name}  {told['files']} files in {told['folder']}, to be removed on {told['expires_at'][:10]}"]
        lines += [f"{place:<60} {rows:>8,}" for place, rows in told["counts"].items()]
    tell(summary, lines, as_json)


def retain(
    landing: Landing,
    lake: Lake,
    as_of: AsOf = None,
    config: Settings = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go; change nothing.")] = False,
    wait: Wait = 0,
    as_json: Json = False,
) -> None:
    """Remove rows, exports and publications that are older than they are kept, and count them."""
    from flows.retain import retain_flow

    summary = retain_flow(landing, str(lake), as_of, str(config) if config else None, dry_run, wait)
    lines = [f"{place:<48} {rows:>10,}" for place, rows in summary["removed"].items()]
    tell(summary, [f"retain {summary['as_of']}: {summary['status']}", *lines], as_json)


def scan(
    landing: Landing,
    lake: Lake,
    user_file: Users,
    expect: Annotated[Expectation, typer.Option(help="What must hold for exit code 0.")] = Expectation.ABSENT,
    as_json: Json = False,
) -> None:
    """Look for traces of people in landing, lake, ledger, Prefect's home and temporary files; never says whose."""
    from tasks import scan as scanner
    from tasks import shelf

    shelf.reach(lake)
    prefect = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    temporary = [p for p in Path(tempfile.gettempdir()).glob("tailorbird*") if p.is_dir()]
    others = [("prefect", prefect), *(("temp", p) for p in temporary)]
    places = scanner.scan(Path(landing), lake, _people(user_file), others)
    holds = scanner.present(places) if expect is Expectation.PRESENT else not any(places.values())
    tell(
        {"expect": expect.value, "holds": holds, "version": scanner.VERSION, "places": places},
        [f"{place:<60} {hits:>8,}" for place, hits in places.items()],
        as_json,
    )
    if not holds:
        raise BlockedError(f"scan: not {expect.value} where that was expected; see the places above")


def explain_system(lake: Lake, config: Settings = None, as_json: Json = False) -> None:
    """The main parameters in plain words: what is collected, for what and how long, what weighs how much."""
    from tasks import shelf, transparency
    from tasks.settings import load_config

    shelf.reach(lake)
    facts = transparency.explain(lake, load_config(config))
    tell(facts, [transparency.as_markdown(facts).rstrip("\n")], as_json)


@receipts.command(epilog="Example: tailorbird receipt show r-0123456789abcdef --lake lake > receipt.json")
def show(request: Annotated[str, typer.Argument(help="Opaque id of a request.")], lake: Lake) -> None:
    """Print the receipt of a request that is done."""
    from tasks import tombstones

    with tombstones.opened(lake) as ledger:
        found = [r.receipt for r in tombstones.requests(ledger) if r.request == request] if ledger else []
    if not found or found[0] is None:
        raise ConfigurationError("receipt: there is none for this request; see `tailorbird request --list`")
    print(json.dumps(found[0], indent=1, sort_keys=True))


@receipts.command(epilog="Example: tailorbird receipt verify receipt.json --lake lake")
def verify(file: Annotated[Path, typer.Argument(help="A receipt.")], lake: Lake) -> None:
    """Whether this lake's key signed exactly this receipt; exit code 3 if not."""
    from tasks import proof, tombstones

    try:
        receipt = json.loads(file.read_text(encoding="utf-8"))
    except OSError:
        raise MissingInputError(f"{file}: cannot be read") from None
    except ValueError:
        raise BlockedError(f"{file}: is no receipt") from None
    with tombstones.opened(lake) as ledger:
        if ledger is None or not proof.verifies(receipt, ledger.keys):
            raise BlockedError(f"{file}: was not signed with this lake's key, or was changed since")
    print("the receipt is as it was signed")


def _people(file: str) -> list[str]:
    """The ids of a file, each once. A line is an id as it stands, byte for byte."""
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_bytes().decode("utf-8")
    except OSError:
        raise MissingInputError("--user-file: cannot be read") from None
    except UnicodeDecodeError:
        raise ConfigurationError("--user-file: is not UTF-8") from None
    found = list(dict.fromkeys(line.removesuffix("\r") for line in text.split("\n") if line.strip()))
    if not found:
        raise ConfigurationError("--user-file: holds no id")
    return found


def _moment(text: str | None) -> datetime:
    if text is None:
        return datetime.now(UTC)
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = datetime.min
    if moment.tzinfo is None:
        raise ConfigurationError("--requested-at: write an ISO 8601 instant with its offset")
    if moment > datetime.now(UTC):
        raise ConfigurationError("--requested-at: lies in the future; nobody can ask to forget what has not happened")
    return moment.astimezone(UTC)
