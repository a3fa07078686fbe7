"""All that is known of a run once it is over: what was asked, what Styx says, what really happened.

It can be written to a directory and read again, so that a verdict can be reached anew.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec


class Submit(msgspec.Struct):
    """One that was acknowledged. `names` has the ids of each task's elements."""

    key: str
    path: str
    document: Any
    job_id: str
    names: dict[str, list[str]]
    asked: int = 1  # requests that it took

    def spec(self, name: str) -> dict[str, Any]:
        tasks = self.document.get("tasks")
        spec: dict[str, Any] = tasks[name] if tasks else self.document
        return spec


class Life(msgspec.Struct):
    """One attempt by the ledger: the positions of its marks, which tell their order."""

    starts: list[int] = []
    started_s: float = 0.0  # since boot
    marks: list[int] = []  # all of them
    ends: list[int] = []
    code: int | None = None


class Evidence(msgspec.Struct):
    submits: list[Submit]
    jobs: list[str]  # every job that Styx lists
    tasks: dict[str, Any]  # as the API shows them, with their attempts
    output: dict[str, tuple[str, str]]  # of each attempt: both streams, as stored
    ledger: list[str]
    cancelled: list[str]  # tasks and jobs whose cancel was acknowledged
    supervisor_kills: list[tuple[str, float]]  # the agent's name and seconds since boot
    orphans: list[str]
    refused: list[str] = []  # answers that nobody should get
    history: list[tuple[float, str]] = []

    def lives(self) -> dict[str, Life]:
        """By attempt key."""
        found: dict[str, Life] = defaultdict(Life)
        for position, line in enumerate(self.ledger):
            word, key, *rest = line.split()
            life = found[key]
            life.marks.append(position)
            if word == "start":
                life.starts.append(position)
                life.started_s = float(rest[1])
            elif word == "end":
                life.ends.append(position)
                life.code = int(rest[0])
        return dict(found)

    def write(self, directory: Path) -> None:
        (directory / "evidence.json").write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, directory: Path) -> "Evidence":
        return msgspec.json.decode((directory / "evidence.json").read_bytes(), type=cls)
