"""What a person is handed: one JSON file with everything, one CSV per table, and a page to read, for nobody else."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime
from html import escape
from pathlib import Path
from typing import Any

from tasks import access, contracts
from tasks.access import Answer, Row
from tasks.lake import sync_folder
from tasks.settings import Config

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet runs a cell that begins so."""
SHOWN = 200
"""Rows of a table on the page; the CSV has all of them."""

STYLE = """
:root{color-scheme:light dark;--ink:#1c2321;--soft:#5c6864;--line:#d9dfdc;--paper:#fff;--tint:#f2f6f4;--mark:#0b6e4f}
@media(prefers-color-scheme:dark){:root{--ink:#e6ecea;--soft:#a3b0ab;--line:#38423e;--paper:#161b19;--tint:#1f2623;
--mark:#63cfa8}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:1rem/1.6 system-ui,sans-serif}
main{max-width:62rem;margin:0 auto;padding:2rem 1.25rem 4rem}h1{font-size:1.9rem;line-height:1.2;margin:0 0 .5rem}
h2{margin:3rem 0 .5rem;font-size:1.3rem;border-bottom:2px solid var(--mark);padding-bottom:.25rem}
p,ul,ol{max-width:44rem}.soft{color:var(--soft)}nav ul{columns:2;padding-left:1.1rem}a{color:var(--mark)}
.scroll{overflow-x:auto;border:1px solid var(--line);border-radius:.5rem;margin:.75rem 0}
table{border-collapse:collapse;width:100%;font-size:.875rem}
caption{text-align:left;padding:.6rem .75rem;color:var(--soft)}
th,td{text-align:left;vertical-align:top;padding:.4rem .75rem;border-top:1px solid var(--line)}
th{background:var(--tint);white-space:nowrap}td{overflow-wrap:anywhere;min-width:5rem}
.card{background:var(--tint);border-radius:.5rem;padding:1rem 1.25rem;margin:1rem 0}
dt{font-weight:600}dd{margin:0 0 .5rem}
@media print{nav{display:none}.scroll{overflow:visible}}
"""


def write(answer: Answer, config: Config, folder: Path, expires_at: datetime) -> int:
    """Write the files into `folder`, for its owner alone; returns how many."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    files = {"everything.json": as_json(answer), "index.html": as_page(answer, config, expires_at)}
    files |= {f"{name}.csv": as_csv(rows) for name, rows in access.sections(answer) if rows}
    for name, text in files.items():
        descriptor = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(folder)
    return len(files)


def as_json(answer: Answer) -> str:
    content = {
        "request": answer.request,
        "as_of": answer.as_of,
        "known_as": answer.ids,
        "counts": dict(sorted(answer.counts.items())),
        "no_list_of_your_own_because": answer.withheld,
        "publication": answer.served,
        "tables": dict(access.sections(answer)),
    }
    return json.dumps(content, indent=1, default=_plain, ensure_ascii=False) + "\n"


def as_csv(rows: Sequence[Row]) -> str:
    """Rows as CSV that a spreadsheet may open: no cell is a formula."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    out = io.StringIO()
    table = csv.writer(out, lineterminator="\r\n")
    table.writerow([safe(name) for name in names])
    table.writerows([[safe(_text(row.get(name))) for name in names] for row in rows])
    return out.getvalue()


def safe(cell: str) -> str:
    return f"'{cell}" if cell.startswith(FORMULA) else cell


def as_page(answer: Answer, config: Config, expires_at: datetime) -> str:
    """A page that needs nothing else: no script, no picture, no address."""
    parts: list[tuple[str, str, str]] = [
        ("settings", "Which settings apply", _settings(answer)),
        ("lists", "What is recommended to you, and why", _lists(answer)),
        ("concluded", "What was concluded about you", _concluded(answer)),
        ("known", "What is known about you", _known(answer)),
        ("rights", "What you can do", _rights(config, expires_at)),
    ]
    links = "".join(f'<li><a href="#{anchor}">{escape(title)}</a></li>' for anchor, title, _ in parts)
    body = "".join(f'<section id="{a}" aria-labelledby="{a}-h"><h2 id="{a}-h">{escape(t)}</h2>{html}</section>'
                   for a, t, html in parts)  # fmt: skip
    names = ", ".join(escape(one) for one in answer.ids)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Your data</title><style>{STYLE}</style></head><body><main><h1>Your data</h1>"
        f'<p class="soft">Request {escape(answer.request)} · known as {names} · as of {answer.as_of:%Y-%m-%d %H:%M %Z}'
        f"</p><p>Everything that this service holds about you and has concluded from it. The same is in "
        "<code>everything.json</code> for other services, and table by table as CSV.</p>"
        f'<nav aria-label="On this page"><ul>{links}</ul></nav>{body}</main></body></html>\n'
    )


