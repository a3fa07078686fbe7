# pyright: reportPrivateUsage=false
"""Virtual time: many simulated operating-system processes, one heap of what happens next.

Each `Process` has an event loop of its own, on a clock of its own; all are driven by one `Simulation`
in the order of (time, number), so a seed decides everything. What runs on the loops is ordinary
asyncio code and does not know.
"""

import asyncio
import contextvars
import gc
import hashlib
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

EPOCH: Final = datetime(2026, 1, 1, tzinfo=UTC)  # of the simulated wall clock
LEAST_S: Final = 1e-9  # a timer in the future makes time pass, whatever floats round to
TASKS_KEPT: Final = 256  # done ones are dropped each time that this has doubled
READY, DATA, TIMER = range(3)  # the order in which a thawed process takes up what waited
# Looked up once: every step needs them.
_push, _copy_context = heapq.heappush, contextvars.copy_context


class Violation(AssertionError):
    """An invariant did not hold. `rule` is its name: I-1, L-1, crash."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Handle(asyncio.TimerHandle):
    """A callback of one process (or of none), at a moment of virtual time."""

    __slots__ = ("_process", "kind")

    def __init__(
        self,
        process: "Process | None",
        kind: int,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> None:
        self._process = process
        self.kind = kind
        self._when = when  # on the process's own clock
        self._callback = callback
        self._args = args
        self._context = _copy_context() if context is None else context
        self._cancelled = False

    @property
    def process(self) -> "Process | None":
        return self._process

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when

    def __repr__(self) -> str:
        return f"<{self._callback} at {self._when}>"


class Simulation:
    """One seed's world: its dice, its time, and what is still to come."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)
        self.steps = 0
        self.processes: list[Process] = []
        self.history: list[str] | None = None  # kept when asked for
        self.over = False
        self.violation: Violation | None = None  # the first; it ends the run
        self._now = 0.0
        self._number = 0
        self._ready: deque[Handle] = deque()
        self._heap: list[tuple[float, int, Handle]] = []
        self._digest = hashlib.blake2b(digest_size=8)

    def now(self) -> float:
        return self._now

    def wall(self) -> datetime:
        """The true time of day, which no process knows."""
        return EPOCH + timedelta(seconds=self._now)

    def at(self, when: float, fn: Callable[..., object], *args: object) -> Handle:
        """Call `fn` at a moment, on behalf of nobody: a fault, a wire, the hardware."""
        return self.schedule(Handle(None, TIMER, when, fn, args, None), when)

    def after(self, delay_s: float, fn: Callable[..., object], *args: object) -> Handle:
        return self.at(self._now + delay_s, fn, *args)

    def schedule(self, handle: Handle, when: float) -> Handle:
        if when <= self._now:
            self._ready.append(handle)
        else:
            self._number = number = self._number + 1
            _push(self._heap, (when, number, handle))
        return handle

    def run(self, until: float | Callable[[], bool]) -> None:
        """Until a moment, or until a predicate holds (asked each time that time moves).

        Raises: Violation.
        """
        done = until if callable(until) else None
        end_s = float("inf") if callable(until) else until
        with _quiet(self):
            self._run(end_s, done)

    def _run(self, end_s: float, done: Callable[[], bool] | None) -> None:
        ready, heap, pop = self._ready, self._heap, heapq.heappop
        enter = asyncio._set_running_loop
        inside: Process | None = None
        try:
            while True:
                while ready:
                    handle = ready.popleft()
                    if handle._cancelled:
                        continue
                    process = handle._process
                    if process is not None:
                        if not process.alive:
                            continue
                        if process.frozen is not None:
                            process.frozen.append(handle)
                            continue
                    if process is not inside:
                        inside = process
                        enter(None if process is None else process.loop)
                    self.steps += 1
                    handle._context.run(handle._callback, *handle._args)
                    if self.violation is not None:
                        raise self.violation
                if done is not None and done():
                    return
                while heap and heap[0][2]._cancelled:
                    pop(heap)
                if not heap or heap[0][0] > end_s:
                    if end_s != float("inf"):
                        self._now = max(self._now, end_s)
                    return
                self._now = now = heap[0][0]
                while heap and heap[0][0] <= now:
                    ready.append(pop(heap)[2])
        finally:
            enter(None)

    def note(self, *what: object) -> None:
        """Take it into the history, whose hash tells whether two runs were the same."""
        line = f"{self._now:.6f} {' '.join(map(str, what))}"
        self._digest.update(line.encode())
        if self.history is not None:
            self.history.append(line)

    def digest(self) -> str:
        return f"{self._digest.hexdigest()}.{self.steps}"

    def fail(self, rule: str, text: str) -> None:
        """Report a broken invariant. It is raised out of `run`, not here, where somebody may catch it."""
        if not self.over:
            self.violation = self.violation or Violation(rule, text)

    def end(self) -> None:
        """Nothing of this world runs any more, so that it can be taken apart."""
        self.over = True
        for process in self.processes:
            process.alive = False


