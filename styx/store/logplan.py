"""What to write of the log bytes that arrived: pure, and decided before anything is written."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from styx.core.ids import AttemptKey
from styx.store.segments import Place

# Kept in the head row up to here. Measured: a row of this size costs less than a file's sync.
OPENING_BYTES: Final = 4 << 10
STREAMS: Final = (1, 2)  # stdout, stderr
LIMIT: Final = "limit"  # why bytes past an attempt's limit are not kept


class Item(NamedTuple):
    """Bytes of a stream, or, with `why`, the news that they are gone for good."""

    key: AttemptKey
    stream: int
    start: int
    end: int
    data: bytes = b""
    why: str = ""


class Tail(NamedTuple):
    """The last chunk of a stream, which grows if what follows lies next to it. No place is a gap."""

    start: int
    end: int
    place: Place | None  # of its next byte
    why: str

    def continued_by(self, run: "Run", place: Place | None) -> bool:
        return self.end == run.start and self.place == place and self.why == run.why


class Head(NamedTuple):
    """What is stored of a stream: `next` is the offset wanted, the first `opening` are in the row."""

    next: int = 0
    opening: int = 0
    tail: Tail | None = None


StreamKey = tuple[AttemptKey, int]


@dataclass(slots=True)
class Run:
    """Contiguous bytes, or a gap, recorded as one."""

    start: int
    end: int
    why: str
    parts: list[bytes] = field(default_factory=list[bytes])

    @property
    def data(self) -> bytes:
        return b"".join(self.parts)


@dataclass(slots=True)
class _Draft:
    """A stream while its items are taken."""

    key: AttemptKey
    stream: int
    head: Head
    next: int
    runs: list[Run] = field(default_factory=list[Run])

    def put(self, end: int, why: str, data: bytes = b"") -> None:
        if not self.runs or self.runs[-1].why != why:
            self.runs.append(Run(self.next, end, why))
        self.runs[-1].end = self.next = end
        if data:
            self.runs[-1].parts.append(data)

    def split(self) -> tuple[bytes, list[Run]]:
        """What joins the opening in the head row, and the runs that become chunks."""
        first = self.runs[0]
        if first.why or self.head.next != self.head.opening or first.end > OPENING_BYTES:
            return b"", self.runs
        return first.data, self.runs[1:]


class Records(NamedTuple):
    """Documents for the tables, and the heads as they will be."""

    heads: list[dict[str, object]]
    chunks: list[dict[str, object]]
    grown: list[dict[str, object]]
    after: dict[StreamKey, Head]


class Amounts(NamedTuple):
    """Bytes of a plan: what is kept, what is counted only, and what had gone before it came here."""

    kept: int
    over_limit: int
    gone: int


class Plan:
    def __init__(self, heads: Mapping[StreamKey, Head], attempt_bytes: int) -> None:
        self._heads = heads
        self._attempt_bytes = attempt_bytes
        self._drafts: dict[StreamKey, _Draft] = {}

    def take(self, item: Item) -> int:
        """Return the offset wanted next. Bytes already seen change nothing; nor does a hole."""
        draft = self._draft(item.key, item.stream)
        if not item.start <= draft.next < item.end:
            return draft.next
        if item.why:
            draft.put(item.end, item.why)
            return draft.next
        unseen = item.data[draft.next - item.start :]
        kept = unseen[: max(0, self._attempt_bytes - self._taken(item.key))]
        if kept:
            draft.put(draft.next + len(kept), "", kept)
        if len(kept) < len(unseen):
            draft.put(item.end, LIMIT)
        return draft.next

    def blobs(self) -> list[bytes]:
        """What goes to a segment, in the order in which `records` wants the places."""
        return [run.data for _, _, runs in self._changed() for run in runs if not run.why]

    def records(self, places: Sequence[Place]) -> Records:
        records = Records([], [], [], {})
        places_left = iter(places)
        for draft, opening, runs in self._changed():
            key, stream, head = draft.key, draft.stream, draft.head
            names: dict[str, object] = {**key._asdict(), "stream": stream}
            records.heads.append({**names, "was": head.next, "next": draft.next, "more": opening})
            tail = head.tail
            for run in runs:
                place = None if run.why else next(places_left)
                if tail is not None and tail.continued_by(run, place):
                    records.grown.append(
                        {**names, "start": tail.start, "was": tail.end, "end": run.end}
                    )
                    start = tail.start
                else:
                    chunk = {"start": run.start, "end": run.end, "why": run.why}
                    records.chunks.append({**names, **chunk, **(place._asdict() if place else {})})
                    start = run.start
                ends = (
                    place._replace(position=place.position + run.end - run.start) if place else None
                )
                tail = Tail(start, run.end, ends, run.why)
            records.after[key, stream] = Head(draft.next, head.opening + len(opening), tail)
        return records

    def amounts(self) -> Amounts:
        sums = {"": 0, LIMIT: 0, "gone": 0}
        for draft in self._drafts.values():
            for run in draft.runs:
                why = run.why if run.why in sums else "gone"
                sums[why] += run.end - run.start
        return Amounts(*sums.values())

    def _changed(self) -> Iterator[tuple[_Draft, bytes, list[Run]]]:
        for draft in self._drafts.values():
            if draft.runs:
                yield draft, *draft.split()

    def _draft(self, key: AttemptKey, stream: int) -> _Draft:
        draft = self._drafts.get((key, stream))
        if draft is None:
            head = self._heads[key, stream]
            draft = self._drafts[key, stream] = _Draft(key, stream, head, head.next)
        return draft

    def _taken(self, key: AttemptKey) -> int:
        """Bytes of the attempt so far, gaps included, over all its streams."""
        return sum(self._next((key, stream)) for stream in STREAMS)

    def _next(self, stream: StreamKey) -> int:
        draft = self._drafts.get(stream)
        return draft.next if draft else self._heads.get(stream, Head()).next
