"""The client for scripts and notebooks: `from styx import Styx, AsyncStyx, task, job`.

Each name brings its module when it is asked for: the CLI needs no asyncio, a task's function no client.
"""

import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from styx.sdk.aio.client import AsyncStyx as AsyncStyx
    from styx.sdk.aio.handles import AsyncJobHandle as AsyncJobHandle
    from styx.sdk.aio.handles import AsyncTaskHandle as AsyncTaskHandle
    from styx.sdk.client import Styx as Styx
    from styx.sdk.events import Written as Written
    from styx.sdk.failures import ServerFailed as ServerFailed
    from styx.sdk.failures import TaskFailed as TaskFailed
    from styx.sdk.failures import Unreachable as Unreachable
    from styx.sdk.flow import JobFunction as JobFunction
    from styx.sdk.flow import TaskFunction as TaskFunction
    from styx.sdk.flow import job as job
    from styx.sdk.flow import task as task
    from styx.sdk.handles import JobHandle as JobHandle
    from styx.sdk.handles import TaskHandle as TaskHandle

MODULES: Final = {
    "AsyncJobHandle": "aio.handles",
    "AsyncStyx": "aio.client",
    "AsyncTaskHandle": "aio.handles",
    "JobFunction": "flow",
    "JobHandle": "handles",
    "ServerFailed": "failures",
    "Styx": "client",
    "TaskFailed": "failures",
    "TaskFunction": "flow",
    "TaskHandle": "handles",
    "Unreachable": "failures",
    "Written": "events",
    "job": "flow",
    "task": "flow",
}


def __getattr__(name: str) -> object:
    if name in MODULES:
        return getattr(importlib.import_module(f"styx.sdk.{MODULES[name]}"), name)
    raise AttributeError(f"module 'styx.sdk' has no attribute {name!r}")
