"""What goes wrong, and when: a seeded schedule of kills and freezes, each undone after a while.

One thread, one heap of moments. A fault whose victim is still down from the one before waits for it.
"""

import heapq
import itertools
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from typing import Final

from tests.chaos.rig import Agent, Rig, Server

AGAIN_S: Final = 0.3  # until a fault is tried again whose victim was not there
DOWN_S: Final = 2.0  # a victim is started again within so many seconds
STEP_S: Final = 0.05


class Faults:
    """`plan` some, `run` them all."""

    def __init__(self, rig: Rig, dice: random.Random, *, freeze_s: tuple[float, float]) -> None:
        self._rig = rig
        self._dice = dice
        self._freeze_s = freeze_s
        self._began = time.monotonic()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._busy: set[str] = set()
        self.counts: Counter[str] = Counter()
        self.history: list[tuple[float, str]] = []
        self.supervisor_kills: list[tuple[str, float]] = []

    def plan(self, within_s: float, *, servers: int, agents: int, postgres: int) -> None:
        """So many kills, and a freeze for every twelfth of them, at random moments."""
        freezes = max(1, (servers + agents) // 12)
        faults: list[Callable[[], None]] = [
            *[self._kill_server] * servers,
            *[self._kill_agent] * agents,
            *[self._kill_postgres] * postgres,
            *[self._freeze] * freezes,
        ]
        for fault in faults:
            self._after(self._dice.uniform(0.0, within_s), fault)

    def plan_links(self, within_s: float, kills: int) -> None:
        """So many kills of links alone, at random moments."""
        for _ in range(kills):
            self._after(self._dice.uniform(0.0, within_s), self._kill_link)

    def run(self, meanwhile: Callable[[], None]) -> None:
        """Until all that was planned has happened and has been undone."""
        while self._heap:
            at, _, act = self._heap[0]
            if (wait_s := at - time.monotonic()) > 0:
                time.sleep(min(wait_s, STEP_S))
                meanwhile()
                continue
            heapq.heappop(self._heap)
            act()

    # --- victims --------------------------------------------------------------------------------

    def _kill_server(self) -> None:
        server = self._dice.choice(self._rig.servers)
        # Mostly one that does its work, now and then one that is still starting.
        if not self._free(server.name) or (self._dice.random() < 0.8 and not server.ready(0.5)):
            self._after(AGAIN_S, self._kill_server)
            return
        server.kill()
        self._happened("server kills", server.name)
        self._down(server.name, server.start)

    def _kill_agent(self) -> None:
        agent = self._dice.choice(self._rig.agents)
        if not self._free(agent.name):
            self._after(AGAIN_S, self._kill_agent)
            return
        part = self._dice.choices(["link", "supervisor", "both"], [5, 3, 2])[0]
        if part != "link":
            self._kill_supervisor(agent)
        if part != "supervisor":
            agent.kill_link()
            self._down(agent.name, agent.start)
        self._happened("agent kills", f"{agent.name} {part}")

    def _kill_link(self) -> None:
        agent = self._dice.choice(self._rig.agents)
        if not self._free(agent.name):
            self._after(AGAIN_S, self._kill_link)
            return
        agent.kill_link()
        self._down(agent.name, agent.start)
        self._happened("link kills", agent.name)

    def _kill_supervisor(self, agent: Agent) -> None:
        # The moment before: whatever began by then has lost its parent, and with it its exit status.
        if agent.kill_supervisor():
            killed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            self.supervisor_kills.append((agent.name, killed_s))
            self.counts["… of them, supervisors"] += 1

    def _kill_postgres(self) -> None:
        if not self._free("postgres"):
            self._after(AGAIN_S, self._kill_postgres)
            return
        self._rig.postgres.kill()
        self._happened("Postgres kills", "postgres")
        self._down("postgres", self._start_postgres)

    def _start_postgres(self) -> None:
        if not self._rig.postgres.step():
            self._busy.add("postgres")
            self._after(AGAIN_S, lambda: self._up("postgres", self._start_postgres))

    def _freeze(self) -> None:
        """SIGSTOP of a server, of an agent's half, or of Postgres."""
        # Nothing works while Postgres is frozen, and little while a server is.
        victims = ["server", "link", "supervisor", "postgres"]
        victim = self._dice.choices(victims, [2, 3, 3, 1])[0]
        server: Server = self._dice.choice(self._rig.servers)
        agent = self._dice.choice(self._rig.agents)
        send: Callable[[signal.Signals], None]
        match victim:
            case "server":
                name, send = server.name, server.signal
            case "link":
                name, send = agent.name, agent.signal_link
            case "supervisor":
                name, send = agent.name, agent.signal_supervisor
            case _:
                name, send = "postgres", self._rig.postgres.signal
        if not self._free(name):
            self._after(AGAIN_S, self._freeze)
            return
        shortest_s, longest_s = self._freeze_s
        seconds = shortest_s * (longest_s / shortest_s) ** self._dice.random()  # mostly short
        send(signal.SIGSTOP)
        self._happened("freezes", f"{name} {victim} for {seconds:.1f} s")
        self._busy.add(name)
        self._after(seconds, lambda: self._up(name, lambda: send(signal.SIGCONT)))

    # --- time -----------------------------------------------------------------------------------

    def _free(self, name: str) -> bool:
        return name not in self._busy

    def _down(self, name: str, start: Callable[[], None]) -> None:
        self._busy.add(name)
        self._after(self._dice.uniform(0.0, DOWN_S), lambda: self._up(name, start))

    def _up(self, name: str, start: Callable[[], None]) -> None:
        self._busy.discard(name)
        start()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time.monotonic() + seconds, next(self._numbers), act))

    def _happened(self, kind: str, what: str) -> None:
        self.counts[kind] += 1
        self.history.append((round(time.monotonic() - self._began, 2), f"{kind}: {what}"))