class _quiet:  # noqa: N801 -- a context manager, used as a word
    """No garbage collection: it would run `finally` blocks of what was killed, at a moment of its own."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation

    def __enter__(self) -> None:
        self._enabled = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._enabled:
            gc.enable()


class Process:
    """One operating-system process. Its clocks are its machine's: share `Clock` where they are one."""

    def __init__(self, simulation: Simulation, name: str, clock: "Clock | None" = None) -> None:
        self.simulation = simulation
        self.name = name
        self.clock = clock or Clock(simulation)
        self.loop = Loop(self)
        self.alive = True
        self.frozen: list[Handle] | None = None  # what waits for the thaw
        self.on_exit: Callable[[Process, BaseException | None], None] = _unexpected
        self._thaw: Handle | None = None
        simulation.processes.append(self)

    def start(
        self, fn: Callable[..., Coroutine[Any, Any, Any]], *args: object
    ) -> "asyncio.Task[Any]":
        """Run a coroutine function as (one of) its main task(s). Its failure is told to `on_exit`."""
        task = self.loop.create_task(fn(*args), name=f"{self.name}:{fn.__name__}")
        task.add_done_callback(self._ended)
        return task

    def post(self, when: float, fn: Callable[..., object], *args: object) -> Handle:
        """Data arrives at the process: unlike a timer, it is seen first after a thaw."""
        handle = Handle(self, DATA, when, fn, args, None)
        return self.simulation.schedule(handle, when)

    def kill(self) -> None:
        """As `kill -9`: its tasks stay referenced, so that no `finally` ever runs."""
        self.alive = False
        self.frozen = None

    def pause(self, seconds: float) -> None:
        """SIGSTOP now, SIGCONT after so long (or after the longer of two pauses)."""
        if not self.alive:
            return
        until = self.simulation.now() + seconds
        if self.frozen is None:
            self.frozen = []
        elif self._thaw is not None:
            if self._thaw.when() >= until:
                return
            self._thaw.cancel()
        self._thaw = self.simulation.at(until, self.resume)

    def resume(self) -> None:
        """SIGCONT."""
        if self._thaw is not None:
            self._thaw.cancel()
        waiting, self.frozen, self._thaw = self.frozen, None, None
        for handle in sorted(waiting or (), key=lambda handle: handle.kind):
            self.simulation.schedule(handle, self.simulation.now())

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        if self.alive and not task.cancelled():
            self.on_exit(self, task.exception())


def running_process() -> Process:
    """Whose code runs now."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    return loop.process


def _unexpected(process: Process, error: BaseException | None) -> None:
    if error is not None:
        process.simulation.fail("crash", f"{process.name}: {error!r}")


class Clock:
    """A machine's idea of time: a rate a little off, and a wall clock that may be anywhere and jump."""

    def __init__(self, simulation: Simulation, rate: float = 1.0, offset_s: float = 0.0) -> None:
        self._simulation = simulation
        self.rate = rate
        self.offset_s = offset_s

    def monotonic(self) -> float:
        return self.rate * self._simulation._now

    def wall(self) -> datetime:
        return EPOCH + timedelta(seconds=self.rate * self._simulation._now + self.offset_s)

    def jump(self, seconds: float) -> None:
        self.offset_s += seconds


class _Task(asyncio.Task[Any]):
    """Numbered, as a TaskGroup keeps its tasks in a set: their order must not hang on addresses."""

    _number = 0

    def __hash__(self) -> int:
        return self._number


class Loop(asyncio.AbstractEventLoop):
    def __init__(self, process: Process) -> None:
        self.process = self._process = process
        self._simulation = process.simulation
        self._tasks: list[asyncio.Task[Any]] = []
        self._pruned = TASKS_KEPT
        self._made = 0

    def time(self) -> float:
        return self._process.clock.rate * self._simulation._now

    def call_soon(
        self,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        handle = Handle(self._process, READY, 0.0, callback, args, context)
        self._simulation._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self._timer(self.time() + delay, callback, args, context)

    def call_at(
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self._timer(when, callback, args, context)

    def _timer(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context | None,
    ) -> Handle:
        simulation, process = self._simulation, self._process
        now, rate = simulation._now, process.clock.rate
        at = now if when <= rate * now else max(when / rate, now + LEAST_S)
        return simulation.schedule(Handle(process, TIMER, when, callback, args, context), at)

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **_: object,
    ) -> "asyncio.Task[Any]":
        self._made += 1
        _Task._number = self._made  # it is hashed before its constructor returns
        task = _Task(coro, loop=self, name=name or "task", context=context)  # type: ignore[arg-type]
        task._number = self._made
        _Task._number = 0
        self._tasks.append(task)
        if len(self._tasks) > self._pruned:
            self._tasks = [task for task in self._tasks if not task.done()]
            self._pruned = 2 * max(TASKS_KEPT, len(self._tasks))
        return task

    async def run_in_executor(  # type: ignore[override]
        self, executor: object, func: Callable[..., Any], *args: Any
    ) -> Any:
        """A thread's work, done at once: it costs no virtual time."""
        return func(*args)

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self._simulation.over or not self._process.alive:
            return
        error = context.get("exception")
        what = f"{context.get('message')} {error!r}"
        self._simulation.fail("crash", f"{self._process.name}: {what}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)
