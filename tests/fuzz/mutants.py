"""Frames of the agent protocol as no honest agent sends them, drawn from the types of `styx.wire.agent`.

`tame` ones are well-formed and mean nothing good: attempts of others, tries that never were, bytes at wrong
places, the same thing twice. An open session has to bear them. `wild` ones are broken somewhere: a value of
another kind, a huge or negative number, a field gone, deep nesting, bytes cut, flipped or doubled.
"""

import random
import zlib
from typing import Any, Final

import msgspec

from styx.core.agent import Capacity, Gpu
from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AgentId, AttemptKey, TaskId
from styx.core.task import Reason
from styx.wire import agent as wire

NUMBERS: Final = (
    *(0, 1, -1, 2, 255, 1 << 15, 1 << 16, (1 << 31) - 1, 1 << 31, -(1 << 31)),
    *((1 << 53) + 1, (1 << 62) - 1, 1 << 62, (1 << 63) - 1, -(1 << 63), (1 << 64) - 1),
)
TEXTS: Final = (
    "",
    "\0",
    "x" * 5_000,
    "é" * 70_000,
    "\ud7ff\uffff",
    "../../etc/passwd",
    "'; --",
    "a\nb",
)
ODD: Final[tuple[Any, ...]] = (
    *(None, True, [], {}, b"", b"\xff" * 300, float("nan"), float("inf"), -0.0, 1e308),
    *([[[[]]]], {"t": "hello"}, {1: 2}, msgspec.msgpack.Ext(5, b"12345"), [0] * 5_000),
)
# As bytes, since no encoder writes them.
RAW: Final = (
    b"\xdd\xff\xff\xff\xff",  # a list of four billion
    b"\xdf\xff\xff\xff\xff",  # a map of as many
    b"\xdb\xff\xff\xff\xffab",  # text of four GiB
    b"\xc6\xff\xff\xff\xffab",
    b"\x91\xa4\xff\xfe\xfd\xfc",  # text that is not UTF-8
    b"\x91\x81\xa1t\xa5\xff\xff\xff\xff\xff",
    b"\xc1",  # never used by msgpack
    b"\x91" * 900,
    b"\x91" * 200_000,
    b"\x81\xa1t" * 50_000,
    b"",
    b"\x90",
    b"\x91\xc0",
    b"\xc0",
    b"\x91\xc7\x0c\xff" + b"\xff" * 12,  # a time beyond time
    b"\x91\x82\xa1t\xa2hb\xa1t\xa5hello",  # two tags
)


