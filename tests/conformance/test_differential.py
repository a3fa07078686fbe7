"""T-3, small: `python -m tests.conformance --sequences 10000` is the same at the size of a night."""

from collections.abc import Iterator

import pytest

from tests.conformance import differential
from tests.sim.store import Tables
from tests.support.postgres import Postgres

SEQUENCES = 20


@pytest.fixture
def own_url(postgres: Postgres) -> Iterator[str]:
    url = postgres.clone()
    yield url
    postgres.drop(url)


def test_postgres_and_memory_say_the_same(own_url: str) -> None:
    said = differential.run(own_url, SEQUENCES)
    for word in ("ok", "StoreUnavailable", "StaleWrite", "WriteRefused"):
        assert said[f"commit: {word}"], said


def test_a_difference_is_found(own_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tables, "_current", lambda *_: None)  # an attempt out of turn
    with pytest.raises(AssertionError, match="not the current one of task"):
        differential.run(own_url, 6 * SEQUENCES, shrink=False)
