"""Those who use Styx: they submit with keys and repeat until they are answered, cancel, and drain."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from styx.api import submit
from styx.core import event
from styx.core import task as tasks
from styx.core.ids import AgentId, JobId, TaskId
from styx.errors import LimitReached, StoreUnavailable
from tests.sim.invariants import Invariants
from tests.sim.loop import Process, Simulation
from tests.sim.plan import Work
from tests.sim.server import Server
from tests.sim.store import Tables

T = TypeVar("T")
RETRY_S = 2.0


class Client:
    def __init__(
        self,
        simulation: Simulation,
        servers: Sequence[Server],
        tables: Tables,
        invariants: Invariants,
    ) -> None:
        self._simulation = simulation
        self._servers = servers
        self._tables = tables
        self._invariants = invariants
        self.process = Process(simulation, "client")
        self.busy = 0  # callers who have not been answered

    def work(self, number: int, work: Work) -> None:
        self._start(work.at, self._submit, number, work)
        if work.again_after is not None:
            at = work.at + work.again_after * 2 * self._simulation.random.random()
            self._start(at, self._submit, number, work)

    def drain(self, agent_id: AgentId, *, drain: bool) -> None:
        self._start(0.0, self._post, event.DrainRequested(agent_id, drain))

    def cancel(self, task_ids: list[TaskId], *, force: bool) -> None:
        self._start(0.0, self._cancel, None, task_ids, force)

    def _start(self, at: float, fn: Callable[..., Awaitable[None]], *args: object) -> None:
        self.busy += 1

        async def counted() -> None:
            await fn(*args)
            self.busy -= 1

        self.process.post(at, self.process.start, counted)

    async def _submit(self, number: int, work: Work) -> None:
        idem_key = f"key-{number}"
        made = await self._asked(
            lambda backend: submit.submit(
                backend, work.spec, submit.Key(idem_key, "sha"), submit.Asked("user:sim")
            )
        )
        self._invariants.acknowledged(idem_key, made.job_id)
        if work.cancel_after is None:
            return
        await asyncio.sleep(work.cancel_after)
        if work.cancel_one:
            of_job = [t.id for t in self._tables.tasks.values() if t.job_id == made.job_id]
            await self._cancel(None, [self._simulation.random.choice(of_job)], work.force)
        else:
            await self._cancel(made.job_id, [], work.force)

    async def _cancel(self, job_id: JobId | None, task_ids: list[TaskId], force: bool) -> None:
        if all(self._tables.tasks[i].state in tasks.TERMINAL for i in task_ids) and not job_id:
            return
        await self._post(event.CancelRequested(tuple(task_ids), job_id, force=force))
        of_job = [t.id for t in self._tables.tasks.values() if t.job_id == job_id]
        self._invariants.cancel_acknowledged(task_ids + of_job)

    async def _post(self, fact: event.Event) -> None:
        await self._asked(lambda backend: backend.engine.post(fact))

    async def _asked(self, request: Callable[[Any], Awaitable[T]]) -> T:
        """Ask one server after the other until one answers."""
        random = self._simulation.random
        while True:
            try:
                return await random.choice(self._servers).ask(self.process, request)
            except (StoreUnavailable, LimitReached, TimeoutError):
                await asyncio.sleep(RETRY_S * random.random())
