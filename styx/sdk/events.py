"""What long answers are made of: server-sent events, and a task's output in them."""

import base64

import msgspec


class Written(msgspec.Struct, frozen=True):
    """What a task wrote to `stream` (`out` or `err`) at `offset`; or, with `why`, bytes lost for good."""

    attempt: int
    rank: int
    stream: str
    offset: int
    text: str = ""
    base64: str = ""
    lost: int = msgspec.field(name="bytes", default=0)
    why: str = ""

    @property
    def data(self) -> bytes:
        return base64.b64decode(self.base64) if self.base64 else self.text.encode()


class Event(msgspec.Struct, frozen=True):
    id: str
    kind: str
    data: bytes


def parsed(block: bytes) -> Event | None:
    """None for what is no event: a comment, a word about retries."""
    fields = {"id": b"", "event": b"", "data": b""}
    for line in block.split(b"\n"):
        name, _, value = line.partition(b":")
        if (key := name.decode()) in fields:
            fields[key] = value.removeprefix(b" ")
    if not fields["data"]:
        return None
    return Event(fields["id"].decode(), fields["event"].decode(), fields["data"])
