"""A process that does one thing for the link: what is asked is a line on its standard input, its outcome one on
its standard output.

However long it takes, nothing else of the agent waits for it. It ends when its standard input does, which is when
the agent wants it no more, or has died.
"""

import os
import sys
import threading
from collections.abc import Callable
from typing import TypeVar

import msgspec

from styx.agent.errand import Outcome

Q = TypeVar("Q", bound=msgspec.Struct)


def serve(asked: type[Q], work: Callable[[Q], Outcome]) -> None:
    request = msgspec.json.decode(sys.stdin.buffer.readline(), type=asked)
    threading.Thread(target=_leave_with_stdin, daemon=True).start()
    sys.stdout.buffer.write(msgspec.json.encode(work(request)) + b"\n")
    sys.stdout.buffer.flush()
    # Not by `sys.exit`: the thread holds standard input's lock.
    os._exit(0)


def _leave_with_stdin() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