class Mutants:
    """`others` are attempts of honest agents; `own` those that were assigned to us, by whoever knows."""

    def __init__(self, dice: random.Random, others: list[AttemptKey]) -> None:
        self.dice = dice
        self.own: list[AttemptKey] = []
        self._others = others

    def tame(self) -> bytes:
        return wire.encode([self._message() for _ in range(self.dice.choice((1, 1, 2, 5)))])

    def wild(self) -> bytes:
        dice = self.dice
        match dice.randrange(8):
            case 0:
                return dice.choice(RAW)
            case 1:
                return dice.randbytes(dice.randrange(200))
            case 2:
                return _flipped(dice, self._any_frame())
            case 3:
                frame = self._any_frame()
                return frame[: dice.randrange(len(frame))]
            case 4:
                return self._any_frame() + self.tame()
            case 5 if dice.random() < 0.01:
                return wire.encode([wire.Notice("x")]) + b"\0" * wire.MAX_FRAME_BYTES
            case _:
                return self._bent()

    def hello(self, agent_id: str, store_id: str, **more: Any) -> wire.Hello:
        given: dict[str, Any] = {
            "proto": (wire.PROTO, wire.PROTO),
            "agent_id": AgentId(agent_id),
            "name": f"rogue-{agent_id[-2:]}",
            "store_id": store_id,
            "boot_id": "boot",
            "incarnation": "1",
            "version": "0",
            "capacity": Capacity(cpus_milli=8_000, memory_bytes=8 << 30),
            "labels": {"rogue": "yes"},
        }
        return wire.Hello(**(given | more))

    def strange_hello(self, agent_id: str, store_id: str) -> wire.Hello:
        """Each field within its type, and no agent's."""
        dice = self.dice
        capacity = Capacity(
            cpus_milli=dice.choice((0, 1, (1 << 31) - 1)),
            memory_bytes=dice.choice((0, (1 << 62) - 1)),
            disk_bytes=dice.choice((0, (1 << 62) - 1)),
            gpus=(Gpu(dice.choice(TEXTS), (1 << 62) - 1),) * dice.choice((0, 1, 64)),
            arch=dice.choice(TEXTS),
        )
        return self.hello(
            agent_id,
            store_id,
            name=dice.choice(("", "honest", "a\nb", "x" * 4_096, "é")),
            capacity=capacity,
            labels={dice.choice(("", "rogue", "x" * 4_096)): dice.choice(("", "x" * 4_096))},
            proto=(dice.choice((-(1 << 63), 0, 1)), dice.choice((1, 2, (1 << 63) - 1))),
            # One later than ours is believed, and ends our term: a database restored from a backup (T-20).
            last_term=dice.choice((0, 1, -1, -(1 << 63), (1 << 63) - 1)),
            db_generation=dice.choice(NUMBERS[:13]),
        )

    def held(self, count: int) -> tuple[wire.Held, ...]:
        dice = self.dice
        states = tuple(AttemptState)
        return tuple(
            wire.Held(
                self._key(),
                dice.choice(states),
                dice.choice((None, self._exit())),
                (self._size(),) * 2,
            )
            for _ in range(count)
        )

    def _message(self) -> Any:
        dice = self.dice
        key = self._key()
        match dice.randrange(14):
            case 0 | 1:
                load = wire.Load(cpu_percent=1e17, tasks={dice.choice(TEXTS): (self._size(), 0)})
                return wire.Heartbeat(dice.choice(NUMBERS[:12]), running=7, load=load)
            case 2 | 3:
                return wire.EvAccepted(key)
            case 4 | 5:
                return wire.EvStarted(key)
            case 6 | 7:
                return wire.EvExited(key, self._exit())
            case 8:
                return wire.EvVoid(key, dice.choice(tuple(Reason)), dice.choice(TEXTS[:3]))
            case 9:
                start, end = sorted((self._size(), self._size()))
                return wire.Gap(key, dice.choice((1, 2)), start, end, "spool_cap")
            case 10 if dice.random() < 0.02:
                return wire.Notice("x", "a\nb", dice.choice((0.0, 1e8)))
            case _:
                data = dice.randbytes(dice.choice((0, 1, 50, 900)))
                return wire.Log(key, dice.choice((1, 2)), self._size(), data, zlib.crc32(data))

    def _any_frame(self) -> bytes:
        if self.dice.random() < 0.2:
            return wire.encode([self.hello("0b000000-0000-7000-8000-000000000001", "s")])
        if self.dice.random() < 0.2:
            return wire.encode([wire.Sync(0, last=True, attempts=self.held(3))])
        return self.tame()

    def _bent(self) -> bytes:
        """A sound frame with one of its values changed for something else."""
        tree = msgspec.msgpack.decode(self._any_frame())
        places = list(_places(tree))
        for _ in range(self.dice.choice((1, 1, 3))):
            parent, at = self.dice.choice(places)
            match self.dice.randrange(4):
                case 0 if isinstance(parent, dict):
                    parent.pop(at, None)
                case 1 if isinstance(parent, dict):
                    parent[self.dice.choice(("more", "t", "key", "é"))] = self._value()
                case _ if isinstance(parent, dict) or at < len(parent):
                    parent[at] = self._value()
                case _:
                    pass
        return msgspec.msgpack.encode(tree)

    def _value(self) -> Any:
        pool: tuple[Any, ...] = self.dice.choice((NUMBERS, TEXTS, ODD))
        return self.dice.choice(pool)

    def _key(self) -> AttemptKey:
        dice = self.dice
        known = self.own if self.own and dice.random() < 0.4 else self._others
        task_id, n, rank = dice.choice(known)
        match dice.randrange(8):
            case 0:
                return AttemptKey(task_id, n, dice.choice((1, (1 << 31) - 1)))
            case 1:
                return AttemptKey(task_id, dice.choice((n + 1, (1 << 31) - 1)), rank)
            case 2:
                return AttemptKey(TaskId(f"{dice.getrandbits(32):08x}{task_id[8:]}"), n, rank)
            case _:
                return AttemptKey(task_id, n, rank)

    def _size(self) -> int:
        return self.dice.choice((0, 0, 1, 50, 900, 1 << 31, 1 << 61))

    def _exit(self) -> Exit:
        dice = self.dice
        return Exit(
            code=dice.choice((0, 1, 255)),
            reason=dice.choice(tuple(Reason)),
            detail=dice.choice(TEXTS if dice.random() < 0.01 else ("", "\0", "é\n")),
            ran_ms=dice.choice((0, 1, 1_000)),
            max_rss_bytes=self._size(),
            out_bytes=self._size(),
        )


def _places(tree: Any) -> Any:
    inner = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for at, value in list(inner):
        yield tree, at
        if isinstance(value, dict | list):
            yield from _places(value)


def _flipped(dice: random.Random, frame: bytes) -> bytes:
    bent = bytearray(frame)
    for _ in range(dice.choice((1, 1, 4))):
        bent[dice.randrange(len(bent))] ^= 1 << dice.randrange(8)
    return bytes(bent)
