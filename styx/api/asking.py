"""Parameters that several routes share, and what they mean."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import msgspec

from styx.api import page, problems
from styx.api.backend import Backend
from styx.api.route import Call, read_query
from styx.core import units
from styx.core.units import Expected

WAIT_MAX_S: Final = 60  # below the read timeouts of common proxies
EPOCH: Final = datetime.fromtimestamp(0, UTC)

_truth: Final = msgspec.json.Decoder(dict[str, bool])


class Filters(page.PageQuery, frozen=True):
    name: Annotated[str, msgspec.Meta(description="Only of this name.")] = ""
    label: Annotated[
        tuple[str, ...], msgspec.Meta(description="Only with this label: `key=value`.")
    ] = ()
    since: Annotated[
        str, msgspec.Meta(description="Only younger: a time (RFC 3339), or an age such as `90m`.")
    ] = ""


class Wait(msgspec.Struct, frozen=True):
    wait: Annotated[
        float,
        msgspec.Meta(ge=0, le=WAIT_MAX_S, description="Seconds to wait for it to be over."),
    ] = 0.0


class Cancel(msgspec.Struct, frozen=True):
    force: Annotated[bool, msgspec.Meta(description="Kill at once, without grace.")] = False


class Anew(msgspec.Struct, frozen=True):
    no_cache: Annotated[
        bool, msgspec.Meta(description="Run all of it, whatever succeeded before.")
    ] = False


def labels(asked: Filters) -> dict[str, str] | None:
    """Raises: HttpRefusal."""
    pairs = [label.partition("=") for label in asked.label]
    if any(not equals or not key for key, equals, _ in pairs):
        raise problems.wrong_parameter("label", "expected key=value")
    return {key: value for key, _, value in pairs} or None


def moment(asked: Filters, now: datetime) -> datetime | None:
    """Raises: HttpRefusal."""
    if not asked.since:
        return None
    try:
        return now - timedelta(seconds=units.seconds(asked.since))
    except Expected:
        pass
    try:
        at = datetime.fromisoformat(asked.since)
        at = at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        message = "expected a time such as 2026-01-31T08:00:00Z, or an age such as 90m"
        raise problems.wrong_parameter("since", message) from None
    return max(at, EPOCH)


async def forced(call: Call) -> bool:
    """From the query, or from a body `{"force": true}`. Raises: HttpRefusal."""
    asked = read_query(call, Cancel).force
    body = await call.body()
    if not body:
        return asked
    try:
        given = _truth.decode(body)
    except msgspec.DecodeError as error:
        raise problems.HttpRefusal(f'the body is not {{"force": true or false}}: {error}') from None
    if given.keys() - {"force"}:
        raise problems.HttpRefusal('the body has no other field than "force"')
    return asked or given.get("force", False)


async def until_over(
    backend: Backend, object_id: str, lives: Callable[[], bool], wait_s: float
) -> None:
    """Return when a task or a job is over, or the time."""
    try:
        async with asyncio.timeout(wait_s):
            # Nothing is awaited between this look and the wait.
            while backend.engine.healthy and lives():
                await backend.engine.feed.wait(object_id)
    except TimeoutError:
        pass
