"""What one seed does: its site, its work and its faults, all drawn before anything runs.

A fault is a row of a list, so that a failing seed can be shrunk by taking rows away. What is drawn of
each kind differs from seed to seed ("swarm"): many faults of few kinds find what few of all do not.
"""

import math
import random
from typing import Final, NamedTuple

import msgspec

from styx.core.spec import (
    Delivery,
    JobSpec,
    Need,
    On,
    OnFailure,
    Priority,
    Requirements,
    TaskSpec,
)

GIB: Final = 1 << 30
SERIAL_S: Final = 600.0  # far from the reckoning, with every backoff
FLOOD_BYTES: Final = 512 << 10  # passes in time where credit and line are smallest, too


class Fault(NamedTuple):
    at: float
    kind: str
    who: int  # which agent or server, modulo their number
    seconds: float
    dice: float  # decides the rest

    def __str__(self) -> str:
        return f"{self.at:7.1f} {self.kind} {self.who} for {self.seconds:.1f} ({self.dice:.3f})"


class Work(NamedTuple):
    """A submission, with what its client does about it."""

    at: float
    spec: JobSpec
    cancel_after: float | None  # seconds; of the job, or of one of its tasks
    cancel_one: bool
    force: bool
    again_after: float | None  # seconds; another caller submits the same under the same key


class Plan(msgspec.Struct, frozen=True):
    seed: int
    servers: int
    agents: int
    faults_s: float  # how long faults go on
    lost_after_s: float
    suspect_after_s: float
    latency_s: float
    clock_error: float
    poll_s: float  # of the followers
    bound_turn: bool  # a turn does little
    tiny: bool  # frames, pages and queues hold little
    spool_bytes: int  # of output that waits at an agent, and of one attempt's
    cancel_in_window: float  # share of attempts whose cancel comes just as they are assigned
    freeze_in_window: float  # share of attempts whose agent stands still just as they are assigned
    leader_cut_at_start: float  # share of long, exclusive runs whose leader is then isolated
    cuts_at_start: float  # share of starts just after which the machine loses its power
    jumps_in_backoff: float  # share of backoffs in which the leader's clock is set back
    unheard_verdicts: float  # share of commits that declare an agent lost, and whose answer is lost
    ahead_ms: float  # of work that an agent is given beyond its room
    bulk_tasks: int  # of a job that is made beside the turns, its arrays as blocks
    works: tuple[Work, ...]
    faults: tuple[Fault, ...]


# Kind: relative frequency, longest and how long it lasts typically (seconds).
KINDS: Final = {
    "cut": (4.0, 30.0),
    "half_open": (3.0, 60.0),
    "block": (4.0, 150.0),
    "block_all": (1.5, 160.0),
    "crash_link": (4.0, 5.0),
    "crash_supervisor": (2.0, 3.0),
    "pause_link": (3.0, 120.0),
    "pause_supervisor": (1.5, 4.0),
    "reboot": (1.0, 20.0),
    "power_off": (0.7, 120.0),
    "wipe": (0.5, 10.0),
    "clone": (0.4, 100.0),
    "full": (1.0, 120.0),
    "crash_server": (4.0, 10.0),
    "stop_server": (1.5, 5.0),
    "pause_server": (3.0, 30.0),
    "cut_database": (3.0, 40.0),
    "cut_leader": (2.0, 220.0),
    "pause_leader": (2.0, 40.0),
    "outage": (1.5, 20.0),
    "refuse": (2.0, 60.0),
    "lose": (4.0, 100.0),
    "stall": (2.0, 60.0),
    "refuse_connects": (1.0, 30.0),
    "jump": (1.0, 1.0),
    "jump_server": (1.0, 1.0),
    "slow": (2.0, 40.0),
    "flap": (1.5, 40.0),
    "drain": (1.5, 60.0),
}


