"""Jobs: submit, list, look, wait, cancel, try again, and the graph."""

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec
from litestar import Response

from styx.api import finding, page, route, submit, taking, views
from styx.api import retry as again
from styx.api.asking import Anew, Cancel, Filters, Wait, forced, labels, moment, until_over
from styx.api.backend import Backend
from styx.api.route import (
    CHANGING,
    FINDING,
    MAKING,
    OVER,
    REPEATED,
    SUBMITTING,
    UNCHANGED,
    Call,
    read_query,
    reference,
    reply,
    visit,
)
from styx.core import event, form, model, plan
from styx.core.ids import JobId, TaskId
from styx.core.job import PROJECT, TERMINAL, Job, JobState
from styx.core.spec import JobSpec
from styx.core.task import TaskState
from styx.errors import Conflict
from styx.store.query import SpecRows
from styx.wire import http

PATH: Final = "/api/v1/jobs"
FINAL_COUNTS: Final = 4_096  # of jobs that are over: counted once; the oldest are counted again
PAGE: Final = 1_000
REPEATED_OR_PLANNED: Final = {200: f"{REPEATED[200]}, or a plan"}
EXAMPLE: Final = {
    "name": "train",
    "tasks": {
        "fetch": {"run": "./fetch.sh", "resources": {"cpus": 2}},
        "train": {"run": "./train.sh", "needs": ["fetch"], "retries": 2},
        "report": {"run": "./report.sh", "needs": [{"task": "train", "on": "done"}]},
    },
}


class JobsQuery(Filters, frozen=True):
    status: Annotated[tuple[JobState, ...], msgspec.Meta(description="Only these.")] = ()


class Submit(Anew, frozen=True):
    plan: Annotated[
        bool, msgspec.Meta(description="Only say what would become of it: make nothing.")
    ] = False


