"""The agent protocol, WebSocket `/api/agent/v1`, subprotocol `styx.agent.1`.

A frame is a binary message holding a msgpack array of one or more tagged messages: under load a
frame costs more than what is in it. Unknown fields are ignored, and so are messages of an unknown tag,
which a newer peer may send: the server answers each with `Err`. Every message is idempotent under its
key, so both sides may send again at any time.

Three priorities per session, in strict order: control (everything else), `assign`, `log`.
"""

from collections.abc import Iterable
from types import GenericAlias
from typing import Annotated, Any, Final, TypeVar, get_args

import msgspec
from msgspec import Meta

from styx.core.agent import Capacity
from styx.core.attempt import AttemptState, Exit, StopReason
from styx.core.ids import COUNT, SIZE, UUID, AgentId, AttemptKey, JobId
from styx.core.spec import TaskSpec
from styx.core.task import Reason
from styx.errors import WireMismatch

PATH: Final = "/api/agent/v1"
SUBPROTOCOL: Final = "styx.agent.1"
PROTO: Final = 1  # counted up by what an older peer could not ignore
OLDEST_PROTO: Final = max(1, PROTO - 2)  # spoken too: this one and the two before (P-2)
MAX_FRAME_BYTES: Final = 1 << 20
MAX_LOG_BYTES: Final = 64 << 10  # one `Log`
SYNC_PAGE: Final = 500  # attempts in one `Sync`
LOG_CREDIT_BYTES: Final = 4 << 20  # unacknowledged log bytes that a session may have under way
HEARTBEAT_S: Final = 5.0  # three missed make a suspect; of many agents each beats less often
PREEMPT: Final = "preempt"  # of `Notice`
FAULT_CHARACTERS: Final = 500  # a value that is wrong is quoted, and may be as long as the frame
UNKNOWN_MAX: Final = 10  # messages of unknown tags that one session may send

Text = Annotated[str, Meta(max_length=4_096, pattern=r"\A[^\x00]*\Z")]  # fits a text column
Words = Annotated[str, Meta(max_length=65_536)]  # for people; kept within JSON
Number = Annotated[int, Meta(ge=-(1 << 62), lt=1 << 62)]
Size = Annotated[int, SIZE]
Reading = Annotated[float, Meta(ge=0, lt=1e18)]

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
    agent_id: Annotated[AgentId, UUID]
    name: Text
    store_id: Text  # 128 random bits made with the state directory: tells a wiped or cloned disk
    boot_id: Text
    incarnation: Text  # of this process
    version: Text
    capacity: Capacity
    labels: Annotated[dict[Text, Text], Meta(max_length=256)] = {}
    address: Text = ""  # the local address of the connection
    last_term: int = 0
    db_generation: int = 0  # the last told by a `Welcome` whose `SyncOk` named nothing foreign


class Held(msgspec.Struct, frozen=True, omit_defaults=True):
    """One attempt in a `Sync`: `state` is accepted, running, rejected (void) or an end with `exit`.

    `produced` are the bytes of (stdout, stderr) spooled so far.
    """

    key: AttemptKey
    state: AttemptState
    exit: Exit | None = None
    produced: tuple[Size, Size] = (0, 0)


class Sync(Message, tag="sync", frozen=True):
    """Everything the agent holds, in pages of `SYNC_PAGE`; answered by `SyncOk` after the last."""

    page: int
    last: bool
    attempts: tuple[Held, ...] = ()


class Load(msgspec.Struct, frozen=True, omit_defaults=True):
    """Live readings. Rates are per second, averaged since the last heartbeat."""

    cpu_percent: Reading = 0.0  # of all the machine's cores together
    load1: Reading = 0.0
    memory_used_bytes: Size = 0
    memory_total_bytes: Size = 0
    disk_free_bytes: Size = 0
    net_rx_bytes_per_s: Reading = 0.0
    net_tx_bytes_per_s: Reading = 0.0
    disk_read_bytes_per_s: Reading = 0.0
    disk_write_bytes_per_s: Reading = 0.0
    gpu_percent: tuple[Reading, ...] = ()
    tasks: dict[str, tuple[Size, Size]] = {}  # running attempt -> (cpu_ms, rss_bytes)


class Heartbeat(Message, tag="hb", frozen=True):
    seq: Number
    running: Annotated[int, COUNT] = 0
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
    detail: Words = ""


class Log(Message, tag="log", frozen=True):
    key: AttemptKey
    stream: int  # 1 stdout, 2 stderr
    offset: Size
    data: bytes
    crc: int  # zlib.crc32 of data: msgpack and TCP check nothing end to end


class Gap(Message, tag="gap", frozen=True):
    """Bytes `start` to `end` of the stream are gone for good."""

    key: AttemptKey
    stream: int
    start: Size
    end: Size
    why: Text  # spool_cap, disk_full, limit


class Notice(Message, tag="notice", frozen=True):
    """What its operator should know. `preempt`: the machine is taken away in `deadline_s` seconds."""

    kind: Text  # disk_low, oom_pressure, preempt
    detail: Text = ""
    deadline_s: Annotated[float, Meta(ge=0, lt=1e9)] = 0.0


# --- server to agent ------------------------------------------------------------------------------


