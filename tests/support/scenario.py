"""Scripts for the scheduler, and what it did: a scenario file is script and transcript in one.

A line that starts with `> ` is a command; the lines under it are what changed. `play` runs the
commands of a text and returns the text with what changes now.

    > agent a1 cpus=4 gpus=2 label=k=v      an agent connects
    > submit NAME [cpus=… needs=a,b on=done array=3 nodes=2 priority=high retries=1 …] ; NAME …
    > exit NAME CODE [rank=1]  start NAME  void NAME  cancel NAME  force NAME
    > preempt a1 SECONDS / lost a1 / silent a1 / heard a1 / drain a1 / resume a1 / wait SECONDS / explain NAME
"""

from collections.abc import Callable

from styx.core import event as ev
from styx.core import status
from styx.core.explain import hindrances
from styx.core.ids import AgentId, AttemptKey, TaskId
from styx.core.spec import Need, On, OnFailure, Priority
from styx.core.task import Reason
from tests.support.desk import Desk, a_capacity, a_task


def play(text: str) -> str:
    stage = Stage()
    lines: list[str] = []
    for line in text.splitlines():
        if line.startswith("> "):
            lines += [line, *(f"    {said}" for said in stage.do(line[2:]))]
        elif not line.startswith("    "):
            lines.append(line)
    return "\n".join(lines) + "\n"


class Stage:
    def __init__(self) -> None:
        self.desk = Desk()
        self.seen: dict[str, str] = {}
        self.names: dict[str, TaskId] = {}

    def do(self, line: str) -> list[str]:
        word, _, rest = line.partition(" ")
        if word == "explain":
            found = hindrances(self.desk.world, self.names[rest], self.desk.now, self.desk.policy)
            return [f"{h.code}: {h.message}" for h in found] or ["nothing hinders it"]
        getattr(self, f"do_{word}")(rest)
        return self._changes()

    def do_agent(self, rest: str) -> None:
        name, *options = rest.split()
        given = dict(o.split("=", 1) for o in options)
        labels = dict([given["label"].split("=")]) if "label" in given else {}
        gpus = ["nvidia a100"] * int(given.get("gpus", 0))
        self.desk.join(name, a_capacity(float(given.get("cpus", 2)), gpus=gpus), labels=labels)

    def do_submit(self, rest: str) -> None:
        head, _, policy = rest.partition(" | ")
        specs = [self._spec(part.strip()) for part in head.split(";")]
        self.desk.submit(*specs, on_failure=OnFailure(policy or "skip_descendants"))
        self.names = {t.name: i for i, t in self.desk.tasks.items()}

    def do_exit(self, rest: str) -> None:
        name, code, *options = rest.split()
        rank = int(options[0].removeprefix("rank=")) if options else 0
        task = self.names[name]
        stopped = bool(self.desk.live(task, rank).stop_reason)
        if code.startswith("sig"):
            self.desk.exit(task, None, rank=rank, signal=int(code[3:]), signalled=stopped)
        else:
            self.desk.exit(task, int(code), rank=rank)

    def do_start(self, rest: str) -> None:
        self.desk.start(self.names[rest])

    def do_void(self, rest: str) -> None:
        attempt = self.desk.live(self.names[rest])
        self.desk.turn(ev.AttemptVoided(attempt.key, attempt.agent_id, Reason.AGENT_FULL))

    def do_cancel(self, rest: str) -> None:
        self.desk.turn(ev.CancelRequested((self.names[rest],)))

    def do_force(self, rest: str) -> None:
        self.desk.turn(ev.CancelRequested((self.names[rest],), force=True))

    def do_wait(self, rest: str) -> None:
        self.desk.wait(float(rest))

    def do_lost(self, rest: str) -> None:
        self.desk.turn(ev.AgentLost(AgentId(rest)))

    def do_silent(self, rest: str) -> None:
        self.desk.turn(ev.AgentSilent(AgentId(rest), self.desk.world.agents[AgentId(rest)].session))

    def do_preempt(self, rest: str) -> None:
        name, seconds = rest.split()
        session = self.desk.world.agents[AgentId(name)].session
        self.desk.turn(ev.AgentPreempted(AgentId(name), session, float(seconds)))

    def do_heard(self, rest: str) -> None:
        self.desk.turn(ev.AgentHeard(AgentId(rest), self.desk.world.agents[AgentId(rest)].session))

    def do_drain(self, rest: str) -> None:
        self.desk.turn(ev.DrainRequested(AgentId(rest), drain=True))

    def do_resume(self, rest: str) -> None:
        self.desk.turn(ev.DrainRequested(AgentId(rest), drain=False))

    def _spec(self, text: str):
        name, *options = text.split()
        given = dict(o.split("=", 1) for o in options)
        on = On(given.pop("on", "success"))
        fields: dict[str, object] = {}
        readers: dict[str, tuple[str, Callable[[str], object]]] = {
            "cpus": ("cpus", float),
            "gpus": ("gpus", int),
            "array": ("array_count", int),
            "nodes": ("num_nodes", int),
            "priority": ("priority", Priority),
            "retries": ("retries", int),
            "infra_retries": ("infra_retries", int),
            "queue_timeout": ("queue_timeout_s", float),
            "grace": ("grace_s", float),
            "needs": ("needs", lambda names: tuple(Need(n, on) for n in names.split(","))),
        }
        for key, value in given.items():
            field, read = readers[key]
            fields[field] = read(value)
        return a_task(name, **fields)

    def _changes(self) -> list[str]:
        now: dict[str, str] = {}
        for task_id, task in sorted(self.desk.tasks.items()):
            keys = [AttemptKey(task_id, task.attempt, r) for r in range(task.spec.num_nodes)]
            members = [self.desk.attempts[k] for k in keys if k in self.desk.attempts]
            word = status.of(task, members)
            where = f" on {'+'.join(m.agent_id for m in members)}" if members and not task.finished_at and task.state == "active" else ""  # fmt: skip
            attempt = f" #{task.attempt}" if task.attempt > 1 else ""
            reason = f" ({task.reason})" if task.reason else ""
            now[f"task {task.name}"] = f"{word}{where}{attempt}{reason}"
        for agent in self.desk.world.agents.values():
            now[f"agent {agent.name}"] = str(agent.state)
        changed = [f"{k}: {v}" for k, v in now.items() if self.seen.get(k) != v]
        self.seen = now
        return changed or ["nothing changes"]
