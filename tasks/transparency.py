"""Transparency: the main parameters of the system in plain words, from the contracts, the settings and the last run.

Nothing is written by hand that could be read from what is deployed: a page that is made from it cannot be out of date.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from tasks import contracts, retention, serving, shelf
from tasks.contracts import Contract
from tasks.ranker import Ranker
from tasks.settings import Config

FAMILIES = {
    "trending": "what many people want lately; the same for everybody",
    "trending_near": "what many people want lately, among the kinds of things that you like",
    "popular": "what many people ever liked; the same for everybody",
    "repeat": "what you had before and may want again",
    "item_item": "what goes with what you liked: the same people like both",
    "graph_filter": "the broad tastes that your items belong to",
    "ease": "what your items, taken together, say about the next one",
    "als": "tastes that you share with others, found in who liked what",
    "content": "what resembles what you liked, by its own description",
}
SUCCESSES = {"click": "looked at", "purchase": "bought", "helpful": "found helpful"}
REPEATS = {
    "allowed": "new things and known ones",
    "never": "only what you never met",
    "only": "only what you had before",
}
PURPOSES = {
    "personalization": "lists made for you",
    "analytics": "counts for the people who run the service",
    "mood_signals": "how long you look and how fast you scroll",
    "precise_place": "your region within the country",
    "income": "the income band that you told",
    "experiments": "comparisons of two ways of doing it",
    "marketing": "messages that are not asked for",
}
BASES = {"consent": "only if you allow it", "legitimate_interest": "unless you object"}
MOST_FEATURES = 12
"""Of the ranker: below these a feature decides next to nothing."""

Facts = dict[str, Any]


def explain(lake: Path, config: Config) -> Facts:
    """What a person or an auditor would ask, as data; no value of anybody's data is in it."""
    here = shelf.current(lake)
    return {
        "publication": here,
        "collected": [_collected(law, config) for law in contracts.all_of("landing") if law.subject],
        "purposes": {
            name: {"means": PURPOSES.get(name, name), "basis": basis, "so": BASES[basis]}
            for name, basis in sorted(config.privacy.basis.items())
        },
        "signals": {
            "weights": dict(sorted(config.signals.weights.items(), key=lambda kv: (-kv[1], kv[0]))),
            "half_life_days": config.signals.half_life_days,
            "daily_cap": config.signals.daily_cap,
        },
        "placements": {
            name: {"length": place.k, "holds": REPEATS[place.repeats]} for name, place in config.placements.items()
        },
        "recommenders": _recommenders(lake, here),
        "ranker": {
            "objective": {SUCCESSES[signal]: share for signal, share in sorted(config.ranker.objective.items())},
            "features": _features(lake),
        },
        "protection": {
            "minimum_people_behind_a_reason": config.privacy.min_people,
            "minimum_profiled_age": config.privacy.minimum_profiled_age,
            "publications_kept": config.lake.keep_publications,
            "export_days": config.privacy.export_days,
        },
        "controls": {
            c.name: c.description
            for c in contracts.load("landing", "controls").columns
            if c.name not in ("user_id", "changed_at")
        },
        "requests": list(contracts.load("landing", "privacy_requests").column("kind").one_of),
    }


def _collected(law: Contract, config: Config) -> Facts:
    rule = retention.rule_of(law, config)
    assert rule is not None
    kinds: dict[str, list[str]] = {}
    for column in law.columns:
        kinds.setdefault(column.classification, []).append(column.name)
    return {
        "table": law.name,
        "what": law.description,
        "purpose": law.properties["purpose"],
        "columns": kinds,
        "kept_days": rule.days,
        "counted_from": "your last event" if rule.after_last_event else "the event",
        "free_text_kept_days": rule.free_text_days,
        "erased": law.properties["erase"],
        "proven": law.properties["prove"],
    }


def _recommenders(lake: Path, publication: str | None) -> list[Facts]:
    """How much each family says in the lists that are served, and how good they proved to be."""
    manifest = shelf.read_manifest(lake / "publications" / publication) if publication else None
    if manifest is None or "model_runs" not in manifest["tables"]:
        return []
    rows = serving.relation(lake / "publications" / manifest["publication"], manifest["tables"]["model_runs"])
    names = (
        "placement",
        "recommender",
        "role",
        "used",
        "why",
        "weight",
        "test_ndcg_10",
        "test_people",
        "model_version",
    )
    with duckdb.connect(":memory:") as con:
        found = con.execute(
            f"SELECT {', '.join(names)} FROM {rows} WHERE role <> 'baseline' "
            "ORDER BY placement, weight DESC NULLS LAST, recommender"
        ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in found]


def _features(lake: Path) -> dict[str, dict[str, float]]:
    """Repeat policy → feature → its share of what the champion's trees gained, summed over what they predict.

    Gain: Friedman, "Greedy function approximation" (Annals of Statistics 2001), section 8.1.
    """
    found = {}
    for file in sorted((lake / "models" / "champion").glob("ranker-*.npz")):
        ranker = Ranker.load(file)
        gains = np.zeros(len(ranker.columns))
        for chance in ranker.learned.values():
            for nodes in chance.forest.trees:
                splits = nodes[nodes["is_leaf"] == 0]
                np.add.at(gains, splits["feature_idx"], splits["gain"])
        shares = gains / max(gains.sum(), 1e-12)
        order = np.lexsort((np.arange(len(shares)), -shares))[:MOST_FEATURES]
        found[file.stem.removeprefix("ranker-")] = {ranker.columns[i]: round(float(shares[i]), 3) for i in order}
    return found