class Welcome(Message, tag="welcome", frozen=True):
    proto: int
    session: int
    term: int
    heartbeat_s: float
    lost_after_s: float
    log_credit_bytes: int
    db_generation: int = 0


class SyncOk(Message, tag="sync_ok", frozen=True):
    """`offsets`: (attempt, stream, next offset wanted) for each held stream with bytes stored here.

    `foreign` are of another history of this database, which was restored from a backup: let them run.
    """

    forget: tuple[AttemptKey, ...] = ()
    stop: tuple[AttemptKey, ...] = ()
    offsets: tuple[tuple[AttemptKey, int, int], ...] = ()
    adopted: int = 0
    foreign: tuple[AttemptKey, ...] = ()


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
    secrets: dict[str, str] = {}  # variable → value: for the child's environment, and nowhere else
    secret_missing: str = ""  # why it cannot have them all: it ends with this instead of running

    def __repr__(self) -> str:
        return f"Assign({self.key})"


class Redact(Message, tag="redact", frozen=True):
    """Mask these values in what is sent of these attempts. Comes before `SyncOk`, after which it is sent."""

    keys: tuple[AttemptKey, ...]
    values: tuple[str, ...]

    def __repr__(self) -> str:
        return f"Redact({len(self.keys)} attempts)"


class Stop(Message, tag="stop", frozen=True):
    """Signal the process group, then kill everything after `grace_s`. An unknown key is tombstoned
    and answered with `void`.
    """

    key: AttemptKey
    term: int
    reason: StopReason
    grace_s: float


class HeartbeatOk(Message, tag="hb_ok", frozen=True):
    """A lease: sent only while leading. The next heartbeat is due after `every` periods."""

    seq: int
    every: Annotated[int, Meta(ge=1, le=100)] = 1


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
    reason: Words = ""
    retry_after_s: Annotated[float, Meta(ge=0, lt=1e9)] = 0.0


class Err(Message, tag="err", frozen=True):
    """A message was not understood, and nothing was done about it."""

    what: str


class Unknown(msgspec.Struct, frozen=True):
    """In place of a message whose tag this version does not know."""

    tag: str


FromAgent = (
    Hello | Sync | Heartbeat | EvAccepted | EvStarted | EvExited | EvVoid | Log | Gap | Notice | Bye
)
FromServer = (
    Welcome
    | SyncOk
    | Assign
    | Redact
    | Stop
    | HeartbeatOk
    | EvOk
    | LogOk
    | Forget
    | Pause
    | Resume
    | Err
    | Bye
)

M = TypeVar("M")
_encoder: Final = msgspec.msgpack.Encoder()
_raw: Final = msgspec.msgpack.Decoder(list[msgspec.Raw])


class _Tagged(msgspec.Struct, frozen=True):
    t: str


_tagged: Final = msgspec.msgpack.Decoder(_Tagged)


class _Codec:
    """Reads the frames of one direction."""

    def __init__(self, messages: Any) -> None:
        many: Any = GenericAlias(list, messages)
        self.frame: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(many)
        self.message = msgspec.msgpack.Decoder(messages)
        self.tags = {message.__struct_config__.tag for message in get_args(messages)}

    def one(self, raw: msgspec.Raw) -> Any:
        """Raises: msgspec.DecodeError, for a message of a known tag that is not well-formed."""
        tag = _tagged.decode(raw).t
        return self.message.decode(raw) if tag in self.tags else Unknown(tag[:64])


_from_agent: Final = _Codec(FromAgent)
_from_server: Final = _Codec(FromServer)


def encode(messages: list[FromAgent] | list[FromServer]) -> bytes:
    """One frame."""
    return _encoder.encode(messages)


def decode_from_agent(frame: bytes) -> list[FromAgent | Unknown]:
    """Raises: WireMismatch, for anything that is not a frame of messages."""
    return _decode(_from_agent, frame)


def decode_from_server(frame: bytes) -> list[FromServer]:
    """Without those of unknown tags. Raises: WireMismatch, for anything that is not a frame of messages."""
    messages = _decode(_from_server, frame)
    return [message for message in messages if not isinstance(message, Unknown)]


def common_proto(lowest: int, highest: int) -> int | None:
    """The highest protocol that a peer of this window and this version both speak."""
    common = min(PROTO, highest)
    return common if common >= max(OLDEST_PROTO, lowest) else None


def _decode(codec: _Codec, frame: bytes) -> list[Any]:
    if len(frame) > MAX_FRAME_BYTES:
        raise WireMismatch(f"a frame of {len(frame)} bytes; {MAX_FRAME_BYTES} are allowed")
    try:
        try:
            return codec.frame.decode(frame)
        except msgspec.ValidationError:
            # Once in a session at most does a peer of this version come here.
            return list(_each(codec, _raw.decode(frame)))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        said = str(error)[:FAULT_CHARACTERS]
        raise WireMismatch(f"not a frame of the agent protocol: {said}") from error


def _each(codec: _Codec, raws: Iterable[msgspec.Raw]) -> Iterable[Any]:
    unknown = 0
    for raw in raws:
        message = codec.one(raw)
        unknown += isinstance(message, Unknown)
        if unknown > UNKNOWN_MAX:
            raise WireMismatch("a frame of unknown messages")
        yield message
