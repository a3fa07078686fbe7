"""What the engine needs of the outside. `styx.store` implements it on Postgres and disk."""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from styx.core.audit import Entry
from styx.core.delta import Delta
from styx.core.ids import AttemptKey, JobId, TaskId
from styx.store.exchange import Chunk, Found, Leader, LiveRows, ScheduleRow, SecretRow

__all__ = [
    "Chunk",
    "Election",
    "Found",
    "Leader",
    "LiveRows",
    "LogStore",
    "ScheduleRow",
    "ScheduleStore",
    "SecretRow",
    "SecretStore",
    "Store",
]


class Store(Protocol):
    @property
    def term(self) -> int:
        """The epoch that fences every write. It may grow with a `load`."""
        ...

    @property
    def generation(self) -> int:
        """The id of this database's history: another one after a backup was restored."""
        ...

    async def surpass(self, seen: int) -> None:
        """End our term, as agents have seen a later one, `seen`: this database is a restored one.

        The next term is above it, in a new generation. Raises: StoreUnavailable, StaleWrite.
        """
        ...

    async def load(self) -> LiveRows:
        """Read the truth, after all writes of ours, whose outcome is unknown, have landed or cannot.

        Raises: StoreUnavailable, StaleWrite.
        """
        ...

    async def commit(self, delta: Delta) -> None:
        """Write the delta in one transaction, fenced by the term, each row guarded by its version.

        Raises: StoreUnavailable (outcome unknown: `load` before the next commit), StaleWrite (a newer
        term or row version is there), WriteRefused (a constraint).
        """
        ...

    async def foreign(self, keys: Collection[AttemptKey]) -> list[AttemptKey]:
        """Those of the keys that have no row. Rows are committed before they are sent and never
        deleted: so an agent has such a key from another history of this database, which was restored
        from an older copy, or from another database.

        Raises: StoreUnavailable.
        """
        ...

    async def renew_lease(self) -> None:
        """Keep other servers from taking over, for the lease's time from now.

        Raises: StoreUnavailable, StaleWrite (another server leads).
        """
        ...


class LogStore(Protocol):
    async def append(self, chunks: Sequence[Chunk]) -> list[int]:
        """Make the unseen suffix of each chunk durable; return each stream's next wanted offset.

        A chunk past the stream's end is refused whole (its answer says what is wanted), so nothing
        is ever stored twice or with a hole. Raises: StoreUnavailable.
        """
        ...

    async def gap(self, key: AttemptKey, stream: int, start: int, end: int, why: str) -> int:
        """Record that these bytes are gone for good; return the next wanted offset."""
        ...

    async def heads(self, keys: Sequence[AttemptKey]) -> dict[tuple[AttemptKey, int], int]:
        """The next wanted offset of each stream that has any bytes; absent is 0."""
        ...


class ScheduleStore(Protocol):
    """Every method raises StoreUnavailable; those that write, StaleWrite (another server leads)."""

    async def earliest(self, most: int) -> list[ScheduleRow]:
        """Those that are due first, of all that are not paused, the first first."""
        ...

    async def find(self, project: str, name: str) -> ScheduleRow | None: ...

    async def page(self, after: str, limit: int) -> list[ScheduleRow]:
        """By id, without their documents."""
        ...

    async def put(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        """Add version 1, or replace the version before, and tell it in the audit trail.

        False: it is not at the version before (or, as a new one, is there), and nothing is done.
        """
        ...

    async def delete(self, row: ScheduleRow, told: Sequence[Entry] = ()) -> bool:
        """As `put`, of this very version."""
        ...

    async def job_of_key(self, project: str, key: str) -> JobId | None:
        """The job that was ever submitted with an idempotency key."""
        ...


class SecretStore(Protocol):
    """Every method raises StoreUnavailable; those that write, StaleWrite (another server leads); those that
    seal or open, Conflict (there is no key to do it with).
    """

    async def put(self, id_: str, project: str, name: str, value: str, told: Entry) -> SecretRow:
        """Create with that id, or replace, and tell it in the audit trail."""
        ...

    async def delete(self, project: str, name: str, told: Entry) -> SecretRow | None:
        """None: it was not there."""
        ...

    async def page(self, project: str, after: str, limit: int) -> list[SecretRow]:
        """By id."""
        ...

    async def find(self, project: str, names: Collection[str]) -> list[SecretRow]:
        """Those that are there."""
        ...

    async def values(self, project: str, names: Collection[str]) -> dict[str, Found]:
        """Of each name; where there is no key to open it with, that is why it is wanting."""
        ...

    async def claim(self, project: str, names: Collection[str], job_id: JobId) -> set[str]:
        """Make values that were given for one job that job's; those that are another's are left out."""
        ...

    async def sweep(self, before: datetime) -> int:
        """Forget values that were given before, for jobs that were over by then or never came to be."""
        ...

    async def named_by(self, tasks: Collection[TaskId]) -> dict[TaskId, frozenset[str]]:
        """Of those of the tasks that name secrets, their names."""
        ...

    async def rotate(self, project: str, told: Entry) -> tuple[int, int]:
        """Put all under the first master key; of how many, and how many could not be opened."""
        ...


class Election(Protocol):
    """One replica's access to the lead. At most one replica's writes land in any term."""

    async def take(self) -> tuple[Store, LogStore] | None:
        """Begin a new term of our own, with writes fenced by it; None while another's lease lives.

        Raises: StoreUnavailable (a term may have begun all the same: the next `take` goes past it).
        """
        ...

    async def leader(self) -> Leader | None:
        """Whose lease is valid, by the database's clock; None is nobody, or this replica itself.

        Raises: StoreUnavailable; SetupError, when this replica can never work with that leader.
        """
        ...

    async def release(self, store: Store) -> None:
        """Put away what `take` gave; if it still leads, the next server need not wait. Never raises."""
        ...
