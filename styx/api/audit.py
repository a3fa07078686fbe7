"""The audit trail: who asked for what, in a chain that shows what was done to it."""

from typing import Annotated, Final

import msgspec
from litestar import Response

from styx.api import page, route
from styx.api.backend import Backend
from styx.api.route import Call, read_query, reply
from styx.core.audit import Entry, Link
from styx.wire import http

_entry: Final = msgspec.json.Decoder(Entry).decode


class AuditQuery(msgspec.Struct, frozen=True):
    since: Annotated[
        int, msgspec.Meta(ge=0, le=1 << 53, description="The `seq` of the last one seen.")
    ] = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=page.MAX, description="Of one page.")] = 100


class Audit:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @route.get("/api/v1/audit", "listAudit", list[http.AuditView], query=AuditQuery)
    async def browse(self, call: Call) -> Response[bytes]:
        """Who asked for what.

        Oldest first; ask again with the last `seq` for what followed. `hash` is SHA-256, in hex, of the
        text `PREV SEQ TEXT`, so whoever has kept one can tell whether what was before it is unchanged.
        """
        asked = read_query(call, AuditQuery)
        found = await self._backend.query.audit(after=asked.since, limit=asked.limit)
        return reply([_view(link) for link in found])


def _view(link: Link) -> http.AuditView:
    told = _entry(link.text)
    return http.AuditView(
        seq=link.seq,
        at=told.at,
        actor=told.actor,
        action=told.action,
        object_id=told.object,
        detail=told.detail,
        prev=link.prev,
        hash=link.hash,
        text=link.text,
    )
