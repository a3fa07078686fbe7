"""Who this agent is, across restarts: one small file in its home."""

import os
import secrets
import uuid

import msgspec

from styx.agent import home
from styx.core.ids import AgentId


class Identity(msgspec.Struct, frozen=True, omit_defaults=True):
    agent_id: AgentId
    name: str
    store_id: str  # made with the home: a server that meets another one knows the disk was wiped
    db_generation: int = 0  # of the server's database; another one means that it was restored


def load(directory: str, name: str) -> Identity:
    """Read the identity, making it at the first start; a `name` that is given is kept from then on.

    Raises: OSError, msgspec.DecodeError for a file that somebody damaged.
    """
    path = os.path.join(directory, home.IDENTITY)
    try:
        with open(path, "rb") as file:
            known = msgspec.json.decode(file.read(), type=Identity)
    except FileNotFoundError:
        known = Identity(
            agent_id=AgentId(str(uuid.uuid4())),
            name=name or f"agent-{secrets.token_hex(2)}",
            store_id=secrets.token_hex(16),
        )
        _save(path, known)
    if name and name != known.name:
        known = msgspec.structs.replace(known, name=name)
        _save(path, known)
    return known


def welcomed(directory: str, known: Identity, db_generation: int) -> Identity:
    """Keep the generation of the database that this agent is in step with. Raises: OSError."""
    renewed = msgspec.structs.replace(known, db_generation=db_generation)
    if renewed != known:
        _save(os.path.join(directory, home.IDENTITY), renewed)
    return renewed


def _save(path: str, identity: Identity) -> None:
    """Whole or not at all, readable by nobody else."""
    new = f"{path}.new"
    with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(msgspec.json.encode(identity))
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
