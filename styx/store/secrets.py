"""The rows of secrets. A value is sealed before it comes near the database, and opened when a task needs it.

Every write is fenced by the leader's term, and told in the audit trail by the secret's name, in one statement.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from styx.core.audit import Entry
from styx.core.ids import JobId, TaskId
from styx.core.secret import GIVEN
from styx.errors import Conflict, StaleWrite, StoreUnavailable
from styx.kit import envelope
from styx.store import leader, pool
from styx.store.exchange import Found, SecretRow
from styx.store.masterkeys import MasterKeys
from styx.store.postgres import Database

_TOLD: Final = "id, name, key_id, created_at, created_by, updated_at, updated_by"
_SEALED: Final = "name, ciphertext, wrapped_key, key_id"
# Fenced, as a change is, and told to nobody.
_CLAIM: Final = f"""
WITH fence AS MATERIALIZED ({leader.FENCE}), done AS (
    UPDATE secrets SET job_id = $4::uuid WHERE project = $2 AND name = ANY($3::text[])
        AND (job_id IS NULL OR job_id = $4::uuid) RETURNING name)
SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)),
    ARRAY(SELECT name FROM done) AS names
"""
_SWEEP: Final = f"""
WITH fence AS MATERIALIZED ({leader.FENCE}), done AS (
    DELETE FROM secrets s WHERE starts_with(s.name, $2) AND s.created_at < $3::timestamptz
        AND NOT EXISTS (SELECT 1 FROM jobs j WHERE j.id = s.job_id
            AND (j.state = 'running' OR j.finished_at >= $3::timestamptz)) RETURNING name)
SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)),
    ARRAY(SELECT name FROM done) AS names
"""
_NAMED_BY: Final = """
SELECT t.id, s.body FROM tasks t JOIN specs s ON s.id = t.spec_id
WHERE t.id = ANY($1::uuid[]) AND s.body LIKE '%"secrets":{"%'
"""
_encode: Final = msgspec.json.Encoder().encode


def _changing(change: str) -> str:
    """Tells of itself only if it changes something."""
    return f"""
WITH fence AS MATERIALIZED ({leader.FENCE}), done AS ({change})
SELECT styx_expect('the leader''s fence', 1, (SELECT count(*) FROM fence)), d.*,
    CASE WHEN d.name IS NOT NULL THEN styx_audit($2::text[]) END
FROM (SELECT 1) AS one LEFT JOIN (SELECT {_TOLD} FROM done LIMIT 1) AS d ON true
"""


_PUT: Final = _changing(f"""
INSERT INTO secrets (id, project, {_SEALED}, created_at, created_by, updated_at, updated_by)
VALUES ($3, $4, $5, $6, $7, $8, $9::timestamptz, $10, $9::timestamptz, $10)
ON CONFLICT (project, name) DO UPDATE SET ciphertext = excluded.ciphertext,
    wrapped_key = excluded.wrapped_key, key_id = excluded.key_id, updated_at = excluded.updated_at,
    updated_by = excluded.updated_by
