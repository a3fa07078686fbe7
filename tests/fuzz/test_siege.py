"""A small piece of `python -m tests.fuzz frames`: the lanes that need no socket."""

import random
from pathlib import Path

from styx.store.postgres import Database
from tests.fuzz import inside


def test_the_codec_reads_a_frame_or_says_that_it_is_none():
    assert 0 < inside.codec(random.Random(1), 1_000) < 1_000


async def test_sessions_of_rogues_leave_an_honest_one_alone(database: Database, tmp_path: Path):
    assert await inside.sessions(database, tmp_path, random.Random(1), 500) >= 500
