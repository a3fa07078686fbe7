"""Reads for the API: keyset pages, newest first, never an OFFSET and never a count over all tasks.

The order is by job, then by task: both ids are UUIDv7, made when the job was submitted. It lets a page
be found through the jobs that can hold what is asked for.
"""

import contextlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple

import msgspec

from styx.core.agent import Agent
from styx.core.attempt import Attempt
from styx.core.audit import Link
from styx.core.ids import JobId, SpecId, TaskId
from styx.core.job import Job, JobState
from styx.core.spec import TaskSpec
from styx.core.task import Edge, Task
from styx.errors import WriteRefused
from styx.store import pool, rows, told

SHOWN_IDS: Final = 1_000  # elements of an array that a graph names
CACHED_SPECS: Final = 100  # of one key, the newest: most were taken from one
CACHED_TASKS: Final = 200_000  # that a submission may be taken from; what is beyond them runs anew

# As `core.status.of`, which a test holds it against.
_STATUS: Final = """CASE t.state WHEN 'ready' THEN 'queued' WHEN 'active' THEN
  CASE WHEN t.cancel_at IS NOT NULL THEN 'cancelling'
       WHEN EXISTS (SELECT 1 FROM attempts a WHERE a.task_id = t.id AND a.n = t.attempt
                    AND a.state = 'running') THEN 'running'
       ELSE 'assigned' END
  ELSE t.state END"""
_LIVE: Final = frozenset({"blocked", "queued", "provisioning", "assigned", "running", "cancelling"})
_SHARED: Final = "s.body, s.needs, s.needs_on"
_LAST_ID: Final = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# An id is made a moment before its row; so much earlier at most, and clocks may step.
_ID_LEAD: Final = timedelta(hours=1)
_PREFIX: Final = re.compile(r"[0-9a-f]{4,32}")
_ELEMENT: Final = re.compile(r"(.+)/(\d{1,9})")

Detailed = tuple[Task, list[Attempt]]


class SpecRows(NamedTuple):
    """A spec of a job and its tasks: `task_ids` are the first `SHOWN_IDS`, `counts` all by status."""

    id: SpecId
    spec: TaskSpec
    needs: tuple[Edge, ...]
    task_ids: list[TaskId]
    counts: dict[str, int]


class Succeeded(NamedTuple):
    """A task that ran and succeeded."""

    task_id: TaskId
    spec: TaskSpec
    array_index: int | None


