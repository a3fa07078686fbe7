"""The body of a submit: what is read, and what is refused before anybody looks at it."""

import pytest

from styx.api import document
from styx.api.problems import HttpRefusal


def nested(levels: int) -> bytes:
    return b'{"name": ' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def test_a_form_s_depth_is_read():
    assert document.read(b'{"tasks": {"a": {"resources": {"cpus": 1}}}}') == {
        "tasks": {"a": {"resources": {"cpus": 1}}}
    }
    assert document.read(nested(document.DEPTH))


@pytest.mark.parametrize("levels", [100, 900, 200_000])
@pytest.mark.parametrize("around", [b"%b", b"[%b]", b'{"tasks": {"a": %b}}', b'{"tasks": [%b]}'])
def test_deeper_is_refused_however_deep(levels: int, around: bytes):
    with pytest.raises(HttpRefusal, match="nested"):
        document.read(around % nested(levels))
