"""Keys: one secret, from which the key of the tombstones and that of the receipts are derived.

The secret is `$TAILORBIRD_SECRET`, or else `secret.key` in the ledger's folder. Either may hold several, parted by
white space: the first is in use, the others are older ones that tombstones were once made with.
"""

from __future__ import annotations

import hmac
import os
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from tasks.errors import ConfigurationError

VARIABLE = "TAILORBIRD_SECRET"
FILE = "secret.key"
KEY_BYTES = 32
# As many characters as a key has bytes: a shorter word could be guessed, and with it every tombstone.
SHORTEST = 32
OTHERS = 0o077


@dataclass(frozen=True)
class Key:
    fingerprint: str
    """Tells keys apart and gives nothing away."""
    tombstone: bytes
    signing: Ed25519PrivateKey

    def digest(self, kind: str, name: str) -> str:
        """What a tombstone keeps of `name`: without the key nobody can tell whose it is, or whether an id has one."""
        return hmac.digest(self.tombstone, f"{kind}\0{name}".encode(), "sha256").hex()


def load(folder: Path, *, create: bool = False) -> tuple[Key, ...]:
    """The key in use, then the older ones; none where there is no secret.

    Args:
        folder: the ledger's.
        create: make a secret where there is none, and say so on standard error.

    Raises:
        ConfigurationError: the secret is too short, or others may read its file.
    """
    file = folder / FILE
    if words := os.environ.get(VARIABLE):
        return _derived(words, f"${VARIABLE}")
    if not file.is_file():
        if not create:
            return ()
        _make(file)
    if file.stat().st_mode & OTHERS:
        raise ConfigurationError(f"{file}: others may read it; run chmod 600 on it")
    return _derived(file.read_text(encoding="utf-8"), str(file))


def _make(file: Path) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(secrets.token_hex(KEY_BYTES) + "\n")
        handle.flush()
        os.fsync(handle.fileno())
    sys.stderr.write(
        f"tailorbird: made a secret in {file}. Back it up, apart from the lake: without it nobody can tell who was "
        "erased, and no run goes on\n"
    )


def _derived(words: str, where: str) -> tuple[Key, ...]:
    found = words.split()
    if not found or any(len(word) < SHORTEST for word in found):
        raise ConfigurationError(f"{where}: a secret has at least {SHORTEST} characters and no white space")
    return tuple(_key(word.encode()) for word in found)


def _key(secret: bytes) -> Key:
    def derive(purpose: str) -> bytes:
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"tailorbird {purpose}".encode()).derive(secret)

    return Key(
        derive("fingerprint").hex()[:16], derive("tombstone"), Ed25519PrivateKey.from_private_bytes(derive("receipt"))
    )
