"""The agent protocol, WebSocket `/api/agent/v1`, subprotocol `styx.agent.1`.

A frame is a binary message holding a msgpack array of one or more tagged messages: under load a
frame costs more than what is in it. Unknown fields are ignored; an unknown tag is a `WireMismatch`.
Every message is idempotent under its key, so both sides may send again at any time.

Three priorities per session, in strict order: control (everything else), `assign`, `log`.
"""

from typing import Final, TypeVar

import msgspec

from styx.core.agent import Capacity
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.ids import AgentId, AttemptKey, JobId
from styx.core.spec import TaskSpec
from styx.core.task import Reason
from styx.errors import WireMismatch

PATH: Final = "/api/agent/v1"
SUBPROTOCOL: Final = "styx.agent.1"
PROTO: Final = 1
MAX_FRAME_BYTES: Final = 1 << 20
MAX_LOG_BYTES: Final = 64 << 10  # one `Log`
SYNC_PAGE: Final = 500  # attempts in one `Sync`
LOG_CREDIT_BYTES: Final = 4 << 20  # unacknowledged log bytes that a session may have under way
HEARTBEAT_S: Final = 5.0  # three missed make a suspect

CLOSE_AUTH: Final = 4001
CLOSE_PROTOCOL: Final = 4002
CLOSE_SUPERSEDED: Final = 4003
CLOSE_NOT_LEADER: Final = 4004
CLOSE_OVERLOAD: Final = 4008
CLOSE_CLONED: Final = 4009
CLOSE_TOO_OLD: Final = 4010
CLOSE_RESTART: Final = 1012


class Message(msgspec.Struct, frozen=True, tag_field="t", omit_defaults=True):
    """Base of all that crosses the agent's socket."""


# --- agent to server ------------------------------------------------------------------------------


