"""Secrets over HTTP and on the agents' socket: what goes in comes out in one place, an assignment."""

from datetime import timedelta
from typing import Any

import pytest

from styx.config import Config
from styx.config import Secrets as Settings
from styx.core.job import PROJECT
from styx.core.task import Reason
from styx.core.world import World
from styx.engine.loop import utc_now
from styx.engine.secrets import Secrets
from styx.errors import Conflict
from styx.kit.envelope import new_key
from styx.store import pool
from styx.store.masterkeys import MasterKeys
from styx.store.secrets import SecretRows
from styx.wire import agent as wire
from tests.api.conftest import Site, started
from tests.support import peer

PATH = "/api/v1/secrets"
CANARY = "canary-0123456789abcdef"


async def put(site: Site, name: str, value: str = CANARY, status: int = 201) -> dict[str, Any]:
    answer = await site.http.put(f"{PATH}/{name}", json={"value": value})
    assert answer.status_code == status, answer.text
    assert value not in answer.text
    return answer.json()


async def dumped(site: Site) -> str:
    """Every row of every table, as text."""
    async with pool.using(site.database.readers) as connection:
        tables = await connection.fetch(
            "SELECT format('%I', tablename) FROM pg_tables WHERE schemaname = 'public'"
        )
        rows = [await connection.fetch(f"SELECT t::text FROM {name} t") for (name,) in tables]
    return "\n".join(row[0] for of_table in rows for row in of_table)


async def test_put_look_and_delete(site: Site) -> None:
    made = await put(site, "hf-prod")
    assert (made["name"], made["created_by"]) == ("hf-prod", made["updated_by"])
    again = await put(site, "hf-prod", status=200)
    assert again["id"] == made["id"]
    assert again["updated_at"] > made["updated_at"]
    await put(site, "other", "short")
    assert await site.get("/secrets/hf-prod") == again
    page = await site.http.get(f"{PATH}?limit=1")
    assert page.json() == [again]
    [rest] = (await site.http.get(page.links["next"]["url"])).json()
    assert rest["name"] == "other"
    dump = await dumped(site)
    assert "hf-prod" in dump
    assert not any(form in dump for form in (CANARY, CANARY.encode().hex()))
    gone = await site.http.delete(f"{PATH}/hf-prod")
    assert (gone.status_code, gone.json()) == (200, again)
    for method in ("GET", "DELETE"):
        await site.refused(404, method, f"{PATH}/hf-prod")
    told = [(entry["action"], entry["object_id"]) for entry in await site.get("/audit")]
    assert [entry for entry in told if entry[0].startswith("secret")] == [
        ("secret.set", "hf-prod"),
        ("secret.set", "hf-prod"),
        ("secret.set", "other"),
        ("secret.delete", "hf-prod"),
    ]


@pytest.mark.parametrize(
    ("name", "body", "path"),
    [
        ("A", {}, "value"),
        ("A", {"value": ""}, "value"),
        ("A", {"value": f"{CANARY}\0"}, "value"),
        ("A", {"value": [CANARY]}, "value"),
        ("A", {"value": CANARY * 3_000}, "value"),
        ("A", [CANARY], "value"),
        ("A", {"value": CANARY, "vlaue": CANARY}, "vlaue"),
        ("no%20name", {"value": CANARY}, "name"),
    ],
)
async def test_what_cannot_be_kept_is_not_shown(
    empty: Site, name: str, body: object, path: str
) -> None:
    problem = await empty.refused(422, "PUT", f"{PATH}/{name}", json=body)
    assert [error["path"] for error in problem["errors"]] == [path]
    assert CANARY not in str(problem)


async def test_a_task_of_an_unknown_secret_is_refused_with_the_cure(empty: Site) -> None:
    task = {"run": "true", "secrets": {"TOKEN": "hf-prod"}}
    problem = await empty.refused(422, "POST", "/api/v1/tasks", json=task)
    [error] = problem["errors"]
    assert error["path"] == "secrets.TOKEN"
    assert "styx secret set hf-prod" in error["message"]
    document = {"schedule": "0 2 * * *", "tasks": {"a": task}}
    await empty.refused(422, "PUT", "/api/v1/schedules/nightly", json=document)


async def test_the_value_reaches_the_task_and_nothing_else(site: Site) -> None:
    await put(site, "hf-prod", "an-old-one")
    async with peer.connected(site.engine, secrets=site.secrets) as agent:
        await agent.introduce(cpus=4)
        first = await site.submit(secrets={"TOKEN": "hf-prod"})
        assert (await agent.hear(wire.Assign)).secrets == {"TOKEN": "an-old-one"}
        await put(site, "hf-prod", status=200)
        second = await site.submit(secrets={"TOKEN": "hf-prod"}, name="t")
        plain = await site.submit()
        by_task = {
            assign.key.task_id: assign for assign in [await agent.hear(wire.Assign) for _ in "12"]
        }
        assert by_task[second].secrets == {"TOKEN": CANARY}
        assert by_task[plain].secrets == {}
    shown = [await site.get(f"/tasks/{second}{part}") for part in ("", "/events", "/explain")]
    metrics = (await site.http.get("/metrics")).text
    assert CANARY not in str([*shown, await site.get("/audit"), metrics, await dumped(site)])
    assert shown[0]["id"] == second != first


