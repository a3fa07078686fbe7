"""The signature of a notification. Source: Standard Webhooks 1.0.0, "Signature scheme" and "Secrets"."""

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import Final

PREFIX: Final = "whsec_"
BYTES: Final = 32  # of a secret that we make; the specification takes 24 to 64


class Signer:
    """`secret` is one, or several apart by blanks: while receivers change over, each signs.

    Raises: ValueError.
    """

    def __init__(self, secret: str) -> None:
        self._keys = [_key(one) for one in secret.split()]
        if not self._keys:
            raise ValueError("there is no secret")

    def headers(self, message_id: str, seconds: int, body: bytes) -> list[tuple[str, str]]:
        """Of one try: `seconds` is when it is made, since 1970."""
        signed = f"{message_id}.{seconds}.".encode() + body
        marks = (hmac.digest(key, signed, hashlib.sha256) for key in self._keys)
        signatures = " ".join(f"v1,{base64.b64encode(mark).decode()}" for mark in marks)
        return [
            ("webhook-id", message_id),
            ("webhook-timestamp", str(seconds)),
            ("webhook-signature", signatures),
        ]


def new_secret() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()


def _key(secret: str) -> bytes:
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not secret.startswith(PREFIX) or not 24 <= len(key) <= 64:
        raise ValueError("a signing secret is whsec_ and the base64 of 24 to 64 bytes")
    return key