def as_markdown(facts: Facts) -> str:
    """The page: the same facts, in the order in which a person would ask."""
    kept, protected = facts["collected"], facts["protection"]
    lines = [
        "# How this system recommends",
        "",
        f"Generated from what is deployed{'; served is ' + facts['publication'] if facts['publication'] else ''}. "
        "Lists are made once a night from what people did, and are ordered by what is likely to be welcome.",
        "",
        "## What is collected, for what, how long",
        "",
        "| what | purpose | kept | how it goes |",
        "|---|---|---|---|",
        *(f"| **{t['table']}**: {t['what']} | {t['purpose']} | {_kept(t)} | {t['erased']} |" for t in kept),
        "",
        "Fields by kind:",
        "",
        *(f"- **{t['table']}**: " + "; ".join(f"{kind} ({', '.join(names)})" for kind, names in t["columns"].items())
          for t in kept),
        "",
        "## What it may be used for",
        "",
        *(f"- **{name}**: {p['means']}. Used {p['so']} ({p['basis'].replace('_', ' ')})."
          for name, p in facts["purposes"].items()),
        "",
        "## What your actions say",
        "",
        "How much one action says that you like the item; a purchase is the scale. After "
        f"{facts['signals']['half_life_days']:g} days it says half as much, and no day says more than "
        f"{facts['signals']['daily_cap']:g} about one item.",
        "",
        "| action | weight |",
        "|---|---:|",
        *(f"| {name.replace('_', ' ')} | {weight:+g} |" for name, weight in facts["signals"]["weights"].items()),
        "",
        "A rating counts by how far it is from the middle. What you search or write is stored briefly and read for "
        "nobody's list. Items marked as sensitive are never a reason for anything.",
        "",
        "## The lists",
        "",
        *(f"- **{name}**: {place['length']} entries, {place['holds']}." for name, place in facts["placements"].items()),
        "",
        *_weights(facts),
        *_importances(facts),
        "## How people are protected",
        "",
        f"- Other people's behaviour brings you an item only if at least {protected['minimum_people_behind_a_reason']} "
        "people are behind it.",
        f"- Nobody who tells an age below {protected['minimum_profiled_age']} is personalized for.",
        "- People are known here by an opaque id. Consent, objections and controls are applied at one place before "
        "anything is learned, ranked or published.",
        "- Schedulers, logs and error messages see counts and opaque ids of requests, never a person's.",
        f"- {protected['publications_kept']} publications are kept; whoever is forgotten goes from all of them, and a "
        "signed receipt says what was found and what is out of reach.",
        "",
        "## What you can do",
        "",
        *(f"- **{name.replace('_', ' ')}**: {text}." for name, text in facts["controls"].items()),
        f"- Ask: {', '.join(facts['requests'])}. What you get of your own data is removed from here after "
        f"{protected['export_days']} days.",
        "- Allow or refuse each purpose above; the newest decision counts.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _kept(table: Facts) -> str:
    text = table["free_text_kept_days"]
    more = f"; with free text {text:,} days" if text else ""
    return f"{table['kept_days']:,} days from {table['counted_from']}{more}"


def _weights(facts: Facts) -> list[str]:
    rows = [r for r in facts["recommenders"] if r["role"] == "family"]
    if not rows:
        return ["Nothing has been published yet, so there are no weights to tell.", ""]
    lines = ["How much each kind of evidence says in them, learned from what people did next:", "",
             "| list | evidence | weight | |", "|---|---|---:|---|"]  # fmt: skip
    for row in rows:
        weight = "–" if row["weight"] is None else f"{row['weight']:.3f}"
        meaning = FAMILIES.get(row["recommender"], row["recommender"])
        lines.append(f"| {row['placement']} | {row['recommender'].replace('_', ' ')}: {meaning} | {weight} | "
                     f"{row['why']} |")  # fmt: skip
    whole = [r for r in facts["recommenders"] if r["role"] != "family" and r["used"] and r["test_ndcg_10"] is not None]
    measured = [
        f"{r['placement']} {r['test_ndcg_10']:.3f} ({r['recommender']}, {r['test_people']:,} people)" for r in whole
    ]
    told = f"Measured on days that they had not seen, NDCG@10: {'; '.join(measured)}." if measured else ""
    return [*lines, "", told, ""] if told else [*lines, ""]


def _importances(facts: Facts) -> list[str]:
    aims = ", ".join(f"{name} {share:g}" for name, share in facts["ranker"]["objective"].items())
    lines = []
    for policy, features in facts["ranker"]["features"].items():
        lines += [f"Where lists hold {REPEATS.get(policy, policy)}, a ranker orders them by how likely it is that an "
                  f"item is {aims} (weights). What decides, as shares of what its trees gained:", "",
                  "| feature | share |", "|---|---:|",
                  *(f"| {name.replace('_', ' ')} | {share:.3f} |" for name, share in features.items()), ""]  # fmt: skip
    return lines
