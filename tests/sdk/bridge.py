"""The async client behind the face of the sync one, so that one test holds for both."""

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any, Self

from styx.sdk.aio.client import AsyncStyx
from styx.sdk.aio.handles import AsyncJobHandle, AsyncTaskHandle
from styx.sdk.aio.transport import AsyncStream, Transport

OURS = (AsyncStyx, AsyncTaskHandle, AsyncJobHandle, AsyncStream, Transport)


class Bridged:
    """Each call runs until it is done, on one loop of its own."""

    def __init__(self, inner: Any, runner: asyncio.Runner | None = None) -> None:
        self._inner = inner
        self._owns = runner is None
        self._runner = runner or asyncio.Runner()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._sync(found) if inspect.ismethod(found) else found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return repr(self._inner)

    def close(self) -> None:
        self._runner.run(self._inner.close())
        if self._owns:
            self._runner.close()

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = function(*args, **kwargs)
            if inspect.isasyncgen(result):
                return self._each(result)
            if inspect.iscoroutine(result):
                result = self._runner.run(result)
            return Bridged(result, self._runner) if isinstance(result, OURS) else result

        return call

    def _each(self, generator: Any) -> Iterator[Any]:
        async def following() -> Any:
            return await anext(generator)

        try:
            while True:
                yield self._runner.run(following())
        except StopAsyncIteration:
            return
        finally:
            self._runner.run(generator.aclose())


def styx(*args: Any, **options: Any) -> Any:
    return Bridged(AsyncStyx(*args, **options))


def transport(url: str, *, sleep: Callable[[float], None], **options: Any) -> Any:
    async def asleep(wait_s: float) -> None:
        sleep(wait_s)

    return Bridged(Transport(url, sleep=asleep, **options))
