"""`styx simulate`: what a fleet would make of a workload, decided by the real scheduler."""

import gc
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager

import click
import msgspec

from styx.cli import exits, render, talk
from styx.cli.render import Column
from styx.errors import InvalidSpec
from styx.file import read as files
from styx.simulate import form, report
from styx.simulate.run import Simulation
from styx.simulate.tally import Sample

_BARS = " ▁▂▃▄▅▆▇█"
_SAMPLES = 60  # as many columns as a line of bars has
_PROGRESS_S = 0.2


class Row(msgspec.Struct, frozen=True):
    cells: tuple[str, ...]


@click.command()
@click.argument("file", type=click.Path(allow_dash=True))
@click.option("--seed", type=int, default=0, show_default=True, help="Of everything random.")
@click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json", "jsonl", "yaml"]),
    default="table",
    show_default=True,
    help="How to print.",
)
def simulate(file: str, seed: int, output: str) -> int:
    """Run the scheduler in virtual time over the fleet and workload of FILE (YAML, TOML or JSON; - is
    standard input), and report waits, utilisation, cost, and what deciding takes.

    Needs no server. One file and one seed give one result, but for the time that deciding took.
    """
    document = files.read(
        file,
        expected="a fleet and a workload: `agents` and `workloads`",
        example="docs/simulate.md has one with every field",
    )
    try:
        plan = form.check(document.content)
    except InvalidSpec as error:
        raise document.located(error) from error
    simulation = Simulation(plan, seed=seed, clock=time.process_time)
    with talk.passing("simulating …"), _no_cycles():
        simulation.run(_progress(sum(workload.tasks for workload in plan.workloads)))
    found = report.of(simulation, seed)
    if output == "table":
        for line in _page(found):
            render.line(line)
    else:
        render.value(found, output)
    if found.unfinished:
        talk.warn(f"{found.unfinished:,} tasks never ended: no agent that could run them was left")
        return exits.NO
    return exits.FINE


@contextmanager
def _no_cycles() -> Generator[None]:
    """Nothing in a run refers to itself, and looking for such among a million rows takes a third of it."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _progress(tasks: int) -> Callable[[int], None]:
    """Tells now and then how far it is; only on a terminal."""
    next_s = time.monotonic() if talk.interactive() else float("inf")

    def told(ended: int) -> None:
        nonlocal next_s
        if (now_s := time.monotonic()) >= next_s:
            next_s = now_s + _PROGRESS_S
            talk.status_line(f"simulating … {ended:,} of {tasks:,} tasks")

    return told


def _page(found: report.Report) -> Iterator[str]:
    ends = ", ".join(f"{count:,} {state}" for state, count in found.ends.items())
    yield f"{found.tasks:,} tasks ({ends}) in {render.duration(found.makespan_s)}, {_usd(found.cost_usd)}"
    yield (
        f"{found.tries.placed:,} tries, {found.tries.retries:,} retries; in use: cpus {_share(found.cpus)}, "
        f"memory {_share(found.memory)}, gpus {_share(found.gpus)}"
    )
    yield ""
    yield from _table(
        ("PRIORITY", *_WAITS), [(one.priority, *_waits(one.waits)) for one in found.priorities]
    )
    yield ""
    yield from _table(
        ("WORKLOAD", *_WAITS, "FAILED", "UNFINISHED"),
        [
            (one.name, *_waits(one.waits), f"{_failed(one):,}", f"{one.unfinished:,}")
            for one in found.workloads
        ],
    )
    yield ""
    yield from _table(
        ("AGENTS", "MOST", "HOURS", "COST", "FAILURES", "CPUS", "MEMORY", "GPUS"),
        [_group(one) for one in found.agents],
    )
    if found.over_time:
        yield ""
        yield from _over_time(found.over_time, found.makespan_s)
    yield ""
    yield from _core(found.core)


_WAITS = ("STARTED", "WAIT P50", "P90", "P99", "MAX")


def _waits(waits: report.Waits) -> tuple[str, ...]:
    times = (waits.p50_s, waits.p90_s, waits.p99_s, waits.max_s)
    return (f"{waits.tasks:,}", *("–" if t is None else render.duration(t) for t in times))


def _failed(one: report.WorkloadReport) -> int:
    return sum(one.ends.values()) - one.ends.get("succeeded", 0)


def _group(one: report.GroupReport) -> tuple[str, ...]:
    return (
        one.name,
        f"{one.agents_most:,}",
        f"{one.agent_hours:,.0f}",
        _usd(one.cost_usd),
        f"{one.failures:,}",
        _share(one.cpus),
        _share(one.memory),
        _share(one.gpus),
    )


def _over_time(samples: Sequence[Sample], last_s: float) -> Iterator[str]:
    """The samples as bars; each of a level, or of a share of the highest."""
    chosen = [_at(samples, last_s * n / (_SAMPLES - 1)) for n in range(_SAMPLES)]
    most = max(sample.queued for sample in samples)
    yield f"{'over time':<10}0 … {render.duration(last_s)}"
    yield f"{'cpus':<10}{_bars([sample.cpus or 0.0 for sample in chosen])}"
    if any(sample.gpus is not None for sample in samples):
        yield f"{'gpus':<10}{_bars([sample.gpus or 0.0 for sample in chosen])}"
    if most:
        bars = _bars([sample.queued / most for sample in chosen])
        yield f"{'queued':<10}{bars}  most: {most:,}"


def _at(samples: Sequence[Sample], moment_s: float) -> Sample:
    return next(one for one in reversed(samples) if one.at_s <= moment_s or one is samples[0])


def _bars(shares: Sequence[float]) -> str:
    return "".join(_BARS[min(8, round(max(0.0, share) * 8))] for share in shares).rstrip()


def _core(core: report.CoreReport) -> Iterator[str]:
    each = core.us_per_placed_task
    yield (
        f"the scheduler itself, CPU time on this machine: {core.turns:,} turns of {core.mean_ms:.2f} ms on average, "
        f"p99 {core.p99_ms:.1f} ms, longest {core.max_ms:.0f} ms"
    )
    if each is not None:
        yield f"{core.total_s:.1f} s in all, {each:.0f} µs for each placed task"


def _table(titles: Sequence[str], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    columns = [
        Column(title, lambda row, n=n: row.cells[n], right=n > 0) for n, title in enumerate(titles)
    ]
    yield from render.table([Row(cells) for cells in rows], columns)


def _share(part: float | None) -> str:
    return "–" if part is None else f"{part:.1%}"


def _usd(amount: float) -> str:
    return f"${amount:,.2f}"
