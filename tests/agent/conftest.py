from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.supervised import Supervised, supervised


@pytest.fixture
def sup(tmp_path: Path) -> Iterator[Supervised]:
    with supervised(tmp_path / "home") as held:
        yield held