def _settings(answer: Answer) -> str:
    if answer.withheld:
        said = f"You have no list of your own, because {answer.withheld}. You are shown what everybody is shown."
    elif answer.tables["settings"]:
        said = "Your lists are made for you from what is below."
    else:
        said = "Nothing is known about you that a list could be made of."
    cards = []
    for row in answer.tables["settings"]:
        level, muted = row["level"], ", ".join(t for t in row["muted_topics"] or () if t)
        lines = [("Level of personalization", f"{level:g} of 1"), ("Muted topics", muted or "none"),
                 ("At least this share new to you", f"{row['novelty_share']:.0%}"),
                 ("Ignored before", _text(row["reset_from"]) or "nothing is ignored")]  # fmt: skip
        lines += [(p.replace("_", " ").capitalize(), "allowed" if row[p] else "not used") for p in _purposes(row)]
        cards.append(_definitions(lines))
    return f"<p>{escape(said)}</p>{''.join(cards)}"


def _purposes(row: Row) -> list[str]:
    return [name for name, value in row.items() if isinstance(value, bool)]


def _lists(answer: Answer) -> str:
    rows = [row for row in answer.tables.get("recommendations", ()) if row["publication"] == answer.served]
    if not rows:
        return "<p>There is no list of your own at present.</p>"
    shown = []
    for placement in dict.fromkeys(row["placement"] for row in rows):
        mine = sorted((r for r in rows if r["placement"] == placement), key=lambda r: (r["context"], r["position"]))
        told = [{"": r["position"], "What": r["title"] or r["item_id"], "Because": r.get("reason", r["reason_code"])}
                for r in mine]  # fmt: skip
        shown.append(_table(placement.replace("_", " ").capitalize(), told))
    return "".join(shown)


def _concluded(answer: Answer) -> str:
    mine = {n: [r for r in answer.tables.get(n, ()) if r["publication"] == answer.served]
            for n in ("user_segments", "user_interests")}  # fmt: skip
    told = "".join(
        f"<p>You count as <strong>{escape(r['segment'].replace('_', ' '))}</strong>: {r['days']} active days, the last "
        f"{r['recency_days']} days before this was made, {r['purchases']} purchases.</p>" for r in mine["user_segments"]
    )  # fmt: skip
    likes = [{"Kind": r["kind"].replace("_", " "), "You lean towards": r["value"], "Share": f"{r['share']:.0%}"}
             for r in mine["user_interests"]]  # fmt: skip
    return (told + (_table("Interests", likes) if likes else "")) or "<p>Nothing.</p>"


def _known(answer: Answer) -> str:
    """What is held, table by table, each with its meaning, how long it is kept and where it came from."""
    shown = []
    for name, rows in access.sections(answer):
        store, _, table = name.partition("_")
        if store not in ("history", "quarantine") or not rows:
            continue
        law = contracts.load("landing", table)
        origin = "could not be read and wait for repair" if store == "quarantine" else "as delivered, then cleaned"
        note = f"{law.description} Kept: {law.properties['retention']}. {len(rows):,} rows, {origin}."
        more = f" The first {SHOWN} are shown; {name}.csv has all." if len(rows) > SHOWN else ""
        shown.append(_table(f"{table.replace('_', ' ').capitalize()}. {note}{more}", rows[:SHOWN]))
    return "".join(shown) or "<p>Nothing.</p>"


def _rights(config: Config, expires_at: datetime) -> str:
    options = [
        "Correct it: what you change arrives as a new version and counts from the next night on.",
        "Set how personal your lists are, mute topics, ask for more that is new, start anew from a day, or pause.",
        "Object to personalization, or ask that your data only be stored. Both hold from the next night on.",
        "Be forgotten: everything here goes, and you get a signed receipt.",
        f"This copy is removed from where it was made on {expires_at:%Y-%m-%d}, "
        f"{config.privacy.export_days} days after it was made.",
    ]
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in options)}</ul>"


def _definitions(lines: Sequence[tuple[str, str]]) -> str:
    return f'<dl class="card">{"".join(f"<dt>{escape(a)}</dt><dd>{escape(b)}</dd>" for a, b in lines)}</dl>'


def _table(caption: str, rows: Sequence[Row]) -> str:
    # A column in which nothing is said would only be in the way.
    names = [n for n in dict.fromkeys(k for r in rows for k in r) if any(_text(r.get(n)) for r in rows)]
    cell: Callable[[Any], str] = lambda value: escape(_text(value))  # noqa: E731  (a name for one use)
    head = "".join(f'<th scope="col">{escape(n.replace("_", " ")) or "No."}</th>' for n in names)
    body = "".join(f"<tr>{''.join(f'<td>{cell(r.get(n))}</td>' for n in names)}</tr>" for r in rows)
    said = escape(caption)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{said}"><table><caption>{said}'
        f"</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "|".join(_text(one) for one in value)
    return str(_plain(value))


def _plain(value: Any) -> Any:
    """Instants as ISO 8601; a decimal number keeps every digit as text."""
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value if isinstance(value, str | int | float | bool) else str(value)
