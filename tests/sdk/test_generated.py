"""One source: the sync client is what the generator makes of the async one."""

import re

import pytest

from tests.sdk import generate


@pytest.mark.parametrize("name", generate.GENERATED)
def test_the_sync_client_is_current(name: str) -> None:
    kept = generate.formatted(name, (generate.SDK / name).read_text())
    assert kept == generate.sync_of(name), "run `make sdk`"


def test_nothing_async_is_left_in_it() -> None:
    for name in generate.GENERATED:
        text = (generate.SDK / name).read_text().removeprefix(generate.HEAD.format(name=name))
        assert not re.search(r"\bas?ync|\bawait|Async|\baio\b|__a\w+__", text)


def test_every_source_is_generated_from() -> None:
    by_hand = {"__init__.py", "connection.py"}
    sources = {path.name for path in (generate.SDK / "aio").glob("*.py")}
    assert sources - by_hand == set(generate.GENERATED)
