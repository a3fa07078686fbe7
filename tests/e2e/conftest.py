"""Sites that tests share: starting one takes a second, and a site that ran tasks is as good as new."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.site import Site

SETTINGS = """
[scheduler]
retry_base_s = 0.2
retry_cap_s = 0.4
"""


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Three agents of two CPUs."""
    made = Site(tmp_path_factory.mktemp("site"), SETTINGS)
    try:
        made.start()
        for name in ("alpha", "beta", "gamma"):
            made.agent(name)
        yield made
    finally:
        made.close()


@pytest.fixture(scope="session")
def lone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One agent of one CPU, `solo`, which the first test to want one starts (`with_solo`)."""
    made = Site(tmp_path_factory.mktemp("lone"), SETTINGS)
    try:
        made.start()
        yield made
    finally:
        made.close()


@pytest.fixture
def with_solo(lone: Site) -> Site:
    if "solo" not in lone.agents:
        lone.agent("solo", cpus=1)
    return lone


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Site]:
    """A site that the test may break; it starts it."""
    made = Site(tmp_path / "home", SETTINGS)
    try:
        yield made
    finally:
        made.close()
