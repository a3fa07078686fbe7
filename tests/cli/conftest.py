"""One server with one agent of two CPUs for all tests of the command line."""

from collections.abc import Iterator

import pytest

from tests.support.site import Site


@pytest.fixture(scope="session", autouse=True)
def compiled_once() -> Iterator[None]:
    """These tests start the program some hundred times; without its bytecode most of that is compiling."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONDONTWRITEBYTECODE", "")
        yield


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(
        tmp_path_factory.mktemp("cli"),
        '[scheduler]\nretry_base_s = 0.1\n[agent]\nallow_hosts = ["127.0.0.0/8"]\n',
    )
    try:
        made.start()
        made.agent("solo")
        yield made
    finally:
        made.close()
