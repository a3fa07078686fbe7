"""What tasks have left, and what they are given of it."""

from typing import Final

from litestar import Response

from styx.api import finding, route
from styx.api.backend import Backend
from styx.api.route import FINDING, Call, reference, reply
from styx.core import bundle
from styx.core.ids import TaskId
from styx.core.task import TERMINAL, Task, TaskState
from styx.errors import NotFound
from styx.wire import parcel

NONE: Final = "give it `outputs: true`, and let it write below $STYX_OUTPUT_DIR"


class Outputs:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get("/api/v1/tasks/{id}/outputs", "getOutputs", parcel.OutputsView, refuses=FINDING)
    async def of_task(self, call: Call) -> Response[bytes]:
        """What it has left: `/api/v1/bundles/BUNDLE` has the manifest, and `/api/v1/blobs/fetch` the content.

        Of a task that did not run, what the earlier one left that it was taken from.
        """
        task = await self._task(await finding.task_id(self._backend, reference(call)))
        found = (await self._backend.files.left_by([task.id])).get(task.id)
        if found is None:
            raise _nothing(task)
        manifest = await self._backend.files.manifest(found)
        if manifest is None:
            raise NotFound(
                f"the outputs of {task.name} were removed, to make room for others",
                hint="run it again, or raise files.max_total_bytes",
            )
        files = bundle.decode(manifest)
        shown = [parcel.OutputView(file.path, file.size) for file in files.files()]
        return reply(parcel.OutputsView(found, files.size, shown))

    @route.get(
        "/api/v1/jobs/{id}/inputs/{name}", "getInputs", list[parcel.InputView], refuses=FINDING
    )
    async def inputs(self, call: Call) -> Response[bytes]:
        """What the tasks of this name are given below `$STYX_INPUT_DIR`, as things stand."""
        job_id = await finding.job_id(self._backend, reference(call))
        name: str = call.path_params["name"]
        inputs = await self._backend.files.inputs(job_id, name)
        if inputs is None:
            raise NotFound(f"no task of this job is called {name[:128]!r}")
        given: dict[tuple[str, int | None], str] = {}
        for wanted in inputs:
            for left in await self._backend.files.left_by_spec(wanted.job or job_id, wanted.spec):
                index = left.array_index if wanted.index is None else wanted.index
                given.setdefault((wanted.name, index), left.bundle)
        return reply([parcel.InputView(*place, bundle) for place, bundle in given.items()])

    async def _task(self, task_id: TaskId) -> Task:
        detailed = await self._backend.query.task(task_id)
        if detailed is None:
            raise finding.unknown(task_id, "task")
        return detailed[0]


def _nothing(task: Task) -> NotFound:
    if not task.spec.outputs:
        return NotFound(f"{task.name} has no outputs", hint=NONE)
    if task.state not in TERMINAL:
        message = f"{task.name} is not over: its outputs come with its success"
        return NotFound(message, hint=f"wait for it: styx wait {task.id}")
    if task.state is not TaskState.SUCCEEDED:
        return NotFound(
            f"{task.name} has left none: it is {task.state}", hint="styx explain says why"
        )
    return NotFound(f"{task.name} has left none here: its outputs went into a bucket")
