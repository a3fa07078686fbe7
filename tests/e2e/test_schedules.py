"""A schedule of every few seconds and `kill -9` of the server: its due times are run as it says."""

import time
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from tests.support.site import Site, until

STEP = timedelta(seconds=2)
FILE = """
name: {name}
schedule: {{cron: every 2s, missed: {missed}, overlap: allow}}
run: echo "$STYX_SCHEDULED_AT" >> {ledger}
"""


def test_kill_of_the_server(own: Site, tmp_path: Path) -> None:
    own.start()
    own.agent("one")
    for missed in ("all", "once"):
        put(own, tmp_path, missed)
    begin = due_at(own, "all")
    until(lambda: len(told(tmp_path, "all")) >= 2, "two due times have been run")
    for _ in range(2):
        own.kill()
        time.sleep(3 * STEP.total_seconds())  # so many are missed
        own.start()
    seen = len(told(tmp_path, "all"))
    until(lambda: len(told(tmp_path, "all")) > seen + 3, "it goes on")
    for missed in ("all", "once"):
        own.post(f"/api/v1/schedules/{missed}/pause")
    last = last_due(own, "all")
    every = [begin + n * STEP for n in range((last - begin) // STEP + 1)]
    until(lambda: len(told(tmp_path, "all")) >= len(every), "all have run")
    assert Counter(told(tmp_path, "all")) == Counter(every)
    # Of each outage one: no time twice, and fewer than all.
    last_once = last_due(own, "once")
    until(lambda: last_once in told(tmp_path, "once"), "the last has run")
    once = Counter(told(tmp_path, "once"))
    assert set(once.values()) == {1}
    assert {(due - begin) % STEP for due in once} == {timedelta(0)}
    missed_of_each = 2
    assert len([due for due in once if due <= last]) <= len(every) - 2 * missed_of_each
    shown = own.cli("schedules").stdout.decode()
    assert [line.split()[0] for line in shown.splitlines()] == ["NAME", "all", "once"]
    assert shown.count("paused") == 2


def put(site: Site, tmp_path: Path, missed: str) -> None:
    file = tmp_path / f"{missed}.yaml"
    file.write_text(FILE.format(name=missed, missed=missed, ledger=tmp_path / f"{missed}.ledger"))
    done = site.cli("submit", str(file))
    assert done.returncode == 0, done.stderr
    name, *following = done.stdout.decode().splitlines()
    assert name == missed
    assert len(following) == 3


def told(tmp_path: Path, name: str) -> list[datetime]:
    ledger = tmp_path / f"{name}.ledger"
    lines = ledger.read_text().split() if ledger.exists() else []
    return [datetime.fromisoformat(line) for line in lines]


def shown(site: Site, name: str) -> Any:
    return site.get(f"/api/v1/schedules/{name}")


def due_at(site: Site, name: str) -> datetime:
    """The first that it has, as far as is known: the earliest of its jobs or the next."""
    found = shown(site, name)
    dues = [job["due_at"] for job in found["jobs"]] + [found["due_at"]]
    return min(map(datetime.fromisoformat, dues))


def last_due(site: Site, name: str) -> datetime:
    return datetime.fromisoformat(shown(site, name)["last_due_at"])
