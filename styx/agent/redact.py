"""What a task must not tell: values of secrets are masked in its output before that is sent.

A byte becomes a `*`, so offsets hold. No state is kept but the values: what is sent always ends where no value
can have begun, so whoever begins again at any such offset masks the same bytes.
"""

import base64
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import quote

from styx.core.secret import MASKED_BYTES

LONGEST_BYTES: Final = 64 << 10  # of a form: one message of output holds it
LINE_BYTES: Final = 16  # so long a line of a value is masked by itself: a shell joins lines
_ANCHOR: Final = 4  # bytes of a form by which its beginnings are found


class Veil:
    """`reach` is the length of the longest text that is masked."""

    def __init__(self, values: Iterable[str]) -> None:
        self._values = frozenset(values)
        self._forms = sorted({form for value in self._values for form in _forms(value)})
        self.reach = max(map(len, self._forms), default=0)

    def __bool__(self) -> bool:
        return bool(self._forms)

    def __or__(self, values: Iterable[str]) -> "Veil":
        return Veil(self._values.union(values))

    def masked(self, data: bytes, size: int, *, more: bool) -> bytes:
        """The beginning of `data`, masked: `size` bytes of it, or less if one of the values crosses the end.

        `more`: there will be bytes behind `data`, so what may be the beginning of a value is left for later.
        """
        spans = sorted(span for form in self._forms for span in _spans(form, data))
        most = min(size, len(data), *(self._begun(data) if more else ()))
        cut = most
        for begin, end in reversed(spans):
            if begin < cut < end:
                cut = begin
        if not cut and size >= self.reach:
            cut = (
                most  # nothing but values that overlap, as of one letter: somewhere they are parted
            )
        shown = bytearray(data[:cut])
        for begin, end in spans:
            if begin < cut:
                last = min(end, cut)
                shown[begin:last] = b"*" * (last - begin)
        return bytes(shown)

    def _begun(self, data: bytes) -> Iterator[int]:
        """Where a value may have begun that `data` does not hold to its end: of each the first."""
        for form in self._forms:
            first = max(0, len(data) - len(form) + 1)
            for at in _starts(form, data, first):
                if form.startswith(data[at:]):
                    yield at
                    break


def _forms(value: str) -> Iterator[bytes]:
    """As it is, as a shell's `$(…)` or a line has it, and as URLs and HTTP headers do."""
    raw = value.encode()
    lines = (line.strip() for line in raw.splitlines())
    for text in (raw, raw.strip(), *(line for line in lines if len(line) >= LINE_BYTES)):
        if len(text) >= MASKED_BYTES:
            encoded = (text, base64.b64encode(text), quote(text, safe="").encode())
            yield from (form for form in encoded if len(form) <= LONGEST_BYTES)


def _spans(form: bytes, data: bytes) -> Iterator[tuple[int, int]]:
    at = data.find(form)
    while at >= 0:
        yield at, at + len(form)
        at = data.find(form, at + 1)


def _starts(form: bytes, data: bytes, first: int) -> Iterator[int]:
    """Places from `first` on that look as if it began there."""
    anchor = form[:_ANCHOR]
    at = data.find(anchor, first)
    while at >= 0:
        yield at
        at = data.find(anchor, at + 1)
    yield from range(max(first, len(data) - len(anchor) + 1), len(data))
