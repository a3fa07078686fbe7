"""Tasks: submit, list, look, wait, cancel, try again."""

from typing import Annotated, Final

import msgspec
from litestar import Response

from styx.api import explain, finding, page, route, submit, views
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
from styx.core import event, form, model
from styx.core.attempt import Attempt
from styx.core.ids import TaskId
from styx.core.spec import JobSpec
from styx.core.task import TERMINAL, Task
from styx.wire import http

PATH: Final = "/api/v1/tasks"
EXAMPLE: Final = {"name": "test", "command": "echo", "args": ["Hello"]}


class TasksQuery(Filters, frozen=True):
    status: Annotated[tuple[http.Status, ...], msgspec.Meta(description="Only these.")] = ()
    job: Annotated[str, msgspec.Meta(description="An id, a prefix of one, a name, or `last`.")] = ""


class Tasks:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.post(
        PATH,
        "submitTasks",
        http.Submitted | list[http.Submitted],
        status=201,
        also=REPEATED,
        headers=MAKING,
        query=Anew,
        body=model.AloneForm | list[model.TaskForm],
        example=EXAMPLE,
        refuses=SUBMITTING,
    )
    async def submit(self, call: Call) -> Response[bytes]:
        """Submit a task, or a list of them.

        The answer is a promise: what is submitted is durable, and never lost after it. A list is
        one job, and accepted whole or not at all.
        """
        body = await call.body()
        key = submit.key_of(call, body)
        spec = await submit.checked(body, _read)
        anew = read_query(call, Anew).no_cache
        made = await submit.submit(self._backend, spec, key, submit.asked_by(call), anew=anew)
        is_list = body.lstrip()[:1] == b"["
        return await submit.answered(made, _listed if is_list else _alone)

    @route.get(
        PATH, "listTasks", list[http.TaskView], also=UNCHANGED, query=TasksQuery, refuses=FINDING
    )
    async def browse(self, call: Call) -> Response[bytes]:
        """List tasks, newest first."""
        asked = read_query(call, TasksQuery)
        found = await self._backend.query.tasks(
            statuses=asked.status or None,
            job_id=await finding.job_id(self._backend, asked.job) if asked.job else None,
            name=asked.name or None,
            labels=labels(asked),
            since=moment(asked, self._backend.engine.clock()),
            limit=asked.limit + 1,
            after=TaskId(page.after(asked)) if asked.after else None,
        )
        agents = self._backend.engine.world.agents
        shown = [views.task(*detailed, agents) for detailed in found[: asked.limit]]
        return page.answer(call, shown, more=len(found) > asked.limit)

    @route.get(f"{PATH}/{{id}}", "getTask", http.TaskDetail, query=Wait, refuses=FINDING)
    async def get(self, call: Call) -> Response[bytes]:
        """One task.

        Its attempts are inline. With `wait`, the answer comes when the task is over, or then.
        """
        task_id = await finding.task_id(self._backend, reference(call))
        wait_s = read_query(call, Wait).wait
        if wait_s:
            visit(call).stay()
            engine = self._backend.engine
            await until_over(self._backend, task_id, lambda: task_id in engine.world.tasks, wait_s)
        task, attempts = await self._find(task_id)
        return reply(views.task_detail(task, attempts, self._backend.engine.world.agents))

    @route.post(
        f"{PATH}/{{id}}/cancel",
        "cancelTask",
        http.CancelAccepted,
        status=202,
        also=OVER,
        query=Cancel,
        refuses=CHANGING,
    )
    async def cancel(self, call: Call) -> Response[bytes]:
        """Cancel it.

        A running one is asked to end, and killed after its grace; with `force` at once.
        """
        force = await forced(call)
        task, attempts = await self._find(await finding.task_id(self._backend, reference(call)))
        over = task.state in TERMINAL
        if not over:
            asked = event.CancelRequested((task.id,), force=force, actor=visit(call).actor)
            await self._backend.engine.post(asked)
            task, attempts = await self._find(task.id)
        view = views.task(task, attempts, self._backend.engine.world.agents)
        return reply(http.CancelAccepted(task.id, view.status), 200 if over else 202)

    @route.post(
        f"{PATH}/{{id}}/retry",
        "retryTask",
        http.Submitted,
        status=201,
        also=REPEATED,
        headers=MAKING,
        refuses=CHANGING,
    )
    async def retry(self, call: Call) -> Response[bytes]:
        """Try it again.

        What is over stays so: this is a new task from the same spec, labelled `styx.retry_of`.
        """
        key = submit.key_of(call, b"")
        task, _ = await self._find(await finding.task_id(self._backend, reference(call)))
        job = await self._backend.query.job(task.job_id)
        assert job is not None, "a task's job is never deleted"
        spec, asked = again.of_task(task, job), submit.asked_by(call)
        made = await submit.submit(self._backend, spec, key, asked, retry_of=task.id)
        return await submit.answered(made, _alone)

    @route.get(f"{PATH}/{{id}}/explain", "explainTask", http.Explanation, refuses=FINDING)
    async def explain(self, call: Call) -> Response[bytes]:
        """Why it does not run yet, or what happened to it."""
        task, attempts = await self._find(await finding.task_id(self._backend, reference(call)))
        engine = self._backend.engine
        return reply(
            explain.explanation(
                task,
                attempts,
                engine.world.agents,
                engine.world,
                self._backend.policy,
                engine.clock(),
            )
        )

    @route.get(f"{PATH}/{{id}}/events", "getTaskEvents", list[http.HistoryView], refuses=FINDING)
    async def history(self, call: Call) -> Response[bytes]:
        """What happened to it, in order."""
        task, attempts = await self._find(await finding.task_id(self._backend, reference(call)))
        return reply(explain.history(task, attempts, self._backend.engine.world.agents))

    async def _find(self, task_id: TaskId) -> tuple[Task, list[Attempt]]:
        found = await self._backend.query.task(task_id)
        if found is None:
            raise finding.unknown(task_id, "task")
        return found


def _read(document: object) -> JobSpec:
    if isinstance(document, list):
        return form.check_batch(document)  # pyright: ignore[reportUnknownArgumentType]: JSON
    return form.check_alone(document)


def _alone(made: submit.Made) -> Response[bytes]:
    return reply(_submitted(made)[0], made.status)


def _listed(made: submit.Made) -> Response[bytes]:
    return reply(_submitted(made), made.status)


def _submitted(made: submit.Made) -> list[http.Submitted]:
    answers = [
        http.Submitted(group.ids[0], "submitted", list(group.ids) if group.is_array else [])
        for group in made.groups
    ]
    answers[0].warnings = made.warnings
    return answers