class Jobs:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._final_counts: dict[JobId, dict[str, int]] = {}

    @route.post(
        PATH,
        "submitJob",
        (http.JobSubmitted, http.JobPlan),
        status=201,
        also=REPEATED_OR_PLANNED,
        query=Submit,
        headers=MAKING,
        body=model.JobForm,
        example=EXAMPLE,
        refuses=SUBMITTING,
    )
    async def submit(self, call: Call) -> Response[bytes]:
        """Submit a job.

        The answer is a promise: the job is durable, and never lost after it. With `plan`, nothing is
        made: the answer says where each task would go if it were submitted now, and what would wait.
        """
        body = await call.body()
        asked = read_query(call, Submit)
        key = submit.key_of(call, body)
        spec = await submit.checked(body, form.check_job)
        if asked.plan:
            return reply(await self._plan(spec, anew=asked.no_cache))
        by = submit.asked_by(call)
        made = await submit.submit(self._backend, spec, key, by, anew=asked.no_cache)
        return await submit.answered(made, _submitted)

    @route.get(PATH, "listJobs", list[http.JobView], also=UNCHANGED, query=JobsQuery)
    async def browse(self, call: Call) -> Response[bytes]:
        """List jobs, newest first."""
        asked = read_query(call, JobsQuery)
        found = await self._backend.query.jobs(
            states=asked.status or None,
            name=asked.name or None,
            labels=labels(asked),
            since=moment(asked, self._backend.engine.clock()),
            limit=asked.limit + 1,
            after=JobId(page.after(asked)) if asked.after else None,
        )
        shown = await self._views(found[: asked.limit])
        return page.answer(call, shown, more=len(found) > asked.limit)

    @route.get(f"{PATH}/{{id}}", "getJob", http.JobDetail, query=Wait, refuses=FINDING)
    async def get(self, call: Call) -> Response[bytes]:
        """One job.

        With `wait`, the answer comes when all its tasks are over, or then.
        """
        job_id = await finding.job_id(self._backend, reference(call))
        wait_s = read_query(call, Wait).wait
        if wait_s:
            visit(call).stay()
            engine = self._backend.engine
            await until_over(self._backend, job_id, lambda: job_id in engine.world.jobs, wait_s)
        job = await self._find(job_id)
        told = await self._backend.query.notifications(job.id) if job.notify else []
        return reply(views.job_detail((await self._views([job]))[0], told))

    @route.get(f"{PATH}/{{id}}/graph", "getJobGraph", http.GraphView, refuses=FINDING)
    async def graph(self, call: Call) -> Response[bytes]:
        """Its tasks and their needs.

        An array is one node.
        """
        job = await self._find(await finding.job_id(self._backend, reference(call)))
        return reply(views.graph(await self._backend.query.job_specs(job.id)))

    @route.post(
        f"{PATH}/{{id}}/cancel",
        "cancelJob",
        http.CancelAccepted,
        status=202,
        also=OVER,
        query=Cancel,
        refuses=CHANGING,
    )
    async def cancel(self, call: Call) -> Response[bytes]:
        """Cancel all of it that is not over."""
        force = await forced(call)
        job = await self._find(await finding.job_id(self._backend, reference(call)))
        over = job.state in TERMINAL
        if not over:
            asked = event.CancelRequested(job_id=job.id, force=force, actor=visit(call).actor)
            await self._backend.engine.post(asked)
            job = await self._find(job.id)
        status = "cancelling" if job.state is JobState.RUNNING else str(job.state)
        return reply(http.CancelAccepted(job.id, status), 200 if over else 202)

    @route.post(
        f"{PATH}/{{id}}/retry",
        "retryJob",
        http.JobSubmitted,
        status=201,
        also=REPEATED,
        headers=MAKING,
        refuses=CHANGING,
    )
    async def retry(self, call: Call) -> Response[bytes]:
        """Try again what did not succeed.

        What is over stays so: this is a new job of the tasks that did not succeed, labelled
        `styx.retry_of`.
        """
        key = submit.key_of(call, b"")
        job = await self._find(await finding.job_id(self._backend, reference(call)))
        if job.state not in TERMINAL:
            hint = f"cancel it first: styx cancel {job.id}"
            raise Conflict(f"the job {job.name} is not over", hint=hint)
        specs = await self._backend.query.job_specs(job.id)
        left = [again.Left(row, await self._not_succeeded(job.id, row)) for row in specs]
        spec = again.of_job(job, left)
        asked = submit.asked_by(call)
        made = await submit.submit(self._backend, spec, key, asked, retry_of=job.id)
        return await submit.answered(made, _submitted)

    async def _plan(self, spec: JobSpec, *, anew: bool) -> http.JobPlan:
        engine = self._backend.engine
        taken = await taking.lookup(self._backend, PROJECT, spec, anew=anew)
        found = plan.plan(
            engine.world, spec, engine.clock(), engine.policy, project=PROJECT, taken=taken
        )
        return views.plan(spec.name, found, engine.world.agents)

    async def _not_succeeded(self, job_id: JobId, row: SpecRows) -> Sequence[int]:
        width = row.spec.width
        succeeded = row.counts.get(TaskState.SUCCEEDED, 0)
        if succeeded in {0, width}:
            return range(0 if succeeded else width)
        found: list[int] = []
        after: TaskId | None = None
        while True:
            tasks = await self._backend.query.tasks(
                job_id=job_id, name=row.spec.name, limit=PAGE, after=after
            )
            for task, _ in tasks:
                if task.state is not TaskState.SUCCEEDED and task.array_index is not None:
                    found.append(task.array_index)
            if len(tasks) < PAGE:
                return sorted(found)
            after = tasks[-1][0].id

    async def _views(self, jobs: Sequence[Job]) -> list[http.JobView]:
        """What is over is counted once, and remembered."""
        unknown = [job.id for job in jobs if job.id not in self._final_counts]
        counts = await self._backend.query.job_counts(unknown) if unknown else {}
        counts |= {job.id: self._final_counts[job.id] for job in jobs if job.id not in counts}
        for job in jobs:
            if job.state in TERMINAL:
                self._final_counts[job.id] = counts[job.id]
        while len(self._final_counts) > FINAL_COUNTS:
            del self._final_counts[next(iter(self._final_counts))]
        return [views.job(job, counts[job.id]) for job in jobs]

    async def _find(self, job_id: JobId) -> Job:
        job = await self._backend.query.job(job_id)
        if job is None:
            raise finding.unknown(job_id, "job")
        return job


def _submitted(made: submit.Made) -> Response[bytes]:
    task_ids: dict[str, str | list[str]] = {
        group.name: list(group.ids) if group.is_array else group.ids[0] for group in made.groups
    }
    answer = http.JobSubmitted(made.job_id, task_ids, "submitted", made.warnings)
    return reply(answer, made.status)
