"""What /metrics says: the figures are right, every one is declared, and no label carries an id."""

import re
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as read_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as read_text

from styx.api import measures, server
from styx.api.alone import Alone
from styx.api.follower import Follower
from styx.config import Config
from styx.core.task import Reason
from styx.errors import WriteRefused
from styx.kit.lag import Lag
from styx.store import pool
from styx.wire import agent as wire
from tests.api.conftest import TOKEN, ended, serving, started, wrote
from tests.engine.test_replica import two
from tests.support.engines import until

LABELS = {"state", "reason", "why", "code", "route", "method", "status", "version", "python"}
WORD = re.compile(r"[a-z_]+|[A-Z]+|[1-5]xx|[0-9][0-9.a-z+]*|/[a-z0-9/_.{}-]*")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}")


class Scraped:
    def __init__(self, families: Iterator[Any]) -> None:
        self.families = list(families)
        self.samples = {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in self.families
            for sample in family.samples
        }

    def __call__(self, name: str, **labels: str) -> float:
        """0.0 where there is no such sample: what never happened may be absent."""
        return self.samples.get((name, tuple(sorted(labels.items()))), 0.0)


async def scrape(site) -> Scraped:
    answer = await site.http.get("/metrics")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scraped(read_text(answer.text))


async def a_day_at_work(site, agent) -> None:
    """One task succeeds, one fails, one waits for ever, one is blocked; one request is refused."""
    good = await started(agent, await site.submit(name="good"))
    await wrote(agent, good, b"hello\n")
    await ended(agent, good, code=0, ran_ms=2_500, out_bytes=6)
    bad = await started(agent, await site.submit(name="bad"))
    agent.say(wire.Gap(bad, 1, 0, 100, "spool full"))
    await agent.hear(wire.LogOk, lambda ok: (ok.key, ok.next) == (bad, 100))
    await ended(agent, bad, code=3, ran_ms=20, out_bytes=100)
    await site.submit(name="big", resources={"cpus": 64})
    await site.post(
        "/jobs",
        {
            "tasks": {
                "first": {"command": "true", "resources": {"cpus": 64}},
                "then": {"command": "true", "needs": ["first"]},
            }
        },
    )
    await started(agent, await site.submit(name="now", resources={"memory": "64MiB"}))
    await site.refused(404, "GET", "/api/v1/tasks/nosuch")


async def test_the_figures_are_right(site, agent):
    await a_day_at_work(site, agent)
    seen = await scrape(site)
    states = ("ready", "blocked", "active")
    assert [seen("styx_tasks", state=s) for s in states] == [2, 1, 1]
    assert seen("styx_tasks_submitted_total") == 6
    reached = "styx_task_transitions_total"
    assert seen(reached, state="active", reason="none") == 3
    assert seen(reached, state="succeeded", reason="none") == 1
    assert seen(reached, state="failed", reason="task") == 1
    assert seen("styx_task_wait_seconds_count") == 3
    assert seen("styx_attempt_run_seconds_count") == 2
    assert seen("styx_attempt_run_seconds_sum") == pytest.approx(2.52)
    assert seen("styx_attempt_run_seconds_bucket", le="0.1") == 1
    assert seen("styx_attempt_run_seconds_bucket", le="10.0") == 2
    assert seen("styx_attempt_run_seconds_bucket", le="+Inf") == 2
    assert seen("styx_agents", state="ready") == seen("styx_agent_sessions") == 1
    assert seen("styx_capacity_cpus") == 2
    assert seen("styx_capacity_memory_bytes") == 8 << 30
    assert seen("styx_held_cpus") == 1
    assert seen("styx_held_memory_bytes") == 64 << 20
    assert seen("styx_log_bytes_total") == 6
    assert seen("styx_log_dropped_bytes_total", why="gone") == 100
    assert seen("styx_log_gaps_total") == 1
    assert (seen("styx_leader"), seen("styx_term")) == (1, site.database.term)
    assert seen("styx_turn_events_count") == seen("styx_turn_seconds_count") > 0
    assert 0 < seen("styx_turn_commit_seconds_count") <= seen("styx_turn_seconds_count")
    tasks = {"route": "/api/v1/tasks", "method": "POST"}
    assert seen("styx_http_requests_total", status="2xx", **tasks) == 4
    assert seen("styx_http_request_duration_seconds_count", **tasks) == 4
    one = {"route": "/api/v1/tasks/{id}", "method": "GET"}
    assert seen("styx_http_requests_total", status="4xx", **one) == 1
    assert seen("styx_http_refusals_total", code="not_found") == 1
    assert seen("styx_http_open_requests") == 1