class Query:
    """Every method raises StoreUnavailable."""

    def __init__(self, readers: pool.Pool) -> None:
        self._readers = readers

    async def tasks(
        self,
        *,
        statuses: Sequence[str] | None = None,
        job_id: JobId | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int = 100,
        after: TaskId | None = None,
    ) -> list[Detailed]:
        """Tasks with the members of their current try. `statuses` are public words."""
        asked = _Conditions()
        if job_id is not None:
            asked.job(f"j.id = {asked.bind(job_id)}")
        if statuses is not None:
            asked.job(_jobs_with(statuses))
            asked.task(f"{_STATUS} = ANY({asked.bind(list(statuses))}::text[])")
        if name is not None:
            _name(asked, name)
        if labels:
            wanted = f"{asked.bind(_json(labels))}::jsonb"
            asked.job(f"j.id IN (SELECT job_id FROM specs WHERE labels @> {wanted})")
            asked.task(f"s.labels @> {wanted}")
        if since is not None:
            asked.job(f"j.id >= {asked.bind(_earliest_id(since))}")
            asked.task(f"t.created_at >= {asked.bind(since)}")
        if after is not None:
            last = asked.bind(after)
            last_job = f"(SELECT job_id FROM tasks WHERE id = {last})"
            asked.job(f"j.id <= {last_job}")
            asked.task(f"t.id < CASE WHEN j.id = {last_job} THEN {last} ELSE '{_LAST_ID}' END")
        return await self._detailed(_page(asked, limit), *asked.values)

    async def task(self, task_id: TaskId) -> Detailed | None:
        """With all its attempts, in order."""
        found = await self._detailed(
            f"""
            SELECT {rows.TASKS.names("t")}, {_SHARED}, a AS member
            FROM tasks t JOIN specs s ON s.id = t.spec_id LEFT JOIN attempts a ON a.task_id = t.id
            WHERE t.id = $1 ORDER BY a.n, a.rank""",
            task_id,
        )
        return found[0] if found else None

    async def attempts(self, task_id: TaskId) -> list[Attempt]:
        found = await self._fetch(
            f"SELECT {rows.ATTEMPTS.names()} FROM attempts WHERE task_id = $1 ORDER BY n, rank",
            task_id,
        )
        return [rows.attempt(row) for row in found]

    async def jobs(
        self,
        *,
        states: Sequence[JobState] | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        limit: int = 100,
        after: JobId | None = None,
    ) -> list[Job]:
        asked = _Conditions()
        if states is not None:
            asked.job(f"j.state = ANY({asked.bind(list(states))}::text[])")
        if name is not None:
            asked.job(f"j.name = {asked.bind(name)}")
        if labels:
            asked.job(f"j.labels @> {asked.bind(_json(labels))}::jsonb")
        if since is not None:
            asked.job(f"j.id >= {asked.bind(_earliest_id(since))}")
            asked.job(f"j.created_at >= {asked.bind(since)}")
        if after is not None:
            asked.job(f"j.id < {asked.bind(after)}")
        found = await self._fetch(
            f"SELECT {rows.JOBS.names('j')} FROM jobs j WHERE {asked.of_job} "
            f"ORDER BY j.id DESC LIMIT {int(limit)}",
            *asked.values,
        )
        return [rows.job(row) for row in found]

    async def job(self, job_id: JobId) -> Job | None:
        found = await self._fetch(f"SELECT {rows.JOBS.names()} FROM jobs WHERE id = $1", job_id)
        return rows.job(found[0]) if found else None

    async def job_by_key(self, project: str, idem_key: str) -> Job | None:
        found = await self._fetch(
            f"SELECT {rows.JOBS.names()} FROM jobs"
            " WHERE project = $1 AND idem_key = $2 AND idem_key <> ''",
            project,
            idem_key,
        )
        return rows.job(found[0]) if found else None

    async def agents(self) -> list[Agent]:
        """All that are not forgotten."""
        found = await self._fetch(f"SELECT {rows.AGENTS.names()} FROM agents")
        return [rows.agent(row) for row in found]

    async def audit(self, *, after: int, limit: int) -> list[Link]:
        """The trail from there on, oldest first."""
        found = await self._fetch(
            "SELECT seq, prev, entry, hash FROM audit WHERE seq > $1 ORDER BY seq LIMIT $2",
            after,
            limit,
        )
        return [Link(*row.values()) for row in found]

    async def job_counts(self, job_ids: Sequence[JobId]) -> dict[JobId, dict[str, int]]:
        """Of each job, its tasks by status; costs as much as the jobs have tasks."""
        found = await self._fetch(
            f"SELECT t.job_id, {_STATUS} AS status, count(*) AS tasks FROM tasks t"
            " WHERE t.job_id = ANY($1::uuid[]) GROUP BY 1, 2",
            list(job_ids),
        )
        counts: dict[JobId, dict[str, int]] = {job_id: {} for job_id in job_ids}
        for row in found:
            counts[row["job_id"]][row["status"]] = row["tasks"]
        return counts

    async def notifications(self, job_id: JobId) -> list[told.Told]:
        return [told.Told(*row.values()) for row in await self._fetch(told.OF_JOB, job_id)]

    async def job_specs(self, job_id: JobId) -> list[SpecRows]:
        """The job's graph, in the order of submission."""
        specs = await self._fetch(
            f"""
            SELECT s.id, {_SHARED}, ARRAY(
                SELECT t.id FROM tasks t WHERE t.spec_id = s.id AND t.array_index IS NOT NULL
                ORDER BY t.array_index LIMIT {SHOWN_IDS}) AS elements
            FROM specs s WHERE s.job_id = $1 ORDER BY s.id""",
            job_id,
        )
        tasks = await self._fetch(
            f"SELECT t.spec_id, {_STATUS} AS status, count(*) AS tasks FROM tasks t"
            " WHERE t.job_id = $1 GROUP BY 1, 2",
            job_id,
        )
        counts: dict[SpecId, dict[str, int]] = {}
        for row in tasks:
            counts.setdefault(row["spec_id"], {})[row["status"]] = row["tasks"]
        return [
            SpecRows(
                row["id"],
                *rows.shared(row),
                task_ids=row["elements"] or [row["id"]],
                counts=counts.get(row["id"], {}),
            )
            for row in specs
        ]

    async def succeeded(self, project: str, cache_keys: Sequence[str]) -> list[Succeeded]:
        """Tasks of specs with these keys that ran and succeeded, the newest first; so many at most."""
        specs = await self._fetch(
            """
            SELECT s.id, s.body FROM unnest($1::text[]) AS k(key) CROSS JOIN LATERAL (
                SELECT s.id, s.body FROM specs s JOIN jobs j ON j.id = s.job_id
                WHERE s.cache_key = k.key AND s.cache_key <> '' AND j.project = $2
                ORDER BY s.id DESC LIMIT $3) AS s""",
            list(cache_keys),
            project,
            CACHED_SPECS,
        )
        known = {row["id"]: rows.spec(row["body"]) for row in specs}
        found = await self._fetch(
            """
            SELECT id, spec_id, array_index FROM tasks
            WHERE spec_id = ANY($1::uuid[]) AND state = 'succeeded' AND taken_from IS NULL
            ORDER BY id DESC LIMIT $2""",
            list(known),
            CACHED_TASKS,
        )
        return [Succeeded(row["id"], known[row["spec_id"]], row["array_index"]) for row in found]

    async def resolve_task(self, text: str) -> list[TaskId]:
        """At most two tasks that `text` may mean: `last`, an id, a name (its newest), an id's prefix.

        `name/3` is an element of an array; the array's own name means all of them, so two.
        """
        if text == "last":
            return await self._ids("SELECT id FROM tasks ORDER BY id DESC LIMIT 1")
        element = _ELEMENT.fullmatch(text)
        newest = "SELECT id FROM specs WHERE name = $1 ORDER BY job_id DESC LIMIT 1"
        if element:
            return await self._ids(
                f"SELECT id FROM tasks WHERE spec_id = ({newest}) AND array_index = $2",
                element[1],
                int(element[2]),
            )
        named = await self._ids(
            f"""
            (SELECT id FROM tasks WHERE id = ({newest}) AND array_index IS NULL) UNION ALL
            (SELECT id FROM tasks WHERE spec_id = ({newest}) AND array_index IS NOT NULL
             ORDER BY array_index LIMIT 2)""",
            text,
        )
        return named or await self._begun("tasks", text)

    async def resolve_job(self, text: str) -> list[JobId]:
        """At most two jobs that `text` may mean: `last`, an id, a name (its newest), an id's prefix."""
        if text == "last":
            return await self._ids("SELECT id FROM jobs ORDER BY id DESC LIMIT 1")
        named = await self._ids(
            "SELECT id FROM jobs WHERE name = $1 ORDER BY id DESC LIMIT 1", text
        )
        return named or await self._begun("jobs", text)

    async def _begun(self, table: str, text: str) -> list[Any]:
        """Ids that begin with `text`: a range, which the index knows."""
        digits = text.replace("-", "")
        first, last = _dashed(digits.ljust(32, "0")), _dashed(digits.ljust(32, "f"))
        if not _PREFIX.fullmatch(digits) or not first.startswith(text):
            return []
        return await self._ids(
            f"SELECT id FROM {table} WHERE id BETWEEN $1 AND $2 ORDER BY id LIMIT 2", first, last
        )

    async def _ids(self, query: str, *values: object) -> list[Any]:
        return [row["id"] for row in await self._fetch(query, *values)]

    async def _detailed(self, query: str, *values: object) -> list[Detailed]:
        """From rows of a task, its spec, and one attempt or none; the rows of a task stand together."""
        found: list[Detailed] = []
        shared: dict[SpecId, rows.Shared] = {}
        for row in await self._fetch(query, *values):
            if not found or found[-1][0].id != row["id"]:
                if row["spec_id"] not in shared:
                    shared[row["spec_id"]] = rows.shared(row)
                found.append((rows.task(row, shared[row["spec_id"]]), []))
            if row["member"] is not None:
                found[-1][1].append(rows.attempt(row["member"]))
        return found

    async def _fetch(self, query: str, *values: object) -> list[Any]:
        """A value that Postgres cannot hold, such as an id that is none, matches nothing."""
        with contextlib.suppress(WriteRefused):
            async with pool.using(self._readers) as connection:
                return await connection.fetch(query, *values)
        return []


