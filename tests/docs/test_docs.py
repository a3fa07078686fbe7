"""Every block of every page runs, or is excused by name (tests.docs.excused). A new page needs nothing here."""

from pathlib import Path
from typing import Final

import pytest

from tests.docs import excused
from tests.docs.block import blocks
from tests.docs.page import Page
from tests.support.site import ROOT

PAGES: Final = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/**/*.md", "bench/*.md")
    for path in ROOT.glob(pattern)
)


@pytest.mark.parametrize("page", PAGES)
def test_the_page(page: str, tmp_path: Path, database_url: str) -> None:
    Page([*blocks(page, (ROOT / page).read_text())], tmp_path, database_url).run()


def test_every_excuse_is_used() -> None:
    found = [block for page in PAGES for block in blocks(page, (ROOT / page).read_text())]
    assert excused.idle(found) == []
