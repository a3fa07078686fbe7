"""The processes of a run: a Postgres, servers on it, agents, each of which may die at any moment.

Nothing is shared with the product but its command line, its environment and its HTTP API.
"""

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import psutil

from tests.chaos.client import Client
from tests.chaos.postgres import Postgres
from tests.support.site import ROOT, free_port, until

STYX: Final = (sys.executable, "-m", "styx")
RUNS: Final = Path(os.environ.get("CHAOS_RUNS", "/tmp/styx-chaos"))
STOP_S: Final = 10.0


class Server:
    """One `styx serve`, always at the same address and home."""

    def __init__(self, rig: "Rig", number: int) -> None:
        self.name = f"server-{number}"
        self.port = free_port()
        self.home = rig.directory / self.name
        self.process: subprocess.Popen[bytes] | None = None
        self.host = rig.server_host
        self.within: tuple[str, ...] = ()  # a command that runs ours, as `ip netns exec NAME`
        self.env: dict[str, str] = {}
        self._rig = rig

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self._rig.directory / f"{self.name}.log"

    def start(self) -> None:
        if self.process is not None:
            self.process.wait()  # one that was killed
        self.home.mkdir(parents=True, exist_ok=True)
        env = self._rig.env | {
            "STYX_HOME": str(self.home),
            "STYX_SERVER_HOST": self.host,
            "STYX_SERVER_PORT": str(self.port),
            "DATABASE_URL": self._rig.database_url,
        }
        with self.log.open("ab") as sink:
            self.process = subprocess.Popen(
                [*self.within, *STYX, "serve"],
                env=env | self.env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    def client(self, timeout_s: float = 10.0) -> Client:
        return Client(self.host, self.port, token=self._rig.token, timeout_s=timeout_s)

    def ready(self, timeout_s: float = 2.0) -> bool:
        """Whether it answers that it can do its work."""
        with self.client(timeout_s) as client, suppress(OSError):
            return client.ask("GET", "/readyz").status == 200
        return False

    def alive(self) -> bool:
        """Whether it answers at all, as one that waits for its turn does."""
        with self.client(2.0) as client, suppress(OSError):
            return client.ask("GET", "/health").status == 200
        return False

    def leads(self) -> bool:
        with self.client(2.0) as client, suppress(OSError):
            answer = client.ask("GET", "/readyz")
            return answer.status == 200 and bool(answer.json()["leader"])
        return False

    def kill(self, *, reap: bool = True) -> None:
        """Not reaped, it is to its kernel still there: as on a machine that is gone, its lease runs out."""
        assert self.process is not None
        self.process.kill()
        if reap:
            self.process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def rss_bytes(self) -> int:
        assert self.process is not None
        return int(psutil.Process(self.process.pid).memory_info().rss)


class Agent:
    """One `styx agent`: the link, which we start, and the supervisor, which it starts."""

    def __init__(self, rig: "Rig", name: str, *options: str) -> None:
        self.name = name
        self.home = rig.directory / f"agent-{name}"
        self.options = options
        self.link: subprocess.Popen[bytes] | None = None
        self.within: tuple[str, ...] = ()
        self.url = ""  # "" is all servers'
        self.env: dict[str, str] = {}
        self._rig = rig

    def start(self) -> None:
        env = self._rig.env | {
            "STYX_AGENT_ID": self.name,
            "STYX_AGENT_HOME": str(self.home),
            "STYX_HOME": str(self.home),
            "STYX_SERVER_URL": self.url or self._rig.agents_url,
        }
        with self.log.open("ab") as sink:
            self.link = subprocess.Popen(
                [*self.within, *STYX, "agent", *self.options],
                env=env | self.env,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )

    @property
    def log(self) -> Path:
        return self._rig.directory / f"agent-{self.name}.log"

    def kill_link(self) -> None:
        assert self.link is not None
        self.link.kill()
        self.link.wait()

    def kill_supervisor(self) -> bool:
        """`kill -9`; False: there was none to kill."""
        found = self.supervisor()
        if found is not None:
            with suppress(ProcessLookupError):
                os.kill(found, signal.SIGKILL)
        return found is not None

    def supervisor(self) -> int | None:
        """Its process: whoever holds the lock of the home, as the kernel lists it."""
        with suppress(OSError):
            lock = (self.home / "supervisor.lock").stat()
            place = f"{os.major(lock.st_dev):02x}:{os.minor(lock.st_dev):02x}:{lock.st_ino}"
            for line in Path("/proc/locks").read_text().splitlines():
                fields = line.split()
                if place in fields and fields[1] == "FLOCK":
                    return int(fields[4])
        return None

    def signal_link(self, number: signal.Signals) -> None:
        assert self.link is not None
        with suppress(ProcessLookupError):
            self.link.send_signal(number)

    def signal_supervisor(self, number: signal.Signals) -> None:
        found = self.supervisor()
        if found is not None:
            with suppress(ProcessLookupError):
                os.kill(found, number)

    def ended(self) -> bool:
        return self.link is None or self.link.poll() is not None

    def pids(self) -> list[int]:
        """Of both halves, as far as they live."""
        found = [] if self.ended() or self.link is None else [self.link.pid]
        supervisor = self.supervisor()
        return [*found, supervisor] if supervisor else found


class Rig:
    """Everything of one run, below one directory that is its evidence if it fails."""

    def __init__(self, kind: str, seed: int, settings: str) -> None:
        self.directory = RUNS / f"{kind}-{seed}-{os.getpid()}"
        self.directory.mkdir(parents=True)
        self.logs = self.directory / "logs"  # shared by all servers
        self.configure(settings)
        self.token = secrets.token_hex(16)
        self.postgres = Postgres(self.directory, free_port())
        self.database_url = self.postgres.url()
        self.server_host = "127.0.0.1"
        self.servers: list[Server] = []
        self.agents: list[Agent] = []

    def configure(self, settings: str) -> None:
        """For whatever is started after that."""
        shared = f'\n[logs]\ndirectory = "{self.logs}"\n'
        (self.directory / "styx.toml").write_text(settings + shared)

    @property
    def env(self) -> dict[str, str]:
        """Of every process; nothing of the caller's that could choose another server or colour."""
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith("STYX_") and k != "DATABASE_URL"
        }
        return kept | {
            "CHAOS_RUN": str(self.directory),  # tasks inherit it: so a leftover is found
            "STYX_CONFIG": str(self.directory / "styx.toml"),
            "STYX_TOKEN": self.token,
            "PYTHONPATH": str(ROOT),
            "NO_COLOR": "1",
            "STYX_DEBUG": "1",  # a bug shows where it is
        }

    @property
    def agents_url(self) -> str:
        return ",".join(server.url for server in self.servers)

    def start(self, servers: int) -> None:
        """The database and the servers; return once one leads and all others stand by."""
        self.postgres.start()
        self.servers = [Server(self, number + 1) for number in range(servers)]
        for server in self.servers:
            server.start()
        until(self.leader, "a server is ready")
        for server in self.servers:
            until(server.alive, f"{server.name} answers")

    def leader(self) -> Server | None:
        return next((server for server in self.servers if server.leads()), None)

    def client(self, timeout_s: float = 10.0) -> Client:
        """Of whichever server answers, one after another."""
        places = [(server.host, server.port) for server in self.servers]
        return Client(*places[0], token=self.token, timeout_s=timeout_s, others=places[1:])

    def join(self, count: int, *options: str, timeout_s: float = 120.0) -> None:
        """Start so many agents, and return once they may be given work."""
        new = [Agent(self, f"a{len(self.agents) + i + 1}", *options) for i in range(count)]
        self.agents += new
        for agent in new:
            agent.start()
        until(lambda: self.ready_agents() >= len(self.agents), "all agents", deadline_s=timeout_s)

    def ready_agents(self) -> int:
        """Connected to this very leader, and synced: what the last one had written does not count."""
        leader = self.leader()
        if leader is None:
            return 0
        with leader.client(2.0) as client, suppress(OSError):
            answer = client.ask("GET", "/api/v1/agents")
            if answer.status == 200:
                return sum(
                    agent["status"] == "ready" and agent["last_seen_s"] is not None
                    for agent in answer.json()
                )
        return 0

    def task_processes(self) -> Iterator[tuple[str, int]]:
        """(attempt key, pid) of every living process of this run's tasks, wherever it went."""
        mark = b"CHAOS_RUN=" + str(self.directory).encode()
        for place in Path("/proc").iterdir():
            if not place.name.isdigit():
                continue
            with suppress(OSError):
                variables = (place / "environ").read_bytes().split(b"\0")
                if mark not in variables:
                    continue
                for variable in variables:
                    if variable.startswith(b"STYX_ATTEMPT_KEY="):
                        yield variable.partition(b"=")[2].decode(), int(place.name)

    def close(self) -> None:
        """Leave no process behind, whatever happened."""
        processes = [s.process for s in self.servers] + [a.link for a in self.agents]
        alive = [p for p in processes if p is not None and p.poll() is None]
        for process in alive:
            process.send_signal(signal.SIGCONT)
            process.terminate()
        for process in alive:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for agent in self.agents:
            agent.signal_supervisor(signal.SIGCONT)
            agent.kill_supervisor()
        for _, pid in list(self.task_processes()):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.postgres.close()


@contextmanager
def running(kind: str, seed: int, settings: str) -> Generator[Rig]:
    rig = Rig(kind, seed, settings)
    try:
        yield rig
    finally:
        rig.close()
