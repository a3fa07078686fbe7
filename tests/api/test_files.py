"""Bundles and blobs over HTTP: only what is missing is sent, everything is checked, nothing wanted goes."""

import hashlib
from typing import Any

from styx.core import bundle
from styx.core.bundle import BLOB_BYTES, Blob, File, Manifest
from tests.api.conftest import Site, ended, started
from tests.support.peer import Peer

JSON = {"content-type": "application/json"}
BLOBS = {"content-type": bundle.BLOBS_TYPE}


def blob(data: bytes) -> Blob:
    return Blob(hashlib.sha256(data).digest(), data)


def manifest(**files: bytes) -> bytes:
    entries = [File(name, len(data), (blob(data).sha256.hex(),)) for name, data in files.items()]
    return bundle.encode(Manifest(tuple(sorted(entries, key=lambda entry: entry.path))))


async def offer(site: Site, data: bytes) -> Any:
    answer = await site.http.post("/api/v1/bundles", content=data, headers=JSON)
    assert answer.status_code == 201 or answer.status_code == 200, answer.text
    return answer.json()


async def send(site: Site, *blobs: bytes) -> None:
    body = bundle.encode_blobs([blob(data) for data in blobs])
    answer = await site.http.post("/api/v1/blobs", content=body, headers=BLOBS)
    assert answer.json() == {"kept": len(blobs)}


async def kept(site: Site, data: bytes) -> str:
    """Its id, once the server has all of it."""
    offered = await offer(site, data)
    assert offered["missing"] == []
    return offered["bundle"]


async def test_only_what_is_missing_is_asked_for(site: Site) -> None:
    data = manifest(a=b"A", b=b"B", c=b"A")
    said = await offer(site, data)
    assert said["bundle"] == hashlib.sha256(data).hexdigest()
    assert set(said["missing"]) == {blob(b"A").sha256.hex(), blob(b"B").sha256.hex()}
    await site.refused(404, "GET", f"/api/v1/bundles/{said['bundle']}")
    await send(site, b"A")
    assert (await offer(site, data))["missing"] == [blob(b"B").sha256.hex()]
    await send(site, b"A", b"B")
    id_ = await kept(site, data)
    answer = await site.http.get(f"/api/v1/bundles/{id_}")
    assert answer.content == data, "as it was sent"
    assert (await offer(site, manifest(a=b"A", x=b"X")))["missing"] == [blob(b"X").sha256.hex()]


async def test_blobs_come_back_as_they_were_sent(site: Site) -> None:
    await send(site, b"A", b"\0" * BLOB_BYTES, b"")
    wanted = [blob(b"A").sha256.hex(), blob(bytes(BLOB_BYTES)).sha256.hex(), "0" * 64]
    answer = await site.http.post("/api/v1/blobs/fetch", json={"blobs": wanted})
    assert answer.headers["content-type"] == bundle.BLOBS_TYPE
    found = bundle.decode_blobs(answer.content)
    assert {b.data for b in found} == {b"A", bytes(BLOB_BYTES)}


async def test_what_is_damaged_or_too_large_is_refused(site: Site) -> None:
    damaged = bundle.encode_blobs([blob(b"A")._replace(data=b"B")])
    problem = await site.refused(422, "POST", "/api/v1/blobs", content=damaged, headers=BLOBS)
    assert "damaged" in problem["detail"]
    await site.refused(415, "POST", "/api/v1/blobs", content=b"[]", headers=JSON)
    await site.refused(415, "POST", "/api/v1/bundles", content=b"[]", headers=BLOBS)
    much = b"\0" * (bundle.MAX_BATCH_BYTES + 1)
    await site.refused(413, "POST", "/api/v1/blobs", content=much, headers=BLOBS)
    body = b'{"entries": [["f", "../x", 0]]}'
    problem = await site.refused(422, "POST", "/api/v1/bundles", content=body, headers=JSON)
    assert "../x" in problem["detail"]
    large = bundle.encode(Manifest((File("x", 5 << 20, ("0" * 64,) * 5),)))
    problem = await site.refused(422, "POST", "/api/v1/bundles", content=large, headers=JSON)
    assert "files.max_bundle_bytes" in problem["detail"]
    for wrong in ({"blobs": ["x"]}, {"blobs": ["0" * 64] * 10_001}):
        await site.refused(422, "POST", "/api/v1/blobs/fetch", json=wrong)
    await site.refused(400, "POST", "/api/v1/blobs/fetch", json={"blob": []})
    await site.refused(404, "GET", "/api/v1/bundles/last")


async def test_room_is_told(site: Site) -> None:
    empty = await site.get("/files")
    assert empty == {"max_bundle_bytes": 4 << 20, "max_total_bytes": 6 << 20, "total_bytes": 0}
    await send(site, b"x" * 1000)
    assert (await site.get("/files"))["total_bytes"] == 1000


def pieces(seed: int, number: int) -> list[bytes]:
    return [bytes([seed, n]) + bytes(BLOB_BYTES - 2) for n in range(number)]


async def filled(site: Site, seed: int, number: int) -> str:
    """A bundle of so many MiB."""
    blobs = pieces(seed, number)
    data = manifest(**{f"f{n}": piece for n, piece in enumerate(blobs)})
    await offer(site, data)
    for piece in blobs:
        await send(site, piece)
    return await kept(site, data)


