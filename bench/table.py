"""What a section measures, and how it is written down: as Markdown, as JSON, beside an earlier run.

A row is a figure beside what it is to be judged by: its budget, the floor of the machine, the peers. Ratios
are of figures from the same run on the same machine, so that the machine cancels out.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.measure import Figure, short

COLUMNS: Final = ("what", "budget", "floor", "peers", "Styx", "ratio", "met", "`python -m bench` …")
NOISY: Final = 0.15  # a machine that moved by more during a section
MOVED: Final = 0.20  # a ratio that moved by more is another result
BUDGET: Final = "budget"  # the name of its ratio
MEMORY: Final = "MiB"
BEGIN: Final = "<!-- written by bench: begin -->"
END: Final = "<!-- written by bench: end -->"


@dataclass(frozen=True)
class Budget:
    """The most (or, with `least`, the least) that is allowed: of the figure, or of a ratio."""

    limit: float
    least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.least else '≤'} {_number(self.limit)}"


@dataclass(frozen=True)
class Beside:
    """What a figure is a ratio of, in the figure's unit; without one, `missing` says why."""

    name: str
    figure: Figure | None
    budget: Budget | None = None  # of the ratio
    missing: str = ""
    peer: bool = False

    def ratio(self, figure: Figure) -> float | None:
        return figure.over(self.figure) if self.figure else None


@dataclass(frozen=True)
class Row:
    """`name` is for good: an earlier run is compared by it. A row without a figure says why in `note`."""

    name: str
    what: str
    unit: str
    figure: Figure | None
    budget: Budget | None = None
    beside: tuple[Beside, ...] = ()
    note: str = ""

    def verdicts(self) -> Iterator[bool]:
        """One for each budget that can be judged."""
        if self.figure is None:
            yield False  # it was to be measured, and could not be
            return
        if self.budget is not None:
            yield self.budget.met(self.figure.value)
        for other in self.beside:
            ratio = other.ratio(self.figure)
            if ratio is not None and other.budget is not None:
                yield other.budget.met(ratio)

    @property
    def met(self) -> bool | None:
        verdicts = [*self.verdicts()]
        return all(verdicts) if verdicts else None

    def ratios(self) -> dict[str, float]:
        """By what each is a ratio of; of the budget, where there is nothing else."""
        if self.figure is None:
            return {}
        found = ((other.name, other.ratio(self.figure)) for other in self.beside)
        known = {name: ratio for name, ratio in found if ratio is not None}
        if not known and self.budget is not None:
            return {BUDGET: self.figure.value / self.budget.limit}
        return known


@dataclass(frozen=True)
class Section:
    """The rows of one command, and how the machine did meanwhile."""

    name: str
    rows: list[Row]
    spin_before_s: float
    spin_after_s: float
    took_s: float

    @property
    def noise(self) -> float:
        """By which part the calibration moved."""
        return self.spin_after_s / self.spin_before_s - 1

    @property
    def noisy(self) -> bool:
        return abs(self.noise) > NOISY


def heading() -> str:
    return f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}"


def line(row: Row, section: str, *, noisy: bool = False) -> str:
    budgets = [str(row.budget) + f" {row.unit}".rstrip()] if row.budget else []
    budgets += [f"{b.budget} × {b.name}" for b in row.beside if b.budget]
    styx = f"{row.figure} {row.unit}".rstrip() if row.figure else "no figure"
    met = {True: "yes", False: "**no**", None: ""}[row.met] + (" (noisy)" if noisy else "")
    cells = (
        row.what,
        "; ".join(budgets),
        _besides(row, peer=False),
        _besides(row, peer=True),
        f"{styx}; {row.note}" if row.note else styx,
        ", ".join(f"{ratio:.2f} × {name}" for name, ratio in row.ratios().items()),
        met.strip(),
        f"`{section}`",
    )
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def noise(sections: Iterable[Section]) -> str:
    """How much the machine changed under each section."""
    parts = [
        f"{s.name} {1e3 * s.spin_before_s:.0f} → {1e3 * s.spin_after_s:.0f} ms"
        f" ({s.noise:+.0%}{', noisy' if s.noisy else ''})"
        for s in sections
    ]
    return "Calibration, before → after each section: " + "; ".join(parts) + "."


def markdown(machine: str, sections: list[Section]) -> str:
    lines = [line(row, s.name, noisy=s.noisy) for s in sections for row in s.rows]
    return "\n".join((machine, "", heading(), *lines, "", noise(sections)))


def write(path: Path, text: str) -> None:
    """Between the markers of a page. Raises: ValueError, if it has none."""
    page = path.read_text()
    before, found, rest = page.partition(BEGIN)
    _, ended, after = rest.partition(END)
    if not (found and ended):
        raise ValueError(f"{path} has no place for the table: {BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def raw(machine: str, sizes: dict[str, int], sections: list[Section]) -> dict[str, Any]:
    """All of a run, for `--json` and a later `--against`."""
    rows = {
        f"{section.name}.{row.name}": {
            "what": row.what,
            "unit": row.unit,
            "figure": row.figure and row.figure.value,
            "readings": row.figure and row.figure.readings,
            "beside": {other.name: other.figure and other.figure.readings for other in row.beside},
            "ratios": row.ratios(),
            "met": row.met,
            "note": row.note,
        }
        for section in sections
        for row in section.rows
    }
    took = {s.name: {"took_s": s.took_s, "noise": s.noise} for s in sections}
    return {"machine": machine, "sizes": sizes, "sections": took, "rows": rows}


def changes(before: dict[str, Any], now: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """Each ratio that both runs have: its name, and by which part it moved.

    A ratio of a budget is none of the machine's: it moves with the machine, unless it is one of memory.
    """
    for name, row in now["rows"].items():
        earlier = before["rows"].get(name, {"ratios": {}})["ratios"]
        for of, ratio in row["ratios"].items():
            if earlier.get(of) and (of != BUDGET or row["unit"] == MEMORY):
                yield f"{name} × {of}", ratio / earlier[of] - 1


def against(path: Path, now: dict[str, Any]) -> int:
    """Print what moved since the run in `path`; 1 if something moved too far, 2 if they do not compare."""
    before = json.loads(path.read_text())
    if before["sizes"] != now["sizes"]:
        print(f"{path} is of other sizes: {before['sizes']}")
        return 2
    moves = [*changes(before, now)]
    for name, moved in moves:
        mark = "  MOVED" if abs(moved) > MOVED else ""
        print(f"{moved:+7.1%}  {name}{mark}")
    return int(any(abs(moved) > MOVED for _, moved in moves))


def _besides(row: Row, *, peer: bool) -> str:
    shown = (
        f"{other.name} {short(other.figure.value)} {row.unit}".rstrip() if other.figure
        else f"{other.name}: {other.missing}"
        for other in row.beside
        if other.peer is peer
    )  # fmt: skip
    return "; ".join(shown)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
