"""Rates, places and patience at the gate: each bound is met, says its name and the cure, and lets go again."""

import asyncio
import time
from contextlib import suppress

import httpx
import pytest

from styx.api import gate, limits
from styx.kit.lag import Lag
from tests.api.test_gate import assert_problem, gated

STRANGER = {"x-forwarded-for": "203.0.113.9"}  # not vouched for by this machine
WRONG = {"authorization": "Bearer wrong"}


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_a_rate_gives_its_burst_then_its_rate():
    clock = Clock()
    rates = limits.Rates(10, 20, clock)
    assert [rates.take("a") for _ in range(20)] == [0.0] * 20
    assert rates.take("a") == pytest.approx(0.1)
    assert rates.take("b") == 0.0
    clock.now_s = 0.1
    assert rates.take("a") == 0.0
    assert rates.take("a") > 0
    clock.now_s = 1_000.0
    assert sum(rates.take("a") == 0.0 for _ in range(100)) == 20


def test_no_rate_is_no_limit():
    rates = limits.Rates(0, 0, Clock())
    assert not any(rates.take("a") for _ in range(100))


def test_the_sources_of_a_rate_are_bounded():
    rates = limits.Rates(1, 1, Clock())
    for number in range(limits.SOURCES + 10):
        rates.take(str(number))
    assert rates.take(str(limits.SOURCES + 9)) > 0  # remembered
    assert rates.take("0") == 0.0  # forgotten


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("", "", True),
    ],
)
def test_whom_an_address_stands_for(one, other, same):
    assert (limits.network(one) == limits.network(other)) is same


# --- failed authentication ------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [STRANGER | WRONG, STRANGER | {"authorization": ""}])
async def test_failures_of_one_address_are_counted(token, headers):
    async with gated(token, failed_auth_per_minute=3) as (client, _, _):
        said = [await client.get("/", headers=headers) for _ in range(5)]
        assert [answer.status_code for answer in said] == [401, 401, 401, 429, 429]
        problem = assert_problem(said[-1], 429, "limit_reached")
        assert "server.failed_auth_per_minute" in problem["detail"]
        assert 1 <= int(said[-1].headers["retry-after"]) <= 20
        # Nobody else of that address is shut out with it.
        assert (await client.get("/")).status_code == 200


# --- requests -------------------------------------------------------------------------------------


async def test_requests_of_one_token_have_a_rate(token):
    async with gated(token, requests_per_token_per_s=5) as (client, _, _):
        said = [await client.get("/") for _ in range(30)]
        refused = [answer for answer in said if answer.status_code == 429]
        assert refused
        assert sum(answer.status_code == 200 for answer in said) >= 10
        problem = assert_problem(refused[0], 429, "limit_reached")
        assert "server.requests_per_token_per_s" in problem["detail"]
        assert refused[0].headers["retry-after"] == "1"
        assert (await client.get("/health")).status_code == 200


async def test_agents_are_not_counted(token):
    async with gated(token, requests_per_token_per_s=1) as (client, _, _):
        while (await client.get("/")).status_code == 200:
            pass
        assert (await client.get("/api/agent/v1")).status_code == 200


async def test_without_a_limit_there_is_none(token):
    async with gated(token, requests_per_token_per_s=0) as (client, _, _):
        assert {(await client.get("/")).status_code for _ in range(50)} == {200}


async def test_headers_have_a_number(token):
    async with gated(token) as (client, _, _):
        many = {f"x-{number}": "" for number in range(gate.HEADERS_MAX)}
        assert_problem(await client.get("/", headers=many), 431, "head_too_large")


async def test_a_head_has_a_size(token):
    async with gated(token) as (client, _, _):
        answer = await client.get("/", headers={"x-large": "x" * gate.HEAD_BYTES})
        assert_problem(answer, 431, "head_too_large")
        fits = await client.get("/", headers={"x-large": "x" * (gate.HEAD_BYTES - 1_000)})
        assert fits.status_code == 200


# --- places ---------------------------------------------------------------------------------------


async def test_who_waits_for_a_place_gets_it(token, monkeypatch):
    monkeypatch.setattr(gate, "BUSY_LIMIT", 1)
    monkeypatch.setattr(gate, "PLACE_WITHIN_S", 30.0)
    async with gated(token) as (client, app, _):
        first = asyncio.ensure_future(client.get("/slow"))
        await app.arrived.wait()
        second = asyncio.ensure_future(client.get("/"))
        await asyncio.sleep(0.1)
        assert not second.done()
        app.go.set()
        assert (await second).status_code == (await first).status_code == 200


