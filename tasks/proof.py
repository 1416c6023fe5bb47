"""Receipts of erasure: what was found, what was done, what is out of reach, signed, and never whose it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tasks import registry, scan, shelf
from tasks.keys import Key
from tasks.settings import Run
from tasks.tombstones import Ledger, Request

FORMAT = "tailorbird receipt 1"

LIMITS = (
    "blocks that a solid-state disk, a file system or its snapshots have not overwritten yet",
    "backups and copies of landing, lake or ledger; a restored lake is cleansed by the next run that meets this ledger",
    "mirrors and exports of published tables that others keep",
    "other people's rows of publications before this one were computed while the person was there",
)


def receipt(
    run: Run, ledger: Ledger, request: Request, looked_at: Sequence[str], *, later_life: bool
) -> dict[str, Any]:
    """The signed receipt of a request whose person was found nowhere any more.

    Args:
        run: lake and settings.
        ledger: whose key signs.
        request: as the ledger knows it, with its inventory.
        looked_at: places in which nothing was found.
        later_life: whether the person came back after asking.
    """
    limits = []
    if run.config.landing.erase == "suppress":
        limits.append("landed files, which are not ours to change: nothing reads the person's lines any more")
    if [entry for entry in registry.models(run.lake) if not entry.serves]:
        limits.append("models that serve no more hold nobody's rows, but some were trained while the person was there")
    if later_life:
        limits.append("events since the request, which were accepted")
    facts = {
        "request": request.request,
        "kind": "erase",
        "erased_at": request.requested_at.isoformat(),
        "finished_at": datetime.now(UTC).isoformat(),
        "found": request.inventory or {},
        "publications": [folder.name for folder in shelf.folders(run.lake)],
        "current": shelf.current(run.lake),
        "champion": registry.champion(run.lake),
        "scanned": {"version": scan.VERSION, "places": list(looked_at), "hits": 0},
        "remains": ["a keyed tombstone per id and session", "this receipt"],
        "limits": limits,
    }
    return sign(ledger.keys[0], facts)


def sign(key: Key, facts: Mapping[str, Any]) -> dict[str, Any]:
    """`facts` as a receipt: with format, limits, key and an Ed25519 signature over all of it."""
    body = {
        "format": FORMAT,
        **facts,
        "limits": [*facts.get("limits", ()), *LIMITS],
        "key": key.fingerprint,
        "public_key": key.signing.public_key().public_bytes_raw().hex(),
    }
    return {**body, "signature": key.signing.sign(_canonical(body)).hex()}


def verifies(receipt: Mapping[str, Any], keys: Sequence[Key]) -> bool:
    """Whether one of `keys` signed exactly this receipt."""
    try:
        body = {name: value for name, value in receipt.items() if name != "signature"}
        signature = bytes.fromhex(receipt["signature"])
        signer = bytes.fromhex(receipt["public_key"])
        if signer not in {key.signing.public_key().public_bytes_raw() for key in keys}:
            return False
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, _canonical(body))
    except (KeyError, TypeError, ValueError, AttributeError, InvalidSignature):
        return False
    return True


def _canonical(body: Mapping[str, Any]) -> bytes:
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
