"""A whole Styx for a fuzzer to throw things at: a real server, a real Postgres, a real agent with work."""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from tests.support.site import Site, until

# A fuzzer asks faster, and fails to authenticate more often, than anybody whom the limits are for.
SETTINGS: Final = """
[server]
requests_per_token_per_s = 0
failed_auth_per_minute = 0
"""
# The log is JSON, in which a trace is a field.
_FAULT: Final = re.compile(
    r'Traceback|unhandled error|Task exception|"exception"|Error in ASGI|ended by itself|AssertionError'
)


@dataclass
class Rig:
    site: Site
    known: dict[str, list[str]] = field(default_factory=dict)  # tag of the API -> references

    @property
    def token(self) -> str:
        return (self.site.home / "token").read_text().strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.site.port}"

    @property
    def rss_bytes(self) -> int:
        assert self.site.server is not None
        return psutil.Process(self.site.server.pid).memory_info().rss

    def faults(self) -> list[str]:
        """Lines of the server's log that nothing from outside may ever cause."""
        written = (self.site.home / "server.stderr").read_text(errors="replace")
        return [line for line in written.splitlines() if _FAULT.search(line)]

    def seed(self) -> None:
        """Work of every kind, so that there are ids, logs, attempts and a history to ask for."""
        site = self.site
        task = site.submit(name="done", run="echo out; echo err >&2", labels={"team": "a"})
        failed = site.submit(name="failed", run="exit 3")
        many = site.post("/api/v1/tasks", {"name": "many", "command": "true", "array": 3})
        steps: dict[str, Any] = {"a": {"run": "echo a"}, "b": {"run": "exit 1", "needs": ["a"]}}
        job, _ = site.job(steps, name="steps")
        for task_id in (task, failed, *many["task_ids"]):
            site.finished(task_id)
        site.job_finished(job)
        waits = site.submit(name="waits", run="sleep 600")
        nowhere = site.submit(name="nowhere", command="true", resources={"cpus": 4_000})
        agents = site.get("/api/v1/agents")
        self.known = {
            "tasks": [task, failed, waits, nowhere, many["task_ids"][1], "last", "done", "failed"],
            "jobs": [job, "last", "steps", site.task(task)["job_id"]],
            "agents": [str(agent[word]) for agent in agents for word in ("id", "name")],
        }


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


@contextmanager
def running(settings: str = SETTINGS) -> Iterator[Rig]:
    """Everything is gone at the end, whatever happened."""
    with tempfile.TemporaryDirectory(prefix="styx-fuzz-") as home:
        site = Site(Path(home) / "site", settings=settings)
        try:
            site.start()
            until(lambda: site.call("GET", "/api/v1/agents").status == 200, "the server leads")
            site.agent("fuzz")
            yield Rig(site)
        except BaseException:
            say((site.home / "server.stderr").read_text(errors="replace")[-4_000:])
            raise
        finally:
            site.close()
