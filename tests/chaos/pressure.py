"""Clients that ask for too much: bodies, connections without end, more of them than there are files."""

import socket
import time
from contextlib import suppress
from typing import Final

from tests.chaos.report import Report
from tests.chaos.rig import Agent, Rig, Server
from tests.chaos.vitals import Vitals
from tests.support.site import until

FILES: Final = 256
LIMITED: Final = ("sh", "-c", f'ulimit -n {FILES} && exec "$0" "$@"')
BODY_BYTES: Final = 64 << 20
BYTE_EVERY_S: Final = 10.0
LONG_S: Final = 120.0
HOLD_S: Final = 5.0


def body(site: Rig, report: Report) -> None:
    """A body of 64 MiB, announced and not, several at once."""
    site.start(1)
    site.join(1, "--cpus", "100")
    vitals = Vitals(site)
    found: list[str] = []
    with site.client(LONG_S) as client:
        for _ in range(4):
            answer = client.ask("POST", "/api/v1/jobs", b" " * BODY_BYTES)
            if answer.status != 413:
                found.append(f"{answer.status}: {answer.body[:200]!r}")
    report.promise("body: 64 MiB answered other than 413", found)
    vitals.tell(report, "body")


def slow(site: Rig, report: Report, connections: int, seconds: float) -> None:
    """Clients that send a byte in ten seconds: half of them in the head, half in the body."""
    site.start(1)
    site.join(1, "--cpus", "100")
    vitals = Vitals(site)
    opened = [_trickle(site.servers[0], bool(i % 2)) for i in range(connections)]
    end = time.monotonic() + max(seconds, BYTE_EVERY_S + HOLD_S)
    while (left_s := end - time.monotonic()) > 0:
        time.sleep(min(BYTE_EVERY_S, left_s))
        for each in opened:
            with suppress(OSError):
                each.send(b"x")
    report.figure("slow: connections", len(opened))
    vitals.tell(report, "slow")
    for each in opened:
        each.close()


def files(site: Rig, report: Report) -> None:
    """256 open files for the server and for the agent; more connections and more tasks than that."""
    site.postgres.start()
    server = Server(site, 1)
    server.within = LIMITED
    site.servers = [server]
    server.start()
    until(site.leader, "a server is ready")
    agent = Agent(site, "few", "--cpus", "1000")
    agent.within = LIMITED
    site.agents = [agent]
    agent.start()
    until(lambda: site.ready_agents() == 1, "the agent is ready")
    vitals = Vitals(site)
    with site.client(LONG_S) as client:
        nap = {
            "run": "sleep 3",
            "array": 2 * FILES,
            "resources": {"cpus": 0.1},
            "infra_retries": 50,
        }
        job_id = client.settle("POST", "/api/v1/jobs", {"tasks": {"nap": nap}}).json()["job_id"]
        opened = [socket.create_connection((server.host, server.port)) for _ in range(2 * FILES)]
        time.sleep(HOLD_S)
        for each in opened:
            each.close()
        path = f"/api/v1/jobs/{job_id}?wait=30"
        until(lambda: client.get(path)["status"] != "running", "all over", deadline_s=2 * LONG_S)
        report.figure(
            "files: tasks / connections / allowed", f"{2 * FILES} / {2 * FILES} / {FILES}"
        )
        counts = client.get(path)["counts"]
    wrong = {what: n for what, n in counts.items() if n and what not in {"succeeded", "total"}}
    report.promise("files: tasks that did not succeed", [f"{wrong}"] if wrong else [])
    vitals.tell(report, "files")


def _trickle(server: Server, in_body: bool) -> socket.socket:
    one = socket.create_connection((server.host, server.port))
    one.sendall(
        b"POST /api/v1/tasks HTTP/1.1\r\nHost: %s:%d\r\n" % (server.host.encode(), server.port)
    )
    if in_body:
        one.sendall(b"Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{")
    return one
