"""Frames that an agent should not send, made from those that it should: by structure, then by bytes."""

import random
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from styx.core.attempt import AttemptState, Exit
from styx.core.ids import AttemptKey, TaskId
from styx.core.task import Reason
from styx.kit import uuid7
from styx.wire import agent as wire
from tests.support import peer

VALUES: Final[Sequence[Any]] = (
    None, True, 0, 1, -1, 2**31, 2**62, 2**63 - 1, -(2**63), 1e308, -0.0, float("nan"), float("inf"),
    "", "\0", "x" * 70_000, "\u202e", b"", b"\xff" * 9, [], {}, [[[]]], {"t": "hello"},
)  # fmt: skip
TAGS: Final = ("", "assign", "welcome", "x" * 5_000, "hellO", "bye\0", "é")
BROKEN: Final = (
    b"", b"\xc1", b"\x91" * 100_000, b"\xdd\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff",
    b"\x91\x81\xa1t\xa2\xff\xfe", b"[]", b'[{"t":"hb"}]', b"\x90" * 50_000, b"\xdc\xff\xff" + b"\x80" * 65_535,
    b"\x91\x81\xa1t\xdb\x7f\xff\xff\xff", b"\x91" * 60 + b"\xc0",
)  # fmt: skip
HARM: Final = 0.02  # of frames that must end their session: each costs a connection


def message(rng: random.Random, foreign: Sequence[AttemptKey]) -> wire.FromAgent:
    """A well-formed one, about an attempt that is somebody else's, or nobody's."""
    key = rng.choice(
        [
            rng.choice(foreign),
            rng.choice(foreign)._replace(n=rng.choice([0, 2, 1 << 30])),
            AttemptKey(TaskId(uuid7.new()), 1, 0),
        ]
    )
    data = rng.randbytes(rng.choice([0, 1, 100, 4_000]))
    size = rng.choice([0, 1, 4_096, 1 << 40])
    return rng.choice(
        [
            wire.Heartbeat(rng.choice([0, 1, 1, -5, 1 << 61])),
            wire.EvAccepted(key),
            wire.EvStarted(key),
            wire.EvExited(key, Exit(code=rng.choice([0, 1, 255]), out_bytes=size)),
            wire.EvVoid(key, Reason.SPAWN_ERROR, "no"),
            peer.a_log(key, data, offset=size, stream=rng.choice([1, 2])),
            wire.Gap(key, rng.choice([1, 2]), 0, size, "spool_cap"),
            wire.Notice("disk_low", "full"),
        ]
    )


def hello(rng: random.Random, agent_id: str) -> wire.Hello:
    """Of one that nothing fits on."""
    made = peer.hello(agent_id, store_id=f"store-{agent_id}", cpus=0.001)  # pyright: ignore[reportArgumentType]: an id
    return msgspec.structs.replace(made, last_term=rng.choice([0, 1]))


def held(rng: random.Random, foreign: Sequence[AttemptKey]) -> wire.Sync:
    """It claims to hold what is not its own."""
    states = rng.choices([AttemptState.RUNNING, AttemptState.ACCEPTED], k=2)
    keys = rng.sample([*foreign, AttemptKey(TaskId(uuid7.new()), 1, 0)], 2)
    return wire.Sync(0, last=True, attempts=tuple(map(wire.Held, keys, states)))


def frame(rng: random.Random, messages: Sequence[wire.FromAgent]) -> tuple[bytes, bool]:
    """The frame, and whether something was done to it."""
    if rng.random() > HARM:
        return wire.encode([*messages]), False
    broken: list[Any] = [msgspec.to_builtins(m, builtin_types=(bytes,)) for m in messages]
    match rng.randrange(5):
        case 0:
            return rng.choice(BROKEN), True
        case 1:
            return _bytes(rng, wire.encode([*messages])), True
        case 2:
            broken[0]["t"] = rng.choice(TAGS)
        case 3:
            del broken[0][rng.choice([*broken[0]])]
        case _:
            _value(rng, broken[0])
    return msgspec.msgpack.encode(broken), True


def _bytes(rng: random.Random, whole: bytes) -> bytes:
    match rng.randrange(4):
        case 0:
            return whole[: rng.randrange(len(whole))]
        case 1:
            return whole + rng.randbytes(3)
        case 2:
            return whole * 2
        case _:
            place = rng.randrange(len(whole))
            return whole[:place] + rng.randbytes(1) + whole[place + 1 :]


def _value(rng: random.Random, inside: Any) -> None:
    """Put something else in the place of one value, at any depth."""
    places = [*inside] if isinstance(inside, dict) else [*range(len(inside))]
    if not places:
        return
    place = rng.choice(places)
    if isinstance(inside[place], dict | list) and rng.random() < 0.7:
        _value(rng, inside[place])
    elif isinstance(inside, dict | list):
        inside[place] = rng.choice(VALUES)
