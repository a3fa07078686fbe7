"""Agents over HTTP."""

from styx.core.ids import AgentId
from styx.wire import agent as wire
from tests.api.conftest import started
from tests.support import peer

SECOND = AgentId("0b000000-0000-7000-8000-000000000002")


async def test_what_an_agent_has_and_what_is_used(site, agent):
    task_id = await site.submit(resources={"cpus": 0.5, "memory": 1})
    await started(agent, task_id)
    load = wire.Load(cpu_percent=12.5, load1=0.5, gpu_percent=(10.0, 20.0))
    agent.say(wire.Heartbeat(1, running=1, load=load))
    await agent.hear(wire.HeartbeatOk)
    shown = await site.get("/agents/agent-1")
    assert (shown["id"], shown["status"], shown["running"]) == (agent.agent_id, "ready", 1)
    assert {"cpus": 2.0, "memory_gib": 8.0}.items() <= shown["resources"].items()
    assert {"cpus": 0.5, "memory_gib": 1.0}.items() <= shown["used"].items()
    assert (shown["load"]["cpu_percent"], shown["load"]["gpu_percent"]) == (12.5, 15.0)
    assert shown["address"] == "10.0.0.1"


async def test_lists_and_references(site, agent):
    assert await site.get("/agents/last")
    async with peer.connected(site.engine, SECOND) as second:
        await second.introduce()
        names = [shown["name"] for shown in await site.get("/agents")]
        assert names == ["agent-1", "agent-2"]
        page = await site.http.get("/api/v1/agents?limit=1")
        assert [shown["name"] for shown in page.json()] == ["agent-1"]
        rest = await site.http.get(page.links["next"]["url"])
        assert [shown["name"] for shown in rest.json()] == ["agent-2"]
        assert (await site.get("/agents/0b00"))["name"] == "agent-2"
        assert await site.get("/agents", status="draining") == []
    problem = await site.refused(404, "GET", "/api/v1/agents/agent-3")
    assert "did you mean" in problem["detail"]
    assert len(await site.get("/agents")) == 2


async def test_drain_and_resume(site, agent):
    drained = await site.post("/agents/agent-1/drain", status=200)
    assert drained["status"] == "draining"
    task_id = await site.submit()
    explained = await site.get(f"/tasks/{task_id}/explain")
    assert [h["code"] for h in explained["hindrances"]] == ["agent_draining"]
    assert "styx resume" in explained["hint"]
    resumed = await site.post("/agents/agent-1/resume", status=200)
    assert resumed["status"] == "ready"
    await started(agent, task_id)
    await site.refused(404, "POST", "/api/v1/agents/nope/drain")
