"""The private Postgres: it starts anywhere, as anybody, and leaves with its server."""

import asyncio
import importlib.util
import itertools
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import asyncpg
import psutil
import pytest

from styx.errors import SetupError, StoreUnavailable
from styx.store import binaries, pool
from styx.store.embedded import EmbeddedPostgres, HomeLock

ROOT: Final = Path(__file__).parent.parent.parent
DEADLINE_S: Final = 60.0
AS_ROOT: Final = pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
# A server in its own process: says its URL and Postgres's process number, and waits for its end.
SERVER: Final = """
import asyncio, sys
from pathlib import Path
from styx.store.embedded import EmbeddedPostgres

async def main():
    embedded = EmbeddedPostgres(Path(sys.argv[1]))
    print(await embedded.start(), embedded._child.pid, flush=True)
    await asyncio.sleep(3600)

asyncio.run(main())
"""
LOCKER: Final = """
import sys, time
from pathlib import Path
from styx.store.embedded import HomeLock

lock = HomeLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
time.sleep(3600)
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home in which a database has been made, and stopped: tests copy it, which is faster."""
    home = tmp_path_factory.mktemp("home")

    async def make() -> None:
        embedded = EmbeddedPostgres(home)
        connection = await asyncpg.connect(await embedded.start())
        await connection.execute("CREATE TABLE kept (n integer PRIMARY KEY)")
        await connection.close()
        await embedded.stop()

    asyncio.run(make())
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    subprocess.run(["cp", "-a", made, home], check=True)
    return home


@pytest.fixture
async def embedded(home: Path) -> AsyncIterator[EmbeddedPostgres]:
    embedded = EmbeddedPostgres(home)
    yield embedded
    await embedded.stop()


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A directory that every user can enter, as pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="styx-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_the_first_start_makes_a_database_that_loses_nothing(tmp_path: Path):
    half = tmp_path / "new" / "postgres" / "data.new"  # of a first start that was cut off
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18")
    embedded = EmbeddedPostgres(tmp_path / "new")
    url = await embedded.start()
    assert await ask(url, "SHOW fsync") == "on"
    assert await ask(url, "SHOW server_encoding") == "UTF8"
    assert await ask(url, "SHOW listen_addresses") == ""
    data = tmp_path / "new" / "postgres" / "data"
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    await embedded.stop()
    assert not (data / "postmaster.pid").exists()


async def test_what_was_written_is_there_at_the_next_start(embedded: EmbeddedPostgres):
    url = await embedded.start()
    await ask(url, "INSERT INTO kept VALUES (1)")
    await embedded.stop()
    assert await ask(await embedded.start(), "SELECT n FROM kept") == 1


async def test_a_home_too_long_for_a_socket_works(home: Path, tmp_path: Path):
    long = tmp_path / ("x" * 120) / ("y" * 120)
    long.parent.mkdir()
    home.rename(long)
    embedded = EmbeddedPostgres(long)
    url = await embedded.start()
    assert await ask(url, "SELECT 1") == 1
    alias = embedded._alias
    assert alias is not None
    assert stat.S_IMODE(alias.stat().st_mode) == 0o700
    await embedded.stop()
    assert not alias.exists()


async def test_a_relative_home_is_the_working_directory_s(
    home: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(home.parent)
    embedded = EmbeddedPostgres(Path("home"))
    monkeypatch.chdir("/")
    assert await ask(await embedded.start(), "SELECT 1") == 1
    await embedded.stop()


async def test_a_postgres_that_ends_is_started_again(embedded: EmbeddedPostgres):
    url = await embedded.start()
    keeping = asyncio.create_task(embedded.keep())
    for kill in (signal.SIGKILL, signal.SIGTERM):
        assert embedded._child is not None
        before = embedded._child.pid
        os.kill(before, kill)
        async with asyncio.timeout(DEADLINE_S):
            while embedded._child.pid == before or not embedded._ready(embedded._child.pid):
                await asyncio.sleep(0.01)
        assert await ask(url, "SELECT 1") == 1
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)


async def test_a_database_of_another_version_is_named(tmp_path: Path):
    data = tmp_path / "postgres" / "data"
    data.mkdir(parents=True)
    (data / "PG_VERSION").write_text("9\n")
    with pytest.raises(SetupError, match="made by Postgres 9"):
        await EmbeddedPostgres(tmp_path).start()


async def test_a_broken_database_says_why(home: Path):
    (home / "postgres" / "data" / "global" / "pg_control").unlink()
    embedded = EmbeddedPostgres(home)
    with pytest.raises(SetupError, match="ended at once") as refused:
        await embedded.start()
    assert str(home) in refused.value.hint
    await embedded.stop()


