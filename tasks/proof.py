"""Receipts of erasure: what was found, what was done, what is out of reach, signed, and never whose it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tasks.keys import Key

FORMAT = "tailorbird receipt 1"

LIMITS = (
    "blocks that a solid-state disk, a file system or its snapshots have not overwritten yet",
    "backups and copies of landing, lake or ledger; a restored lake is cleansed by the next run that meets this ledger",
    "mirrors and exports of published tables that others keep",
    "other people's rows of publications before this one were computed while the person was there",
)


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
