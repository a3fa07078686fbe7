"""T-13 in three lanes: the codec alone, sessions of a real engine within this process, and rogues on sockets.

`agent` is patient and sends much on each connection. Here the order of things is wrong too, WebSocket itself
is broken, rogues are given work, and the bulk passes without a socket. The same seed says the same; how a server
interleaves it, no seed tells.
"""

import asyncio
import logging
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from styx.core.ids import AttemptKey, TaskId
from styx.store.postgres import Database
from tests.fuzz import inside, rig
from tests.fuzz.attack import Attack
from tests.fuzz.mutants import Mutants
from tests.support import postgres
from tests.support.site import Site, until

CODEC: Final = 0.9  # of the frames; the codec is where bytes from outside are read
SESSIONS: Final = 0.05
AT_ONCE: Final = 8
GROWTH_BYTES: Final = 50 << 20
ROUNDS: Final = 10  # in each of them the honest agent is given a task
WARM: Final = 3  # rounds before memory counts: pools and caches fill
HONEST: Final = {"cpus": 0.1, "labels": {"honest": "yes"}}
ROGUE: Final = {"cpus": 1, "labels": {"rogue": "yes"}}
SETTINGS: Final = rig.SETTINGS + "[agent]\nlabels = { honest = 'yes' }\n"
WORKS: Final = "while [ ! -e {go} ]; do echo tick; sleep 0.2; done; echo whole; exit 7"

Found = list[str]


def run(frames: int, seed: int) -> int:
    """0 if nothing was found."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    dice = random.Random(seed)
    in_codec, in_sessions = round(CODEC * frames), round(SESSIONS * frames)
    rig.say(f"frames: seed {seed}")
    found = [
        *_lane("codec", lambda: _codec(dice, in_codec)),
        *_lane("sessions", lambda: _sessions(dice, in_sessions)),
        *_lane("sockets", lambda: _sockets(dice, frames - in_codec - in_sessions)),
    ]
    for line in found:
        rig.say(f"  FAILED {line}")
    return int(bool(found))


def _lane(name: str, lane: Callable[[], tuple[str, Found]]) -> Found:
    began_s = time.monotonic()
    said, found = lane()
    rig.say(f"  {name}: {said} in {time.monotonic() - began_s:.0f} s")
    return found


def _codec(dice: random.Random, frames: int) -> tuple[str, Found]:
    return f"{frames} frames, {inside.codec(dice, frames)} of them read", []


def _sessions(dice: random.Random, frames: int) -> tuple[str, Found]:
    async def live(url: str, directory: Path) -> int:
        database = await Database.open(url)
        try:
            return await inside.sessions(database, directory, dice, frames)
        finally:
            await database.close()

    with postgres.running() as server, tempfile.TemporaryDirectory() as directory:
        return f"{asyncio.run(live(server.clone(), Path(directory)))} frames", []


def _sockets(dice: random.Random, frames: int) -> tuple[str, Found]:
    with rig.running(SETTINGS) as made:
        site = made.site
        go = site.home / "go"
        works = site.submit(name="works", run=WORKS.format(go=go), resources=HONEST)
        until(lambda: site.status(works) == "running", "the honest agent works")
        for _ in range(3):
            site.post("/api/v1/tasks", {"command": "true", "array": 50, "resources": ROGUE})
        honest = tuple(str(agent["id"]) for agent in site.get("/api/v1/agents"))
        mutants = Mutants(dice, [AttemptKey(TaskId(works), 1, 0)])
        attack = Attack("127.0.0.1", site.port, made.token, mutants, honest)
        before, meanwhile = 0, list[str]()
        for number in range(ROUNDS):
            if number == WARM:
                before = made.rss_bytes
            asyncio.run(attack.run(frames // ROUNDS, AT_ONCE))
            meanwhile.append(site.submit(command="echo", args=[str(number)], resources=HONEST))
        grown = made.rss_bytes - before
        go.touch()
        found = [*attack.faults, *_ended_well(site, works, meanwhile), *made.faults()]
        if grown > GROWTH_BYTES:
            found.append(f"the server grew by {grown >> 20} MiB")
        said = f"{attack.said} frames on {attack.connections} connections, {grown >> 20} MiB more"
        return said, found


def _ended_well(site: Site, works: str, meanwhile: list[str]) -> Found:
    found: Found = []
    for task_id in (works, *meanwhile):
        task = site.finished(task_id)
        if task["exit_code"] != (7 if task_id == works else 0) or len(task["attempts"]) != 1:
            found.append(f"an honest task ended wrong: {task}")
    if not site.output(works).endswith(b"tick\nwhole\n"):
        found.append("the honest task's output is not what it wrote")
    log = (site.home / "server.stderr").read_text(errors="replace").splitlines()
    sessions = sum('"agent": "fuzz"' in line and "agent connected" in line for line in log)
    if sessions != 1:
        found.append(f"the honest agent had {sessions} sessions")
    return found