class Hello(Message, tag="hello", frozen=True):
    """First message of a connection; answered by `Welcome` or `Bye`."""

    proto: tuple[int, int]  # lowest and highest spoken
    agent_id: AgentId
    name: str
    store_id: str  # 128 random bits made with the state directory: tells a wiped or cloned disk
    boot_id: str
    incarnation: str  # of this process
    version: str
    capacity: Capacity
    labels: dict[str, str] = {}
    address: str = ""  # the local address of the connection
    last_term: int = 0


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt in a `Sync`: `state` is accepted, running, rejected (void) or an end with `exit`.

    `produced` are the bytes of (stdout, stderr) spooled so far.
    """

    key: AttemptKey
    state: AttemptState
    exit: Exit | None = None
    produced: tuple[int, int] = (0, 0)


class Sync(Message, tag="sync", frozen=True):
    """Everything the agent holds, in pages of `SYNC_PAGE`; answered by `SyncOk` after the last."""

    page: int
    last: bool
    attempts: tuple[Held, ...] = ()


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """Live readings. Rates are per second, averaged since the last heartbeat."""

    cpu_percent: float = 0.0  # of all the machine's cores together
    load1: float = 0.0
    memory_used_bytes: int = 0
    memory_total_bytes: int = 0
    disk_free_bytes: int = 0
    net_rx_bytes_per_s: float = 0.0
    net_tx_bytes_per_s: float = 0.0
    disk_read_bytes_per_s: float = 0.0
    disk_write_bytes_per_s: float = 0.0
    gpu_percent: tuple[float, ...] = ()
    tasks: dict[str, tuple[int, int]] = {}  # running attempt -> (cpu_ms, rss_bytes)


class Heartbeat(Message, tag="hb", frozen=True):
    seq: int
    running: int = 0
    load: Load = Load()


class EvAccepted(Message, tag="accepted", frozen=True):
    key: AttemptKey


class EvStarted(Message, tag="started", frozen=True):
    key: AttemptKey


class EvExited(Message, tag="exited", frozen=True):
    """Sent again until acknowledged, as are the other `Ev…`."""

    key: AttemptKey
    exit: Exit


class EvVoid(Message, tag="void", frozen=True):
    """Never started, and never will be."""

    key: AttemptKey
    reason: Reason
    detail: str = ""


class Log(Message, tag="log", frozen=True):
    key: AttemptKey
    stream: int  # 1 stdout, 2 stderr
    offset: int
    data: bytes
    crc: int  # zlib.crc32 of data: msgpack and TCP check nothing end to end


class Gap(Message, tag="gap", frozen=True):
    """Bytes `start` to `end` of the stream are gone for good."""

    key: AttemptKey
    stream: int
    start: int
    end: int
    why: str  # spool_cap, disk_full, limit


class Notice(Message, tag="notice", frozen=True):
    kind: str  # disk_low, oom_pressure, preempt
    detail: str = ""


# --- server to agent ------------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True):
    proto: int
    session: int
    term: int
    heartbeat_s: float
    lost_after_s: float
    log_credit_bytes: int


class SyncOk(Message, tag="sync_ok", frozen=True):
    """`offsets`: (attempt, stream, next offset wanted) for each held stream with bytes stored here."""

    forget: tuple[AttemptKey, ...] = ()
    stop: tuple[AttemptKey, ...] = ()
    offsets: tuple[tuple[AttemptKey, int, int], ...] = ()
    adopted: int = 0


class Assign(Message, tag="assign", frozen=True):
    """Run it, once: the key is deduplicated on the agent, a tombstoned key answers `void`."""

    key: AttemptKey
    term: int
    job_id: JobId
    name: str
    spec: TaskSpec
    array_index: int | None = None
    array_value: str | None = None
    node_ips: tuple[str, ...] = ()  # of the gang, by rank
    traceparent: str = ""


class Stop(Message, tag="stop", frozen=True):
    """Signal the process group, then kill everything after `grace_s`. An unknown key is tombstoned
    and answered with `void`.
    """

    key: AttemptKey
    term: int
    reason: StopReason
    grace_s: float


class HeartbeatOk(Message, tag="hb_ok", frozen=True):
    """A lease: sent only while leading."""

    seq: int


class EvOk(Message, tag="ev_ok", frozen=True):
    """The event of that kind (its tag) is committed, or was already."""

    key: AttemptKey
    kind: str


class LogOk(Message, tag="log_ok", frozen=True):
    """Bytes before `next` are durable; the agent may free them. They also return their credit."""

    key: AttemptKey
    stream: int
    next: int


class Forget(Message, tag="forget", frozen=True):
    key: AttemptKey


class Pause(Message, tag="pause", frozen=True):
    """The server cannot commit for now: keep running, expect no acknowledgement."""


class Resume(Message, tag="resume", frozen=True):
    pass


class Bye(Message, tag="bye", frozen=True):
    """Sent by either side before closing: hypercorn passes only codes 1000 and 1006 on."""

    code: int
    reason: str = ""
    retry_after_s: float = 0.0


FromAgent = (
    Hello | Sync | Heartbeat | EvAccepted | EvStarted | EvExited | EvVoid | Log | Gap | Notice | Bye
)
FromServer = (
    Welcome | SyncOk | Assign | Stop | HeartbeatOk | EvOk | LogOk | Forget | Pause | Resume | Bye
)

M = TypeVar("M")
_encoder: Final = msgspec.msgpack.Encoder()
_from_agent: Final = msgspec.msgpack.Decoder(list[FromAgent])
_from_server: Final = msgspec.msgpack.Decoder(list[FromServer])


def encode(messages: list[FromAgent] | list[FromServer]) -> bytes:
    """One frame."""
    return _encoder.encode(messages)


def decode_from_agent(frame: bytes) -> list[FromAgent]:
    """Raises: WireMismatch, for anything that is not a frame of known messages."""
    return _decode(_from_agent, frame)


def decode_from_server(frame: bytes) -> list[FromServer]:
    """Raises: WireMismatch, for anything that is not a frame of known messages."""
    return _decode(_from_server, frame)


def _decode(decoder: msgspec.msgpack.Decoder[list[M]], frame: bytes) -> list[M]:
    if len(frame) > MAX_FRAME_BYTES:
        raise WireMismatch(f"a frame of {len(frame)} bytes; {MAX_FRAME_BYTES} are allowed")
    try:
        return decoder.decode(frame)
    except (msgspec.DecodeError, RecursionError) as error:
        raise WireMismatch(f"not a frame of the agent protocol: {error}") from error