def draw(seed: int, *, deep: bool = True) -> Plan:
    dice, more = random.Random(f"plan {seed}"), random.Random(f"more {seed}")
    agents = dice.choice((2, 2, 3, 3, 4)) if deep else dice.choice((1, 2, 3))
    faults_s = dice.uniform(250, 400) if deep else dice.uniform(40, 90)
    lost_after_s = dice.choice((60.0, 60.0, 60.0, 120.0))
    works = _bounded(random.Random(f"bound {seed}"), _works(dice, faults_s, deep=deep))
    return Plan(
        seed=seed,
        servers=dice.choice((1, 2, 2, 2)),
        agents=agents,
        faults_s=faults_s,
        lost_after_s=lost_after_s,
        suspect_after_s=15.0,
        latency_s=dice.choice((0.0005, 0.005, 0.05, 0.3)),
        clock_error=dice.choice((0.0, 0.002, 0.01)),
        poll_s=dice.choice((1.0, 2.0)),
        bound_turn=dice.random() < 0.3,
        tiny=dice.random() < 0.3,
        spool_bytes=dice.choice((64 << 20, 64 << 20, 256 << 10)),
        cancel_in_window=dice.choice((0.0, 0.0, 0.05, 0.2)),
        freeze_in_window=dice.choice((0.0, 0.0, 0.0, 0.08, 0.3)) if deep else 0.0,
        unheard_verdicts=more.choice((0.0, 0.0, 0.7)),
        cuts_at_start=more.choice((0.0, 0.0, 0.0, 0.06)),
        jumps_in_backoff=more.choice((0.0, 0.0, 0.0, 0.2)),
        leader_cut_at_start=more.choice((0.0, 0.0, 0.5)) if deep else 0.0,
        ahead_ms=more.choice((100.0, 5_000.0, 60_000.0)),
        bulk_tasks=more.choice((2_000, 1, 0)),
        works=tuple(works),
        faults=tuple(sorted(_faults(dice, faults_s) + _lost_submits(dice, works))),
    )


def _faults(dice: random.Random, faults_s: float) -> list[Fault]:
    kinds = {kind: weight for kind, (weight, _) in KINDS.items() if dice.random() < 0.4}
    if not kinds or dice.random() < 0.05:
        return []
    rate = dice.choice((0.01, 0.03, 0.06, 0.12))  # of a second
    weights = [weight * dice.choice((0.3, 1.0, 3.0)) for weight in kinds.values()]
    at = dice.expovariate(rate)
    faults: list[Fault] = []
    while at < faults_s:
        kind = dice.choices(list(kinds), weights)[0]
        seconds = KINDS[kind][1] * dice.random() ** dice.choice((0.3, 1, 2))
        faults.append(Fault(at, kind, dice.randrange(12), seconds, dice.random()))
        at += dice.expovariate(rate)
    return faults


def _lost_submits(dice: random.Random, works: list[Work]) -> list[Fault]:
    """Nothing comes back from the database just when work is handed in: that it was done, or will be yet."""
    share = dice.choice((0.0, 0.0, 0.0, 0.5))
    return [
        Fault(work.at + 0.02 * dice.random(), "lose", 0, 0.1 + dice.random(), 3.0)
        for work in works
        if dice.random() < share
    ]


def _works(dice: random.Random, faults_s: float, *, deep: bool) -> list[Work]:
    number = dice.choice((3, 5, 8)) if deep else dice.choice((1, 2, 3))
    exclusive = dice.choice((0.0, 0.2, 0.8))
    once = dice.choice((0.0, 0.2, 0.5))
    noise = dice.choice((0.0, 0.3, 1.0))
    long = dice.choice((3.0, 10.0, 40.0, 120.0))
    works: list[Work] = []
    for n in range(number):
        spec = _job(dice, n, exclusive, once, noise, long)
        cancel = dice.random() < 0.25
        works.append(
            Work(
                at=dice.uniform(0, faults_s * 0.7) if n else 0.5,
                spec=spec,
                cancel_after=dice.uniform(0, 60) if cancel else None,
                cancel_one=dice.random() < 0.5,
                force=dice.random() < 0.3,
                again_after=dice.choice((None, None, 0.0, 0.5, 60.0)),
            )
        )
    return works