async def age(site: Site, seconds: float) -> None:
    async with site.database.readers.acquire() as connection:
        for table in ("blobs", "bundles"):
            await connection.execute(
                f"UPDATE {table} SET used_at = used_at - make_interval(secs => $1)", seconds
            )


async def test_what_was_unused_longest_goes_and_nothing_else(site: Site) -> None:
    first = await filled(site, 1, 2)
    wanted = await filled(site, 2, 2)
    await age(site, 100_000)
    recent = await filled(site, 3, 1)
    task_id = await site.submit(bundle=wanted, queue_timeout="1h")
    await age(site, 100_000)
    await send(site, *pieces(3, 1))
    last = await filled(site, 4, 2)
    assert (await site.http.get(f"/api/v1/bundles/{first}")).status_code == 404
    for id_ in (wanted, last):
        assert (await site.http.get(f"/api/v1/bundles/{id_}")).status_code == 200
        read = bundle.decode((await site.http.get(f"/api/v1/bundles/{id_}")).content)
        names = list(read.blobs())
        answer = await site.http.post("/api/v1/blobs/fetch", json={"blobs": names})
        assert len(bundle.decode_blobs(answer.content)) == len(names)
    assert recent
    # What is left is wanted, or too fresh to go.
    body = bundle.encode_blobs([blob(piece) for piece in pieces(5, 3)])
    problem = await site.refused(429, "POST", "/api/v1/blobs", content=body, headers=BLOBS)
    assert "files.max_total_bytes" in problem["detail"]
    # Once its task is over, it may go.
    await site.post(f"/tasks/{task_id}/cancel", status=202)
    await age(site, 100_000)
    answer = await site.http.post("/api/v1/blobs", content=body, headers=BLOBS)
    assert answer.status_code == 200, answer.text
    await site.refused(404, "GET", f"/api/v1/bundles/{wanted}")


async def test_a_task_names_a_bundle_that_is_here(site: Site) -> None:
    problem = await site.refused(
        422, "POST", "/api/v1/tasks", json={"command": "x", "bundle": "0" * 64}
    )
    assert problem["errors"][0]["path"] == "bundle"
    assert "is not here" in problem["errors"][0]["message"]
    problem = await site.refused(422, "POST", "/api/v1/jobs", json={
        "tasks": {"a": {"command": "x"}, "b": {"command": "x", "bundle": "0" * 64}}})  # fmt: skip
    assert problem["errors"][0]["path"] == "tasks.b.bundle"
    id_ = await filled(site, 1, 1)
    task_id = await site.submit(bundle=id_)
    assert (await site.get(f"/tasks/{task_id}"))["bundle"] == id_
    await site.refused(
        422, "POST", "/api/v1/tasks", json={"command": "x", "bundle": id_, "workdir": "/x"}
    )


async def test_what_the_jobs_of_a_schedule_will_need_stays(site: Site) -> None:
    nightly = {"schedule": "0 2 * * *", "tasks": {"a": {"command": "x", "bundle": "0" * 64}}}
    refused = await site.http.put("/api/v1/schedules/nightly", json=nightly)
    assert refused.status_code == 422, refused.text
    wanted, other = await filled(site, 1, 2), await filled(site, 2, 2)
    nightly["tasks"]["a"]["bundle"] = wanted
    for name, tasks in (("nightly", nightly["tasks"]), ("listed", [nightly["tasks"]["a"]])):
        put = await site.http.put(f"/api/v1/schedules/{name}", json=nightly | {"tasks": tasks})
        assert put.status_code == 201, put.text
    await age(site, 100_000)
    await send(site, *pieces(3, 3))
    assert (await site.http.get(f"/api/v1/bundles/{wanted}")).status_code == 200
    await site.refused(404, "GET", f"/api/v1/bundles/{other}")


async def test_outputs_stay_while_somebody_may_be_given_them(site: Site, agent: Peer) -> None:
    left = await filled(site, 1, 2)
    a = {"command": "x", "outputs": True}
    tasks = {"a": a, "b": {"command": "x", "needs": ["a"], "resources": {"cpus": 64}}}
    made = await site.post("/jobs", {"tasks": tasks})
    await ended(agent, await started(agent, made["task_ids"]["a"]), code=0, outputs=left)
    shown = await site.get(f"/tasks/{made['task_ids']['a']}/outputs")
    assert (shown["bundle"], shown["size"], len(shown["files"])) == (left, 2 << 20, 2)
    given = await site.get(f"/jobs/{made['job_id']}/inputs/b")
    assert given == [{"name": "a", "index": None, "bundle": left}]
    problem = await site.refused(404, "GET", f"/api/v1/tasks/{made['task_ids']['b']}/outputs")
    assert "outputs: true" in problem["hint"]
    await filled(site, 2, 3)
    await age(site, 100_000)
    await send(site, *pieces(3, 2))  # there is only room for them when something goes
    assert await site.get(f"/tasks/{made['task_ids']['a']}/outputs") == shown
    # Tried again, the job is another one, which is given the same.
    await site.post(f"/jobs/{made['job_id']}/cancel", status=202)
    again = await site.post(f"/jobs/{made['job_id']}/retry")
    assert await site.get(f"/jobs/{again['job_id']}/inputs/b") == given
    await age(site, 100_000)
    await send(site, *pieces(4, 3))
    assert await site.get(f"/jobs/{again['job_id']}/inputs/b") == given
    assert await site.get(f"/tasks/{made['task_ids']['a']}/outputs") == shown