async def test_what_is_shown_is_what_is_declared(site, agent):
    await a_day_at_work(site, agent)
    seen = await scrape(site)
    shown = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in seen.families
        if family.samples and not family.name.startswith("process_")
    }
    assert shown == {measure.name for measure in measures.ALL}
    kinds = {measure.name.removesuffix("_total"): measure.kind for measure in measures.ALL}
    for family in seen.families:
        assert family.type == kinds.get(family.name, family.type)


async def test_labels_are_words_of_ours(site, agent):
    await a_day_at_work(site, agent)
    await site.http.get("/api/v1/nosuch/019a")
    await site.http.request("BREW", "/api/v1/tasks")
    for name, labels in (await scrape(site)).samples:
        said = {key: value for key, value in labels if key != "le"}
        if name.startswith("styx_"):
            assert said.keys() <= LABELS, name
            assert all(WORD.fullmatch(value) for value in said.values()), (name, said)
        assert not UUID.search(str(said))


def test_names_follow_the_conventions():
    for name, kind, about, labels, _ in measures.ALL:
        assert re.fullmatch(r"styx_[a-z_]+", name)
        assert (kind == "counter") == name.endswith("_total")
        assert not re.search(r"_(ms|mb|kb|mib|minutes|percent)(_|$)", name)
        assert about.endswith(".")
        assert set(labels) <= LABELS
    assert measures.CLASSES.keys() == set(Reason)


async def test_openmetrics_for_those_who_accept_it(site, agent):
    await a_day_at_work(site, agent)
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    answer = await site.http.get("/metrics", headers=accept)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    assert Scraped(read_openmetrics(answer.text))("styx_tasks_submitted_total") == 6


async def test_what_the_database_s_guards_refuse_is_counted(site):
    name = "styx_db_guard_violations_total"
    before = (await scrape(site))(name)
    await site.submit()
    with pytest.raises(WriteRefused):
        async with pool.using(site.database.writers) as connection:
            await connection.execute("UPDATE tasks SET attempt = 7")
    assert (await scrape(site))(name) == before + 1


async def test_it_takes_a_token(site):
    await site.refused(401, "GET", "/metrics", headers={"authorization": "Bearer no"})


async def test_a_big_job_counts_at_once(site):
    await site.submit(array=6_000, resources={"cpus": 64})
    await until(lambda: len(site.engine.world.tasks) == 6_000)
    seen = await scrape(site)
    assert seen("styx_tasks_submitted_total") == 6_000
    assert sum(seen("styx_tasks", state=s) for s in ("ready", "blocked", "active")) == 6_000


async def test_a_standby_answers_for_itself(database_url, tmp_path):
    async with two(database_url, tmp_path) as (first, second, pools):
        config = Config(home=str(tmp_path))
        follower = Follower(second, TOKEN, Alone(pools, config))
        app = server.gate(follower, config, TOKEN, Lag(time.monotonic))
        bearer = {"authorization": f"Bearer {TOKEN}"}
        async with serving(app) as (url, _), httpx.AsyncClient(base_url=url) as client:
            for _ in range(2):
                answer = await client.get("/metrics", headers=bearer)
            seen = Scraped(read_text(answer.text))
            assert first.engine is not None
            assert (seen("styx_leader"), seen("styx_term")) == (0, first.engine.store.term)
            own = {"route": "/metrics", "method": "GET", "status": "2xx"}
            assert seen("styx_http_requests_total", **own) == 1
            leaders = {measure.name for measure in measures.ALL if measure.leading}
            assert not leaders & {f.name + "_total" * (f.type == "counter") for f in seen.families}