# --- a late loop ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late_s", "shed"),
    [
        (4.0, set()),
        (6.0, {"/api/v1/tasks/last/logs"}),
        (11.0, {"/api/v1/tasks/last/logs", "/api/v1/tasks", "/api/v1/events"}),
    ],
)
async def test_a_late_server_sheds_logs_then_lists_and_never_agents(token, late_s, shed):
    lag = Lag(time.monotonic)
    for tenth in range(int(late_s * 10) + 1):
        lag.note(tenth / 10, tenth / 10 + 0.3)
    paths = (
        "/api/v1/tasks/last/logs",
        "/api/v1/tasks",
        "/api/v1/events",
        "/api/v1/tasks/last",
        "/api/agent/v1",
    )
    async with gated(token, lag=lag) as (client, _, _):
        for path in paths:
            answer = await client.get(path)
            if path in shed:
                assert "late" in assert_problem(answer, 503, "overloaded")["detail"]
                assert int(answer.headers["retry-after"]) >= 1
            else:
                assert answer.status_code == 200
        assert (await client.post("/api/v1/tasks", json={})).status_code == 200, "work is taken"


# --- newcomers ------------------------------------------------------------------------------------


async def silent(client):
    return await asyncio.open_connection("127.0.0.1", client.base_url.port)


async def assert_hung_up(reader):
    with suppress(ConnectionError):
        assert await asyncio.wait_for(reader.read(), 20) == b""


async def hang_up(*writers):
    for writer in writers:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def test_who_does_not_say_who_it_is_is_hung_up_on(token, monkeypatch):
    monkeypatch.setattr(limits, "INTRODUCED_WITHIN_S", 0.2)
    async with gated(token) as (client, _, _):
        reader, writer = await silent(client)
        writer.write(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # and no end of it
        await assert_hung_up(reader)
        await hang_up(writer)


async def test_who_has_said_who_it_is_may_be_silent(token, monkeypatch):
    monkeypatch.setattr(limits, "INTRODUCED_WITHIN_S", 0.3)
    async with gated(token) as (client, _, _):
        reader, writer = await silent(client)
        asked = (
            b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer %b\r\n\r\n"
            % token.encode()
        )
        for _ in range(2):
            writer.write(asked)
            assert (await reader.read(4_096)).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0.5)
        await hang_up(writer)


async def test_a_stranger_gets_an_answer_and_no_more(token):
    async with gated(token) as (client, _, _):
        for path, headers in (("/", WRONG), ("/health", {"authorization": ""})):
            answer = await client.get(path, headers=headers | STRANGER)
            assert answer.headers["connection"] == "close"
        assert "connection" not in (await client.get("/")).headers


async def test_of_those_without_a_name_the_oldest_makes_room(token, monkeypatch):
    monkeypatch.setattr(limits, "SETTLING_S", 0.0)
    monkeypatch.setattr(limits, "NEWCOMERS_OF_ONE", 3)
    async with gated(token) as (client, _, _):
        held = []
        for _ in range(4):
            held.append(await silent(client))
            await asyncio.sleep(0.05)
        await assert_hung_up(held[0][0])
        assert not held[-1][0].at_eof()
        async with httpx.AsyncClient(base_url=client.base_url, headers=client.headers) as other:
            assert (await other.get("/")).status_code == 200
        await hang_up(*(writer for _, writer in held))


async def test_a_burst_of_newcomers_is_let_in():
    hung_up = []
    newcomers = limits.Newcomers()
    entered = [newcomers.enter("10.0.0.1", lambda n=n: hung_up.append(n)) for n in range(1_000)]
    assert not hung_up
    for one in entered:
        one.known()
    assert len(newcomers) == 0


async def test_all_addresses_together_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "SETTLING_S", -1.0)
    hung_up = []
    newcomers = limits.Newcomers()
    for number in range(300):
        newcomers.enter(f"10.0.{number}.1", lambda n=number: hung_up.append(n))
    assert len(newcomers) == limits.NEWCOMERS
    assert hung_up == list(range(300 - limits.NEWCOMERS))
    for one in [*newcomers._waiting]:
        one.known()