RETURNING *""")
_DELETE: Final = _changing("DELETE FROM secrets WHERE project = $3 AND name = $4 RETURNING *")
# Of a value that was set meanwhile, the key is another one, and stays.
_REWRAP: Final = _changing("""
UPDATE secrets AS s SET wrapped_key = g.new, key_id = $5
FROM unnest($4::text[], $6::bytea[], $7::bytea[]) AS g (name, old, new)
WHERE s.project = $3 AND s.name = g.name AND s.wrapped_key = g.old RETURNING s.*""")


class _Names(msgspec.Struct):
    """Of a spec."""

    secrets: dict[str, str] = {}


class SecretRows:
    """`engine.ports.SecretStore` on Postgres."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        self._database = database
        self._keys = keys
        self._keyring: envelope.Keyring | None = None

    async def put(self, id_: str, project: str, name: str, value: str, told: Entry) -> SecretRow:
        """See `engine.ports.SecretStore`."""
        keyring = await self._open(new=not await self._any())
        sealed = keyring.seal(value.encode(), _purpose(project, name))
        row = await self._change(_PUT, told, id_, project, name, *sealed, told.at, told.actor)
        assert row is not None, "it is there now"
        return row

    async def delete(self, project: str, name: str, told: Entry) -> SecretRow | None:
        """See `engine.ports.SecretStore`."""
        return await self._change(_DELETE, told, project, name)

    async def page(self, project: str, after: str, limit: int) -> list[SecretRow]:
        """See `engine.ports.SecretStore`."""
        rows = await self._fetch(
            f"SELECT {_TOLD} FROM secrets WHERE project = $1 AND ($2 = '' OR id::text > $2)"
            " AND NOT starts_with(name, $4) ORDER BY id LIMIT $3",
            *(project, after, limit, GIVEN),
        )
        return list(map(_row, rows))

    async def find(self, project: str, names: Collection[str]) -> list[SecretRow]:
        """See `engine.ports.SecretStore`."""
        rows = await self._fetch(
            f"SELECT {_TOLD} FROM secrets WHERE project = $1 AND name = ANY($2::text[])",
            *(project, list(names)),
        )
        return list(map(_row, rows))

    async def values(self, project: str, names: Collection[str]) -> dict[str, Found]:
        """See `engine.ports.SecretStore`."""
        rows = await self._fetch(
            f"SELECT {_SEALED} FROM secrets WHERE project = $1 AND name = ANY($2::text[])",
            *(project, list(names)),
        )
        found = dict.fromkeys(names, Found("", "there is no such secret"))
        if not rows:
            return found
        try:
            keyring = await self._open()
        except Conflict as error:
            return found | {row["name"]: Found("", error.message) for row in rows}
        return found | {row["name"]: _opened(keyring, project, row) for row in rows}

    async def claim(self, project: str, names: Collection[str], job_id: JobId) -> set[str]:
        """See `engine.ports.SecretStore`."""
        row = await self._write(_CLAIM, project, list(names), job_id)
        return set(row["names"])

    async def sweep(self, before: datetime) -> int:
        """See `engine.ports.SecretStore`."""
        return len((await self._write(_SWEEP, GIVEN, before))["names"])

    async def named_by(self, tasks: Collection[TaskId]) -> dict[TaskId, frozenset[str]]:
        """See `engine.ports.SecretStore`."""
        rows = await self._fetch(_NAMED_BY, list(tasks))
        found = {row["id"]: msgspec.json.decode(row["body"], type=_Names) for row in rows}
        return {id_: frozenset(spec.secrets.values()) for id_, spec in found.items()}

    async def rotate(self, project: str, told: Entry) -> tuple[int, int]:
        """See `engine.ports.SecretStore`."""
        keyring = await self._open()
        rows = await self._fetch(
            f"SELECT {_SEALED} FROM secrets WHERE project = $1 AND key_id <> $2",
            *(project, keyring.current),
        )
        moved = dict(_rewrapped(keyring, project, rows))
        if moved:
            old = [row["wrapped_key"] for row in rows if row["name"] in moved]
            names = [row["name"] for row in rows if row["name"] in moved]
            new = [moved[name] for name in names]
            await self._change(_REWRAP, told, project, names, keyring.current, old, new)
        return len(moved), len(rows) - len(moved)

    async def _any(self) -> bool:
        return bool(await self._fetch("SELECT 1 FROM secrets LIMIT 1"))

    async def _open(self, *, new: bool = False) -> envelope.Keyring:
        """The master keys, and the cipher, which is imported now. Raises: Conflict."""
        if self._keyring is None:
            self._keyring = await asyncio.to_thread(_keyring, self._keys, new)
        return self._keyring

    async def _change(self, statement: str, told: Entry, *values: object) -> SecretRow | None:
        row = await self._write(statement, [_encode(told).decode()], *values)
        return _row(row) if row["name"] is not None else None

    async def _write(self, statement: str, *values: object) -> Any:
        term = self._database.term
        try:
            async with pool.using(self._database.writers) as connection:
                return await connection.fetchrow(statement, term, *values)
        except StaleWrite:
            if self._database.term != term:  # it was ours, and has moved on
                raise StoreUnavailable("the term has changed meanwhile") from None
            raise

    async def _fetch(self, query: str, *values: object) -> Sequence[Any]:
        async with pool.using(self._database.readers) as connection:
            return await connection.fetch(query, *values)


def _keyring(keys: MasterKeys, new: bool) -> envelope.Keyring:
    text = keys(new=new)
    try:
        return envelope.Keyring.parse(text)
    except ValueError as error:
        raise Conflict(
            f"the server's keys of secrets cannot be used: {error}",
            hint="secrets.key_file and $STYX_SECRETS_KEY hold them: docs/secrets.md",
        ) from None


def _purpose(project: str, name: str) -> bytes:
    """What it is bound to: a row that was moved to another name does not open."""
    return f"styx secret\0{project}\0{name}".encode()


def _sealed(row: Any) -> envelope.Sealed:
    return envelope.Sealed(row["ciphertext"], row["wrapped_key"], row["key_id"])


def _opened(keyring: envelope.Keyring, project: str, row: Any) -> Found:
    try:
        value = keyring.open(_sealed(row), _purpose(project, row["name"]))
    except envelope.NoKey:
        return Found(
            "", f"it is sealed under the key {row['key_id']}, which this server has not got"
        )
    except envelope.Damaged:
        return Found("", "it is damaged, or was sealed under another name")
    return Found(value.decode())


def _rewrapped(
    keyring: envelope.Keyring, project: str, rows: Iterable[Any]
) -> Iterable[tuple[str, bytes]]:
    """Of those that open."""
    for row in rows:
        try:
            made = keyring.rewrap(_sealed(row), _purpose(project, row["name"]))
        except (envelope.NoKey, envelope.Damaged):
            continue
        yield row["name"], made.wrapped_key


def _row(row: Any) -> SecretRow:
    return SecretRow(**{name: row[name] for name in SecretRow.__struct_fields__})
