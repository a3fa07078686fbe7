"""`@task` and `@job`: a job written as functions.

    @task(gpus="A100", retries=3)
    def train(lr: float) -> float: ...

    @job
    def sweep() -> float:
        return best(train.map([1e-4, 3e-4]))

While a job's function runs, it draws: calling a task adds it, and returns a `Result` to pass on. To a type
checker, and outside of a job, a call is just a call.
"""

import functools
import inspect
import json
import sys
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import (
    Any,
    Concatenate,
    Final,
    Generic,
    ParamSpec,
    Protocol,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from styx.sdk import fields, graph, payload, values
from styx.sdk.fields import JobFields, On, Submittable, TaskFields
from styx.sdk.graph import Graph, Node, Result, Source, source_of
from styx.sdk.payload import Call

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
T = TypeVar("T")
H_co = TypeVar("H_co", covariant=True)

_drawing: Final[ContextVar[Graph | None]] = ContextVar("drawing", default=None)


def _check(function: Callable[..., Any], options: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raises: TypeError."""
    fields.check(options, known)
    if inspect.iscoroutinefunction(function):
        raise TypeError(f"{function.__qualname__} is async: let it call asyncio.run itself")


@contextmanager
def _drawn_on(drawn: Graph | None) -> Generator[None]:
    token = _drawing.set(drawn)
    try:
        yield
    finally:
        _drawing.reset(token)


class Client(Protocol[H_co]):
    """What a job is submitted with: `Styx`, or `AsyncStyx`, whose handle is awaited."""

    def run_job(self, job: Submittable, *, key: str = "") -> H_co: ...


class Keeper(Protocol[H_co]):
    """What keeps schedules: `Styx`, or `AsyncStyx`, whose answer is awaited."""

    def is_local(self) -> bool: ...
    def put_schedule(self, name: str, job: fields.Document) -> H_co: ...


class TaskFunction(Generic[P, R]):
    """A function that is a task of the jobs that call it."""

    def __init__(
        self,
        function: Callable[P, R],
        options: Mapping[str, Any],
        after: Sequence[tuple[Result, On]] = (),
    ) -> None:
        _check(function, options, fields.OF_A_TASK)
        self.function = function
        self._options = options
        self._after = after
        functools.update_wrapper(cast("Callable[P, R]", self), function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In a job: add this task to it, and return a `Result`. Elsewhere: call the function."""
        if (drawn := _drawing.get()) is None:
            return self.function(*args, **kwargs)
        inspect.signature(self.function).bind(*args, **kwargs)  # a wrong call is told here
        return cast("R", drawn.add(self.function, args, kwargs, self._options, self._after))

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function, here and now."""
        with _drawn_on(None):
            return self.function(*args, **kwargs)

    def map(
        self: "TaskFunction[Concatenate[T, Q], R]",
        items: Iterable[T],
        /,
        *args: Q.args,
        **kwargs: Q.kwargs,
    ) -> list[R]:
        """One array: the task for each of the items, as its first argument. Its result is the list of
        theirs, in order.
        """
        if (drawn := _drawing.get()) is None:
            return [self.function(item, *args, **kwargs) for item in items]
        inspect.signature(self.function).bind(None, *args, **kwargs)
        name = self.function.__qualname__
        elements = [values.encode(item, f"what {name} maps over") for item in items]
        if not elements:
            raise TypeError(f"{name} maps over nothing")
        made = drawn.add(self.function, args, kwargs, self._options, self._after, elements)
        return cast("list[R]", made)

    def after(self, *results: object, on: On = "success") -> "TaskFunction[P, R]":
        """The same task, which waits for others, too, without taking what they return."""
        if _drawing.get() is None:
            return self
        after = [*self._after]
        for result in results:
            if not isinstance(result, Result):
                raise TypeError(f"after takes what tasks of the job returned, not {result!r}")
            after.append((result, on))
        return TaskFunction(self.function, self._options, after)

    def options(self, **given: Unpack[TaskFields]) -> "TaskFunction[P, R]":
        """The same task with other fields."""
        return TaskFunction(self.function, {**self._options, **given}, self._after)


class JobFunction(Generic[P, R]):
    """A function that calls tasks: each time that it runs it draws a job."""

    def __init__(self, function: Callable[P, R], options: Mapping[str, Any]) -> None:
        _check(function, options, fields.OF_A_JOB)
        self.function = function
        self._options = options
        functools.update_wrapper(cast("Callable[P, R]", self), function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In another job: add this one's tasks to it. Elsewhere: run it here."""
        if _drawing.get() is None:
            return self.local(*args, **kwargs)
        return self.function(*args, **kwargs)

    def local(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Run every task in this process, one after the other, with values handed on as between machines."""
        drawn, returned = self._draw(args, kwargs)
        done = _Done(patient=self._options.get("on_failure") == "continue")
        with _drawn_on(None):
            for node in drawn.nodes.values():
                done.run(node)
        return cast("R", done.in_place(returned))

    def document(self, *args: P.args, **kwargs: P.kwargs) -> dict[str, Any]:
        """What a task file of this job would hold. Raises: TypeError."""
        return self._document(graph.PYTHON, args, kwargs)

    def submit(self, styx: Client[T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The handle of the job, now, whatever its schedule; with an `AsyncStyx`, to be awaited."""
        return styx.run_job(_Bound(self._body, args, kwargs))

    def schedule(self, styx: Keeper[T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Create its schedule, or replace it, with these arguments of each of its jobs: `@job(schedule=…)`
        says when. Raises: TypeError.
        """
        if not self._options.get(fields.SCHEDULE):
            raise TypeError(f"{self.function.__qualname__} has no schedule: @job(schedule=…)")
        here = styx.is_local()
        made = self._document(sys.executable if here else graph.PYTHON, args, kwargs)
        if here:
            fields.stand_here(made)
        return styx.put_schedule(made["name"], made)

    def body(self, *, here: bool) -> dict[str, Any]:
        """For a client's `run_job` or `submit_job`: of a job without parameters."""
        return self._body((), {}, here=here)

    def _body(
        self, args: Sequence[object], kwargs: Mapping[str, object], *, here: bool
    ) -> dict[str, Any]:
        made = self._document(sys.executable if here else graph.PYTHON, args, kwargs)
        made.pop(fields.SCHEDULE, None)
        if here:
            fields.stand_here(made)
        return made

    def _document(
        self, python: str, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> dict[str, Any]:
        if graph.loading.get():
            raise RuntimeError(
                "a task imports this module, which would submit its job once more: submit it below "
                '`if __name__ == "__main__":`'
            )
        drawn, _ = self._draw(args, kwargs)
        name = fields.name_of(self.function.__name__)
        return {"name": name, **fields.plain(self._options), "tasks": drawn.document(python)}

    def _draw(self, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[Graph, object]:
        drawn = Graph()
        with _drawn_on(drawn):
            returned = cast("Callable[..., R]", self.function)(*args, **kwargs)
        if not drawn.nodes:
            raise TypeError(f"{self.function.__qualname__} calls no task")
        return drawn, returned


class _Bound:
    """A job with its arguments."""

    def __init__(
        self,
        body: Callable[..., dict[str, Any]],
        args: Sequence[object],
        kwargs: Mapping[str, object],
    ) -> None:
        self._body = body
        self._args = args
        self._kwargs = kwargs

    def body(self, *, here: bool) -> dict[str, Any]:
        return self._body(self._args, self._kwargs, here=here)


class _Done:
    """What tasks that ran here returned, as JSON; of an array, of each element. `patient`: what was skipped
    hinders nobody.
    """

    def __init__(self, *, patient: bool) -> None:
        self._texts: dict[str, str | list[str]] = {}
        self._patient = patient

    def run(self, node: Node) -> None:
        """Unless its needs say that it does not: of what runs here, nothing ever fails."""
        for need in node.needs:
            skipped = need.task not in self._texts and not self._patient
            if need.on == "failure" or (need.on == "success" and skipped):
                return
        if node.items is None:
            self._texts[node.name] = self._once(node, None)
        else:
            self._texts[node.name] = [self._once(node, item) for item in node.items]

    def of(self, task: str, width: int | None) -> Any:
        del width
        if task not in self._texts:
            raise LookupError(f"no result of '{task}': it was skipped")
        text = self._texts[task]
        return json.loads(text) if isinstance(text, str) else [json.loads(one) for one in text]

    def in_place(self, value: object) -> Any:
        """What a job returned, its results being there."""
        if isinstance(value, Result):
            return self._value(source_of(value))
        if isinstance(value, dict):
            items = cast("dict[object, object]", value).items()
            return {key: self.in_place(item) for key, item in items}
        if isinstance(value, list):
            return [self.in_place(item) for item in cast("list[object]", value)]
        if type(value) is tuple:
            return tuple(self.in_place(item) for item in cast("tuple[object, ...]", value))
        return value

    def _once(self, node: Node, element: str | None) -> str:
        return payload.invoke(node.function, Call.decode(node.call()), element, self)

    def _value(self, source: Source) -> Any:
        node = source.node
        found = self.of(node.name, node.width)
        hint = payload.hints_of(node.function).get("return")
        if hint is not None and not source.part:
            hint = hint if node.items is None else list[hint]
            found = values.convert(found, hint, f"what {node.name} returned")
        for key in source.part:
            found = found[key]
        return found


@overload
def task(function: Callable[P, R], /) -> TaskFunction[P, R]: ...
@overload
def task(
    **options: Unpack[TaskFields],
) -> Callable[[Callable[P, R]], TaskFunction[P, R]]: ...
def task(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a task of the jobs that call it. The fields are those of a task file."""
    if function is None:
        return functools.partial(TaskFunction, options=options)
    return TaskFunction(function, options)


@overload
def job(function: Callable[P, R], /) -> JobFunction[P, R]: ...
@overload
def job(**options: Unpack[JobFields]) -> Callable[[Callable[P, R]], JobFunction[P, R]]: ...
def job(function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
    """Make a function a job of the tasks that it calls."""
    if function is None:
        return functools.partial(JobFunction, options=options)
    return JobFunction(function, options)