class _Conditions:
    """What a list asks for: of jobs (`j`), and of their tasks (`t`, with their specs, `s`)."""

    def __init__(self) -> None:
        self.values: list[object] = []
        self._of_job = ["true"]
        self._of_task = ["true"]

    def bind(self, value: object) -> str:
        self.values.append(value)
        return f"${len(self.values)}"

    def job(self, condition: str) -> None:
        self._of_job.append(condition)

    def task(self, condition: str) -> None:
        self._of_task.append(condition)

    @property
    def of_job(self) -> str:
        return " AND ".join(self._of_job)

    @property
    def of_task(self) -> str:
        return " AND ".join(self._of_task)


def _page(asked: _Conditions, limit: int) -> str:
    """Jobs are walked from the newest on, and each asked for no more tasks than a page holds."""
    return f"""
    WITH page AS (
        SELECT t.* FROM jobs j CROSS JOIN LATERAL (
            SELECT {rows.TASKS.names("t")}, {_SHARED} FROM tasks t JOIN specs s ON s.id = t.spec_id
            WHERE t.job_id = j.id AND {asked.of_task} ORDER BY t.id DESC LIMIT {int(limit)}) AS t
        WHERE {asked.of_job} ORDER BY j.id DESC, t.id DESC LIMIT {int(limit)})
    SELECT t.*, a AS member FROM page t
    LEFT JOIN attempts a ON a.task_id = t.id AND a.n = t.attempt
    ORDER BY t.job_id DESC, t.id DESC, a.rank"""


def _jobs_with(statuses: Sequence[str]) -> str:
    """Which jobs can have tasks of these statuses, as the partial indexes of jobs say it."""
    if not {"succeeded", "skipped"}.isdisjoint(statuses):
        return "true"
    return "j.state = 'running'" if _LIVE.issuperset(statuses) else "j.state <> 'succeeded'"


def _name(asked: _Conditions, name: str) -> None:
    element = _ELEMENT.fullmatch(name)
    spec_name = asked.bind(element[1] if element else name)
    asked.job(f"j.id IN (SELECT job_id FROM specs WHERE name = {spec_name})")
    asked.task(f"s.name = {spec_name}")
    if element:
        asked.task(f"t.array_index = {asked.bind(int(element[2]))}")


def _earliest_id(moment: datetime) -> str:
    milliseconds = max(0, int((moment.astimezone(UTC) - _ID_LEAD).timestamp() * 1_000))
    return _dashed(f"{milliseconds:012x}".ljust(32, "0"))


def _dashed(digits: str) -> str:
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _json(labels: Mapping[str, str]) -> str:
    return msgspec.json.encode(dict(labels)).decode()
