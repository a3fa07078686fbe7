"""The loop that tells the ends of jobs, beside a leader's turns; what it owes it reads off rows.

An end is told at least once: after a crash in the middle of a try it is told again, under the same id.
Each host gets its share of the tries, so that one that is slow delays nobody else.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog

from styx.core import hook
from styx.core.job import JobState
from styx.engine.feed import NOTIFY, Feed
from styx.errors import StoreUnavailable
from styx.hooks import message
from styx.hooks.client import Client, Failed, Refused
from styx.hooks.settings import Settings
from styx.store.notices import Ended, Notices, Owed, Try
from styx.store.query import Query
from styx.store.told import message_id

WAITS_S: Final = (
    5,
    60,
    300,
    1_800,
    7_200,
    28_800,
    50_400,
)  # after each try but the last: a day in all
SPREAD: Final = 0.5  # of a wait, around it: many that failed at once do not return at once
RETRY_AFTER_MAX_S: Final = 86_400.0  # of what a receiver may wish for
AT_ONCE: Final = 32  # tries
OF_A_HOST: Final = 4
MARGIN_S: Final = 5.0  # after a try has timed out, for its outcome to be written down
LOOK_S: Final = 30.0  # when nothing seems to be due, it is looked for all the same
AWAY_S: Final = 1.0  # between looks at a database that is away
LEAST_S: Final = 0.05

GONE: Final = 410

log: structlog.typing.FilteringBoundLogger = structlog.get_logger()


class Outcome(msgspec.Struct, frozen=True):
    """Of a try. `over`: another would end no better."""

    delivered: bool = False
    over: bool = False
    status: int | None = None
    detail: str = ""
    retry_after_s: float = 0.0


class Notifier:
    """`run` it while its database's term lasts."""

    def __init__(
        self,
        notices: Notices,
        query: Query,
        feed: Feed,
        settings: Settings,
        *,
        client: Client | None = None,
        waits_s: tuple[float, ...] = WAITS_S,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._notices = notices
        self._query = query
        self._feed = feed
        self._settings = settings
        self._client = client or Client(settings.reach, timeout_s=settings.timeout_s)
        self._waits_s = waits_s
        self._jitter = jitter
        self._hosts: Counter[str] = Counter()  # tries under way
        self._wake = asyncio.Event()

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._listen(), name="listen")
            while True:
                self._wake.clear()
                wait_s = await self._look(group)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                except TimeoutError:
                    pass

    async def _listen(self) -> None:
        """A job that has somebody to tell is over."""
        while not self._feed.closed:
            await self._feed.wait(NOTIFY)
            self._wake.set()

    async def _look(self, group: asyncio.TaskGroup) -> float:
        """Begin all that can be begun; return the seconds until there may be more."""
        try:
            while await self._owe():
                pass
            while begun := await self._claim():
                for one in begun:
                    self._hosts[one.host] += 1
                for one in begun:
                    group.create_task(self._tell(one), name=f"tell {one.host}")
            if self._hosts.total() >= AT_ONCE:
                return LOOK_S  # until one of them is done
            next_s = await self._notices.next_s(busy=list(self._hosts))
        except StoreUnavailable:
            return AWAY_S
        return LOOK_S if next_s is None else min(LOOK_S, max(LEAST_S, next_s))

    async def _owe(self) -> bool:
        """Whether there may be more jobs whose ends are to be told."""
        ended = await self._notices.ended()
        owed = [one for job in ended for one in owing(job, self._settings)]
        return bool(ended) and await self._notices.owe([job.job_id for job in ended], owed)

    async def _claim(self) -> list[Try]:
        free = AT_ONCE - self._hosts.total()
        if free <= 0:
            return []
        within_s = self._settings.timeout_s + MARGIN_S
        return await self._notices.claim(
            busy=list(self._hosts), of_a_host=OF_A_HOST, limit=free, within_s=within_s
        )

    async def _tell(self, one: Try) -> None:
        try:
            outcome = await self._try(one)
            await self._note(one, outcome)
        except StoreUnavailable:
            log.warning("a notification's outcome is unknown", job=one.job_id, host=one.host)
        finally:
            self._hosts[one.host] -= 1
            if not self._hosts[one.host]:
                del self._hosts[one.host]
            self._wake.set()

    async def _try(self, one: Try) -> Outcome:
        if one.tries > len(self._waits_s) + 1:
            return Outcome(over=True, detail="how the last try went is not known")
        body = await message.body(self._query, self._notices, one)
        now = datetime.now(UTC)
        signed = self._settings.signer.headers(
            message_id(one.job_id, one.n), int(now.timestamp()), body
        )
        try:
            answer = await self._client.post(one.url, signed, body)
        except Refused as refused:
            return Outcome(over=True, detail=str(refused))
        except Failed as failed:
            return Outcome(detail=str(failed))
        status = answer.status
        if 200 <= status < 300:
            return Outcome(delivered=True, status=status)
        if 300 <= status < 400:
            return Outcome(status=status, detail="it sends elsewhere, and nobody follows")
        return Outcome(
            over=status == GONE,
            status=status,
            detail="it is gone" if status == GONE else "it did not take it",
            retry_after_s=retry_after_s(answer.retry_after, now),
        )

    async def _note(self, one: Try, outcome: Outcome) -> None:
        again_s = None
        state = "delivered" if outcome.delivered else "gave_up"
        if not outcome.delivered and not outcome.over and one.tries <= len(self._waits_s):
            state = "waiting"
            spread = 1 + SPREAD * (self._jitter() - 0.5)
            again_s = max(outcome.retry_after_s, spread * self._waits_s[one.tries - 1])
        await self._notices.tried(
            one, state, again_s=again_s, status=outcome.status, detail=outcome.detail
        )
        if state == "gave_up":
            log.warning(
                "a notification is given up",
                job=one.job_id,
                host=one.host,
                tries=one.tries,
                status=outcome.status,
                detail=outcome.detail,
            )


def owing(job: Ended, settings: Settings) -> Iterable[Owed]:
    """Each URL is told once, however many of its hooks the end concerns."""
    urls: dict[str, None] = {}
    for one in job.notify:
        if hook.concerns(one.on, job.state):
            urls |= dict.fromkeys([one.url] if one.url else settings.told_of(job.state))
    for n, url in enumerate(urls):
        yield Owed(job.job_id, n, event_of(job.state), url, urlsplit(url).netloc.lower())


def event_of(state: JobState) -> str:
    return f"job.{state}"


def retry_after_s(header: str, now: datetime) -> float:
    """What a Retry-After asks for: seconds, or a date. Source: RFC 9110, section 10.2.3."""
    if header.isdecimal():
        return min(float(header), RETRY_AFTER_MAX_S)
    try:
        date = parsedate_to_datetime(header)
    except ValueError:
        return 0.0
    wait_s = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    return min(max(0.0, wait_s.total_seconds()), RETRY_AFTER_MAX_S)