async def test_without_its_secret_a_task_fails_and_says_why(site: Site) -> None:
    await put(site, "TOKEN")
    task = await site.submit(secrets=["TOKEN"])
    await site.http.delete(f"{PATH}/TOKEN")
    async with peer.connected(site.engine, secrets=site.secrets) as agent:
        await agent.introduce()
        assign = await agent.hear(wire.Assign)
        assert assign.secrets == {}
        assert "'TOKEN'" in assign.secret_missing
        end = peer.Exit(reason=Reason.SECRET_MISSING, detail=assign.secret_missing)
        agent.say(wire.EvAccepted(assign.key), wire.EvExited(assign.key, end))
        await agent.hear(wire.EvOk, lambda ok: ok.kind == "exited")
    shown = await site.get(f"/tasks/{task}/explain")
    assert (shown["status"], shown["hint"]) == ("failed", "set the secret, then: styx retry ID")
    assert (await site.get(f"/tasks/{task}"))["reason"] == "secret_missing"


async def test_whoever_holds_such_a_task_is_told_what_to_mask(site: Site) -> None:
    await put(site, "TOKEN")
    async with peer.connected(site.engine, secrets=site.secrets) as agent:
        await agent.introduce()
        key = await started(agent, await site.submit(secrets=["TOKEN"]))
        assert agent.unheard(wire.Redact) == []
    async with peer.connected(site.engine, secrets=site.secrets) as agent:
        await agent.introduce(peer.running(key))
        told = agent.unheard(wire.Redact)  # before the answer to its sync
        assert told == [wire.Redact((key,), (CANARY,))]
        assert CANARY not in repr(told)
        agent.say(wire.EvExited(key, peer.Exit(code=0, out_bytes=10)))
        await agent.hear(wire.EvOk, lambda ok: ok.kind == "exited")
    # Its task is over, and a server that begins now does not know it; some output is still to come.
    assert await site.secrets.redactions([key], World()) == told


async def test_a_value_for_one_job_is_that_job_s_and_goes_with_it(site: Site) -> None:
    made = await site.post("/job-secrets", {"values": {"TOKEN": CANARY}})
    assert CANARY not in str(made)
    task = {"command": "true", "secrets": made["names"]}
    async with peer.connected(site.engine, secrets=site.secrets) as agent:
        await agent.introduce()
        asked = await site.post("/tasks", task, headers={"idempotency-key": "k"})
        assign = await agent.hear(wire.Assign)
        assert assign.secrets == {"TOKEN": CANARY}
        assert CANARY not in str([await site.get(f"/tasks/{asked['task_id']}"), await dumped(site)])
        again = await site.post("/tasks", task, status=200, headers={"idempotency-key": "k"})
        assert again["task_id"] == asked["task_id"]
        assert await site.get("/secrets") == []
        problem = await site.refused(422, "POST", "/api/v1/tasks", json=task)
        assert "for one job" in problem["detail"]
        document = {"schedule": "0 2 * * *", "tasks": {"a": task}}
        await site.refused(422, "PUT", "/api/v1/schedules/nightly", json=document)
        rows = SecretRows(site.database, MasterKeys(Config()))
        later = utc_now() + timedelta(hours=1)
        assert await rows.sweep(later) == 0  # it runs
        agent.say(wire.EvAccepted(assign.key), peer.an_end(assign.key))
        await agent.hear(wire.EvOk, lambda ok: ok.kind == "exited")
    assert await rows.sweep(utc_now() - timedelta(hours=1)) == 0  # some output may be on its way
    assert await rows.sweep(later) == 1
    actions = [(entry["action"], entry["object_id"]) for entry in await site.get("/audit")]
    assert ("secret.give", "TOKEN") in actions


async def test_keys_that_are_wrong_wanting_or_old(site: Site) -> None:
    async def values(**settings: str) -> str:
        found = await rows(**settings).values(PROJECT, ["TOKEN"])
        return found["TOKEN"].value or found["TOKEN"].wanting

    def rows(**settings: str) -> SecretRows:
        config = Config(home="/nowhere", secrets=Settings(**settings))
        return SecretRows(site.database, MasterKeys(config))

    def kept(**settings: str) -> Secrets:
        return Secrets(rows(**settings), clock=utc_now, monotonic=lambda: 0.0)

    old, new = new_key(), new_key()
    made = await kept(key=old).put("TOKEN", CANARY, "us")
    assert await values(key=f"{new} {old}") == CANARY
    assert f"the key {made.key_id}, which this server has not got" in await values(key=new)
    assert await values(key="hunter2") == (
        "the server's keys of secrets cannot be used: key 1 is not the base64 of 32 bytes"
    )
    assert await values() == "/nowhere/secret-key is gone, under whose key the secrets are sealed"
    with pytest.raises(Conflict, match="1 secrets are sealed under keys"):
        await kept(key=new).rotate("us")
    assert await kept(key=f"{new} {old}").rotate("us") == 1
    assert await values(key=new) == CANARY
    assert await kept(key=new).rotate("us") == 0
