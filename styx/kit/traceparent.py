"""The header `traceparent`. Source: W3C, Trace Context Level 2, section 3.2."""

import re
from typing import Final

# A version to come may append fields; ff is none, and ids of nothing but zeros are none.
_FORM: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?"
)
_SAMPLED: Final = 1


def cleaned(text: str) -> str:
    """It, in our version and with the one flag that we know; "" for none, or for what is to be taken as none."""
    found = _FORM.fullmatch(text.strip())
    if found is None:
        return ""
    version, trace_id, span_id, flags, more = found.groups()
    if more and version == "00":
        return ""
    return f"00-{trace_id}-{span_id}-{int(flags, 16) & _SAMPLED:02x}"
