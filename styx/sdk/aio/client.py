"""The client for programs and notebooks.

    async with AsyncStyx() as styx:
        task = await styx.run("nvidia-smi", gpus="H100:8")
        async for line in task.logs(follow=True):
            print(line)
        await task.wait(check=True)

What is submitted so comes back as a handle; `Calls` takes and gives ids.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Unpack, overload

from styx.sdk import fields
from styx.sdk.aio.handles import AsyncJobHandle, AsyncTaskHandle
from styx.sdk.aio.kept import AsyncKept
from styx.sdk.fields import Command, Document, Submittable, TaskFields


class AsyncStyx(AsyncKept):
    __doc__ = AsyncKept.__doc__

    @overload
    async def run(
        self,
        command: Command,
        *,
        array: int | Document,
        key: str = "",
        **given: Unpack[TaskFields],
    ) -> AsyncJobHandle: ...

    @overload
    async def run(
        self,
        command: Command,
        *,
        matrix: Mapping[str, str | Sequence[Any]],
        key: str = "",
        **given: Unpack[TaskFields],
    ) -> AsyncJobHandle: ...

    @overload
    async def run(
        self, command: Command, *, key: str = "", **given: Unpack[TaskFields]
    ) -> AsyncTaskHandle: ...

    async def run(
        self, command: Command, *, key: str = "", **given: Any
    ) -> AsyncTaskHandle | AsyncJobHandle:
        """Submit a command: text is a shell script, a list is a program with its arguments. The rest are
        the fields of a task, by the words of a task file. An `array` or a `matrix` makes a job.

        On this machine's own server it runs where we stand, as with `styx run`. Raises: TypeError.
        """
        task = fields.task(command, given)
        if fields.MANY & task.keys():
            return await self.run_job({"name": task["name"], "tasks": [task]}, key=key)
        if self.is_local():
            fields.stand_here({"tasks": [task]})
        submitted = await self.submit(task, key=key)
        return AsyncTaskHandle(self, submitted.task_id, task["name"])

    async def run_job(
        self, job: Document | Submittable, *, key: str = "", no_cache: bool = False
    ) -> AsyncJobHandle:
        """Submit a job: the document of a task file with `tasks`, or a `@job`.

        On this machine's own server its tasks run where we stand, as with `styx submit`.
        """
        here = self.is_local()
        body = fields.plain(job) if isinstance(job, Mapping) else job.body(here=here)
        if here:
            fields.stand_here(body)
        submitted = await self.submit_job(body, key=key, no_cache=no_cache)
        first = next(iter(submitted.task_ids))
        name = body.get("name") or (first if len(submitted.task_ids) == 1 else "job")
        return AsyncJobHandle(self, submitted.job_id, name, submitted.task_ids)
