"""Secrets: kept for people by name, given to a session's assignments by value.

Values are read when an assignment is about to be sent, by the session that sends it: no turn waits for that,
and a task without secrets does not come here at all.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

import msgspec

from styx.core import fields, secret
from styx.core.audit import Entry
from styx.core.ids import AttemptKey, JobId
from styx.core.job import PROJECT
from styx.core.world import World
from styx.engine.ports import Found, SecretRow, SecretStore
from styx.errors import Conflict, NotFound, StoreUnavailable
from styx.kit import uuid7
from styx.wire import agent as wire

FRESH_S: Final = 10.0  # a value is read once for the many assignments of an array
SWEEP_S: Final = 3_600.0  # so long after its end a job may still have output to be masked
KEPT: Final = 100  # values in memory: 5 MiB at the most
KEYS: Final = 5_000  # of one `Redact`: half a frame


class Secrets:
    """Of one term. Whoever changes a secret does it here."""

    def __init__(
        self,
        rows: SecretStore,
        *,
        clock: Callable[[], datetime],
        monotonic: Callable[[], float],
    ) -> None:
        self._rows = rows
        self._clock = clock
        self._monotonic = monotonic
        self._known: dict[str, tuple[Found, float]] = {}
        self._changes = 0

    # --- what people ask for ----------------------------------------------------------------------

    async def put(self, name: str, value: str, actor: str) -> SecretRow:
        """Raises: StoreUnavailable (outcome unknown), StaleWrite, Conflict; so do the others that write."""
        told = self._told(actor, "secret.set", name)
        try:
            return await self._rows.put(uuid7.new(), PROJECT, name, value, told)
        finally:
            self._forget()

    async def find(self, name: str) -> SecretRow:
        """Raises: NotFound, StoreUnavailable."""
        known = fields.NAME.fullmatch(name)  # nothing else has a row, nor may it reach the database
        found = await self._rows.find(PROJECT, [name]) if known else []
        if not found:
            raise _not_found(name)
        return found[0]

    async def page(self, after: str, limit: int) -> list[SecretRow]:
        return await self._rows.page(PROJECT, after, limit)

    async def delete(self, name: str, actor: str) -> SecretRow:
        """Raises: NotFound, too."""
        known = fields.NAME.fullmatch(name)
        told = self._told(actor, "secret.delete", name)
        try:
            row = await self._rows.delete(PROJECT, name, told) if known else None
        finally:
            self._forget()
        if row is None:
            raise _not_found(name)
        return row

    async def rotate(self, actor: str) -> int:
        """How many were put under the first master key. Raises: Conflict, too, if some cannot be."""
        moved, stuck = await self._rows.rotate(PROJECT, self._told(actor, "secret.rotate", ""))
        if stuck:
            raise Conflict(
                f"{stuck} secrets are sealed under keys that this server has not got; {moved} were moved",
                hint="give it the old keys, too, behind the new one: docs/secrets.md",
            )
        return moved

    async def give(self, values: dict[str, str], actor: str) -> dict[str, str]:
        """Values for one job, by variable; return the names under which it may ask for them."""
        names: dict[str, str] = {}
        for variable, value in values.items():
            id_ = uuid7.new()
            names[variable] = name = f"{secret.GIVEN}{id_}"
            told = self._told(actor, "secret.give", variable)
            await self._rows.put(id_, PROJECT, name, value, told)
        return names

    async def absent(self, names: Collection[str], job_id: JobId | None) -> set[str]:
        """Those that do not exist for this job; None is one of many. Raises: StoreUnavailable, StaleWrite."""
        given = set(filter(secret.is_given, names))
        kept = set(names) - given
        found = {row.name for row in await self._rows.find(PROJECT, kept)} if kept else set[str]()
        if given and job_id is not None:
            found |= await self._rows.claim(PROJECT, given, job_id)
        return set(names) - found

    async def run(self) -> None:
        """Forget what was given for jobs that are over. Raises: StaleWrite."""
        while True:
            with suppress(StoreUnavailable):
                await self._rows.sweep(self._clock() - timedelta(seconds=SWEEP_S))
            await asyncio.sleep(SWEEP_S)

    # --- what agents are given --------------------------------------------------------------------

    async def arm(self, assigns: Sequence[wire.Assign]) -> list[wire.Assign]:
        """With the values of what their specs name, or with why one is wanting. Raises: StoreUnavailable."""
        values = await self._values({n for assign in assigns for n in assign.spec.secrets.values()})
        return [_armed(assign, values) for assign in assigns]

    async def redactions(self, keys: Iterable[AttemptKey], world: World) -> list[wire.Redact]:
        """For an agent that begins a session: what to mask in the output of these attempts that it holds.

        Raises: StoreUnavailable.
        """
        by_names: dict[frozenset[str], list[AttemptKey]] = {}
        over: list[AttemptKey] = []  # whose tasks are not in the world any more, or never were
        for key in keys:
            task = world.tasks.get(key.task_id)
            if task is None:
                over.append(key)
            elif task.spec.secrets:
                by_names.setdefault(frozenset(task.spec.secrets.values()), []).append(key)
        if over:
            named = await self._rows.named_by({key.task_id for key in over})
            for key in over:
                if names := named.get(key.task_id):
                    by_names.setdefault(names, []).append(key)
        if not by_names:
            return []
        values = await self._values({name for names in by_names for name in names})
        return [
            wire.Redact(tuple(of[start : start + KEYS]), hidden)
            for names, of in by_names.items()
            if (hidden := tuple(value for name in names if (value := values[name].value)))
            for start in range(0, len(of), KEYS)
        ]

    async def _values(self, names: Collection[str]) -> dict[str, Found]:
        now_s = self._monotonic()
        found = {
            name: known[0]
            for name in names
            if (known := self._known.get(name)) and now_s - known[1] < FRESH_S
        }
        if unknown := set(names) - found.keys():
            changes = self._changes
            read = await self._rows.values(PROJECT, unknown)
            found |= read
            if self._changes == changes:  # else what was read may be of before
                self._keep(read, now_s)
        return found

    def _keep(self, read: dict[str, Found], now_s: float) -> None:
        self._known |= {name: (value, now_s) for name, value in read.items()}
        while len(self._known) > KEPT:
            del self._known[next(iter(self._known))]

    def _forget(self) -> None:
        self._changes += 1
        self._known.clear()

    def _told(self, actor: str, action: str, name: str) -> Entry:
        return Entry(self._clock(), actor, action, name)


def take_secretive(messages: list[wire.FromServer]) -> list[wire.Assign]:
    """Take out those that want secrets."""
    taken = [m for m in messages if isinstance(m, wire.Assign) and m.spec.secrets]
    if taken:
        messages[:] = [m for m in messages if not (isinstance(m, wire.Assign) and m.spec.secrets)]
    return taken


def _armed(assign: wire.Assign, values: dict[str, Found]) -> wire.Assign:
    given: dict[str, str] = {}
    for variable, name in assign.spec.secrets.items():
        if wanting := values[name].wanting:
            what = f"the value of {variable}" if secret.is_given(name) else f"the secret {name!r}"
            why = f"{what} cannot be given: {wanting}"
            return msgspec.structs.replace(assign, secret_missing=why)
        given[variable] = values[name].value
    if sum(len(value.encode()) for value in given.values()) > secret.MAX_TASK_BYTES:
        why = f"its secrets are more than {secret.MAX_TASK_BYTES >> 10} KiB together"
        return msgspec.structs.replace(assign, secret_missing=why)
    return msgspec.structs.replace(assign, secrets=given)


def _not_found(name: str) -> NotFound:
    return NotFound(f"there is no secret {name[:128]!r}", hint="see: styx secret list")
