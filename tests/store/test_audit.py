"""The audit trail on disk: in the transaction of what it tells, one chain over all terms, and bounded."""

import itertools

import msgspec
import pytest

from styx.core.audit import BEGINNING, Entry, Link
from styx.core.delta import Delta
from styx.errors import WriteRefused
from styx.store.postgres import Database
from tests.support import made


def entries(*names: str) -> list[Entry]:
    return [Entry(made.NOW, "token:é\0", "test", name, "«»") for name in names]


def with_audit(delta: Delta, *names: str) -> Delta:
    delta.audit += entries(*names)
    return delta


def whole(trail: list[Link]) -> bool:
    linked = all(link.follows(before) for before, link in itertools.pairwise(trail))
    return linked and all(link.holds for link in trail)


async def test_entries_land_with_their_rows_or_not_at_all(database: Database):
    job = made.job()
    await database.commit(with_audit(made.delta(job, made.task(job)), "a", "b"))
    with pytest.raises(WriteRefused):
        await database.commit(with_audit(made.delta(job), "never"))
    await database.commit(with_audit(made.delta(), "alone"))
    big = made.job(total=11_000)
    await database.commit(with_audit(made.delta(big, made.array(big, 11_000)), "big"))
    trail = await database.query.audit(after=0, limit=10)
    told = [msgspec.json.decode(link.text, type=Entry) for link in trail]
    assert told == entries("a", "b", "alone", "big")
    assert trail[0].prev == BEGINNING
    assert whole(trail)
    assert await database.query.audit(after=2, limit=1) == [trail[2]]


async def test_the_next_leader_goes_on_with_the_chain(database_url: str):
    for name in ("first", "second"):
        database = await Database.open(database_url)
        await database.commit(with_audit(made.delta(), name))
        trail = await database.query.audit(after=0, limit=10)
        await database.close()
    assert [link.seq for link in trail] == [1, 2]
    assert whole(trail)


async def test_the_last_million_are_kept(database: Database):
    await database.commit(with_audit(made.delta(), "forgotten", "kept"))
    async with database.writers.acquire() as connection:
        await connection.execute("UPDATE audit SET seq = 1000999 WHERE seq = 2")
    await database.commit(with_audit(made.delta(), "new"))
    trail = await database.query.audit(after=0, limit=10)
    assert [link.seq for link in trail] == [1_000_999, 1_001_000]
