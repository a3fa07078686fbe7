"""Lists: keyset pages, the link to the next one, and an ETag so that an unchanged list costs no bytes."""

import hashlib
from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import parse_qsl, urlencode

import msgspec
from litestar import Response

from styx.api import finding, problems
from styx.api.route import JSON, Call

MAX: Final = 1_000

_encode: Final = msgspec.json.Encoder().encode


class PageQuery(msgspec.Struct, frozen=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX, description="Of one page.")] = 100
    after: Annotated[
        str, msgspec.Meta(description="The last id of the page before; `Link` has it ready.")
    ] = ""


def after(asked: PageQuery) -> str:
    """Raises: HttpRefusal."""
    if not finding.is_id(asked.after):
        raise problems.wrong_parameter("after", "expected the id of the last one seen")
    return asked.after


def answer(call: Call, shown: Sequence[Any], *, more: bool) -> Response[bytes]:
    """`shown` are views with an `id`, in the order of the list."""
    body = _encode(shown)
    headers = {"etag": f'W/"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'}
    if more:
        headers["link"] = f'<{_next(call, shown[-1].id)}>; rel="next"'
    if call.headers.get("if-none-match") == headers["etag"]:
        return Response(b"", status_code=304, headers=headers, media_type=JSON)
    return Response(body, status_code=200, headers=headers, media_type=JSON)


def _next(call: Call, last_id: str) -> str:
    """The same list from there on. Relative to the host: a proxy may give ours another name."""
    kept = parse_qsl(call.scope["query_string"].decode("latin-1"), keep_blank_values=True)
    query = [(key, value) for key, value in kept if key != "after"]
    return f"{call.scope['path']}?{urlencode([*query, ('after', last_id)])}"