async def test_a_living_orphan_is_stopped_first(home: Path):
    who = binaries.account(home / "postgres")
    found = binaries.find(who, None)
    first = EmbeddedPostgres(home)
    await first.start()
    await first.stop()
    orphan = subprocess.Popen(
        [found.directory / "postgres", "-D", first._seen(first._data), *first._settings],
        cwd=first._data,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=binaries.ENVIRONMENT,
        **binaries.become(who),
    )
    until(lambda: first._ready(orphan.pid))
    second = EmbeddedPostgres(home)
    url = await second.start()
    assert orphan.wait(DEADLINE_S) == 0
    assert await ask(url, "SELECT 1") == 1
    await second.stop()


def server(home: Path, **popen: object) -> tuple[subprocess.Popen[str], str, psutil.Process]:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(home)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        **popen,
    )
    assert process.stdout is not None
    url, pid = process.stdout.readline().split()
    return process, url, psutil.Process(int(pid))


async def insert_until_it_breaks(
    connection: asyncpg.Connection, process: subprocess.Popen[str]
) -> int:
    """How many rows were acknowledged; the server is killed after 200."""
    for number in itertools.count():
        try:
            with pool.translated():
                await connection.execute("INSERT INTO kept VALUES ($1)", number)
        except StoreUnavailable:
            return number
        if number == 200:
            process.kill()
    raise AssertionError


@pytest.mark.skipif(sys.platform != "linux", reason="needs the kernel's parent-death signal")
async def test_it_dies_with_a_server_that_is_killed_and_loses_no_acknowledged_row(home: Path):
    process, url, postgres = server(home)
    connection = await asyncpg.connect(url)
    acknowledged = await insert_until_it_breaks(connection, process)
    assert acknowledged >= 200
    assert process.wait() == -signal.SIGKILL
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: not postgres.is_running())
    embedded = EmbeddedPostgres(home)
    assert await ask(await embedded.start(), "SELECT count(*) FROM kept") >= acknowledged
    await embedded.stop()


@AS_ROOT
async def test_under_root_it_is_nobody_and_others_cannot_enter(embedded: EmbeddedPostgres):
    await embedded.start()
    assert embedded._child is not None
    postgres = psutil.Process(embedded._child.pid)
    assert postgres.uids().real == pwd.getpwnam("nobody").pw_uid
    assert postgres.gids().real == binaries.PRIVATE_GROUP
    directory = embedded._data.parent
    assert directory.stat().st_uid == 0
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


@AS_ROOT
def test_an_ordinary_user_starts_it_too(reachable: Path):
    nobody = pwd.getpwnam("nobody")
    as_nobody = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    try:
        subprocess.run(
            [sys.executable, "-c", "import styx.store"], cwd=ROOT, check=True, **as_nobody
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this Python or checkout is root's alone")
    os.chown(reachable, nobody.pw_uid, nobody.pw_gid)
    process, url, postgres = server(reachable / "home", **as_nobody)
    assert asyncio.run(ask(url, "SELECT 1")) == 1
    assert postgres.uids().real == nobody.pw_uid
    process.kill()
    process.wait()
    assert process.stdout is not None
    process.stdout.close()
    until(lambda: not postgres.is_running())


@AS_ROOT
def test_programs_that_nobody_can_reach_are_copied(
    reachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    wheel = importlib.util.find_spec(binaries.MODULE)
    assert wheel is not None
    assert wheel.origin is not None
    package = Path(wheel.origin).parent
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    for path in (package, package.with_name(package.name + ".libs")):
        if path.exists():
            (hidden / path.name).symlink_to(path)
    monkeypatch.syspath_prepend(str(hidden))
    monkeypatch.setattr(binaries, "CACHE", reachable / "cache")
    who = binaries.account(tmp_path)
    for _ in range(2):
        found = binaries.find(who, None)
        assert found.directory.is_relative_to(reachable)
    copied = list((reachable / "cache").rglob("*"))
    assert {path.stat().st_uid for path in copied} == {0}
    assert not any(path.stat().st_mode & 0o022 for path in copied)
    (reachable / "cache").chmod(0o777)
    os.chown(reachable / "cache", 1, 1)
    with pytest.raises(SetupError, match="does not belong to root"):
        binaries.find(who, None)


def test_a_second_server_on_the_same_home_is_refused(tmp_path: Path):
    first, second = HomeLock(tmp_path), HomeLock(tmp_path)
    first.acquire()
    with pytest.raises(SetupError, match=f"process {os.getpid()}.*{tmp_path}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_the_lock_of_a_killed_server_is_free(tmp_path: Path):
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCKER, tmp_path],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    lock = HomeLock(tmp_path)
    with pytest.raises(SetupError, match=f"process {holder.pid}"):
        lock.acquire()
    holder.kill()
    holder.wait()
    holder.stdout.close()
    lock.acquire()
    lock.release()
