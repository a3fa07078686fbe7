"""A process that does one kind of thing for the link: what is asked is a line on its standard input, each outcome one
on its standard output.

However long it takes, nothing else of the agent waits for it. It ends when its standard input does, which is when
the agent wants it no more, or has died.
"""

import os
import sys
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Never, TypeVar

import msgspec

from styx.agent.errand import Outcome

Q = TypeVar("Q", bound=msgspec.Struct)


def serve(asked: type[Q], work: Callable[[Q], Outcome]) -> Never:
    lines: SimpleQueue[bytes] = SimpleQueue()
    threading.Thread(target=_read, args=(lines,), daemon=True).start()
    while True:
        outcome = work(msgspec.json.decode(lines.get(), type=asked))
        sys.stdout.buffer.write(msgspec.json.encode(outcome) + b"\n")
        sys.stdout.buffer.flush()


def _read(lines: "SimpleQueue[bytes]") -> Never:
    while line := sys.stdin.buffer.readline():
        lines.put(line)
    os._exit(0)  # in the midst of its work, too
