"""Secrets in the HTTP API: as `wire.http`, but what comes in here is never answered."""

from datetime import datetime
from typing import Annotated

import msgspec


class SecretForm(msgspec.Struct, forbid_unknown_fields=True):
    value: Annotated[str, msgspec.Meta(min_length=1, description="At most 48 KiB, without NUL.")]

    def __repr__(self) -> str:
        return "SecretForm(***)"


class SecretView(msgspec.Struct):
    id: str
    name: str
    created_at: datetime
    created_by: str
    updated_at: datetime
    updated_by: str
    key_id: str  # of the server's key that it is sealed under


class SecretsRotated(msgspec.Struct):
    rotated: int


class SecretsForm(msgspec.Struct, forbid_unknown_fields=True):
    values: Annotated[dict[str, str], msgspec.Meta(description="By variable.")]

    def __repr__(self) -> str:
        return "SecretsForm(***)"


class SecretsGiven(msgspec.Struct):
    names: dict[str, str]  # by variable: `secrets` of a task
