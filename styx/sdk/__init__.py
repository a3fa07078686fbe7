"""The client for scripts and notebooks: `from styx.sdk import Styx`, or `from styx import Styx`."""

from styx.sdk.client import Styx
from styx.sdk.failures import ServerFailed, TaskFailed, Unreachable
from styx.sdk.streams import Written

__all__ = ["ServerFailed", "Styx", "TaskFailed", "Unreachable", "Written"]