def _bounded(dice: random.Random, works: list[Work]) -> list[Work]:
    """Some arrays may not have all their tasks active at once: short ones, as one waits for the other."""
    bound = dice.choice((0.0, 0.5))
    return [
        work._replace(
            spec=msgspec.structs.replace(
                work.spec,
                tasks=tuple(
                    msgspec.structs.replace(spec, parallel=dice.choice((1, 2)))
                    if _serial_s(spec) < SERIAL_S and dice.random() < bound
                    else spec
                    for spec in work.spec.tasks
                ),
            )
        )
        for work in works
    ]


def _serial_s(spec: TaskSpec) -> float:
    """What the tasks of an array take one after the other, with every try; of others that is no matter."""
    tries = spec.retries + spec.infra_retries + 1
    return spec.width * tries * float(spec.argv[1]) if spec.array_count else math.inf


def _job(
    dice: random.Random, n: int, exclusive: float, once: float, noise: float, long: float
) -> JobSpec:
    specs: list[TaskSpec] = []
    for t in range(dice.choice((1, 2, 3, 5))):
        needs = tuple(
            Need(other.name, dice.choice((On.SUCCESS, On.SUCCESS, On.DONE, On.FAILURE)))
            for other in specs
            if dice.random() < 0.35
        )
        gang = dice.random() < 0.12
        spec = TaskSpec(
            name=f"t{t}",
            argv=_program(dice, noise, long),
            requirements=_requirements(dice),
            num_nodes=2 if gang else 1,
            priority=dice.choice(list(Priority)),
            needs=needs,
            retries=dice.choice((0, 0, 1, 3)),
            infra_retries=dice.choice((0, 1, 3, 5)),
            timeout_s=dice.choice((None, None, 5.0, 60.0)),
            queue_timeout_s=dice.choice((None, None, None, 60.0)),
            grace_s=dice.choice((1.0, 3.0, 8.0)),
            delivery=Delivery.AT_MOST_ONCE if dice.random() < once else Delivery.AT_LEAST_ONCE,
            exclusive=dice.random() < exclusive,
            array_count=dice.choice((None, None, None, 2, 4)) if not gang else None,
        )
        specs.append(_in_time(spec))
    return JobSpec(f"job{n}", tuple(specs), dice.choice(list(OnFailure)))


_OTHER_CPUS = {500: 1_000, 1_000: 2_000, 2_000: 500}


def _requirements(dice: random.Random) -> Requirements:
    """Some have alternatives, which no agent may confuse: of dice of their own, so that all else is as without."""
    own = random.Random()
    own.setstate(dice.getstate())
    own.seed(own.random())
    first = _one(dice)
    if own.random() < 0.75:
        return first
    other = msgspec.structs.replace(_one(own), cpus_milli=_OTHER_CPUS[first.cpus_milli])
    return msgspec.structs.replace(first, any_of=(first, other), ordered=own.random() < 0.5)


def _one(dice: random.Random) -> Requirements:
    return Requirements(
        cpus_milli=dice.choice((500, 1_000, 2_000)), memory_bytes=dice.choice((0, GIB))
    )


def _in_time(spec: TaskSpec) -> TaskSpec:
    """All its tries may share one line: what they print together is no more than one flood."""
    *words, out, err = spec.argv
    tries = spec.width * spec.num_nodes * (spec.retries + 1)
    out = min(int(out), FLOOD_BYTES // tries)
    return msgspec.structs.replace(spec, argv=(*words, str(out), err))


def _program(dice: random.Random, noise: float, long: float) -> tuple[str, ...]:
    """What the simulated kernel runs: see `tests.sim.kernel`."""
    seconds = min(
        150.0, dice.expovariate(1 / long)
    )  # with every retry it ends before the reckoning
    code = dice.choice((0, 0, 0, 0, 1, 3))
    out = int(dice.expovariate(1 / 2_000)) if dice.random() < noise else 0
    if out and dice.random() < 0.05:
        out = min(200 * out, FLOOD_BYTES)  # more than a small spool holds
    err = int(dice.expovariate(1 / 300)) if dice.random() < noise else 0
    return ("work", f"{seconds:.3f}", str(code), str(out), str(err))
