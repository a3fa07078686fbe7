"""Envelope encryption: each value under a data key of its own, and that one under a master key.

AES-256-GCM both times. What a value is for is bound into it, so nothing sealed can pass for something else.
The cipher is imported with the first keyring: it takes some MiB, which a server without secrets need not have.
"""

import base64
import hashlib
import importlib
import os
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

KEY_BYTES: Final = 32
NONCE_BYTES: Final = (
    12  # of SP 800-38D; a data key is used once, a master key far less than 2**32 times
)


class Sealed(NamedTuple):
    ciphertext: bytes
    wrapped_key: bytes
    key_id: str  # of the master key


class NoKey(Exception):
    """It was sealed under a master key that is not here."""


class Damaged(Exception):
    """It is not what was sealed, or not for this purpose."""


class Keyring:
    """`keys`, each 32 bytes: the first seals, and all of them open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        self._cipher: Any = importlib.import_module(
            "cryptography.hazmat.primitives.ciphers.aead"
        ).AESGCM
        self._invalid: type[Exception] = importlib.import_module(
            "cryptography.exceptions"
        ).InvalidTag
        self._keys = {_id(key): key for key in keys}
        self.current = _id(keys[0])

    @classmethod
    def parse(cls, text: str) -> "Keyring":
        """Keys in base64, apart by blanks or lines. Raises: ValueError, which shows nothing of them."""
        keys: list[bytes] = []
        for nth, word in enumerate(text.split(), 1):
            try:
                key = base64.b64decode(word, validate=True)
            except ValueError:
                key = b""
            if len(key) != KEY_BYTES:
                raise ValueError(f"key {nth} is not the base64 of {KEY_BYTES} bytes")
            keys.append(key)
        if not keys:
            raise ValueError("there is no key")
        return cls(keys)

    def seal(self, value: bytes, purpose: bytes) -> Sealed:
        data_key = os.urandom(KEY_BYTES)
        ciphertext = self._encrypt(data_key, value, purpose)
        return Sealed(ciphertext, self._wrap(data_key, purpose), self.current)

    def open(self, sealed: Sealed, purpose: bytes) -> bytes:
        """Raises: NoKey, Damaged."""
        return self._decrypt(self._unwrap(sealed, purpose), sealed.ciphertext, purpose)

    def rewrap(self, sealed: Sealed, purpose: bytes) -> Sealed:
        """The same value under the current master key. Raises: NoKey, Damaged."""
        data_key = self._unwrap(sealed, purpose)
        return Sealed(sealed.ciphertext, self._wrap(data_key, purpose), self.current)

    def _wrap(self, data_key: bytes, purpose: bytes) -> bytes:
        return self._encrypt(self._keys[self.current], data_key, purpose)

    def _unwrap(self, sealed: Sealed, purpose: bytes) -> bytes:
        master = self._keys.get(sealed.key_id)
        if master is None:
            raise NoKey(sealed.key_id)
        return self._decrypt(master, sealed.wrapped_key, purpose)

    def _encrypt(self, key: bytes, data: bytes, purpose: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self._cipher(key).encrypt(nonce, data, purpose)

    def _decrypt(self, key: bytes, data: bytes, purpose: bytes) -> bytes:
        try:
            return self._cipher(key).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], purpose)
        except (self._invalid, ValueError) as error:  # ValueError: cut short
            raise Damaged from error


def new_key() -> str:
    return base64.b64encode(os.urandom(KEY_BYTES)).decode()


def _id(key: bytes) -> str:
    """Tells it from others, and nothing about it."""
    return hashlib.sha256(b"styx master key\0" + key).hexdigest()[:16]
