"""What the documentation shows is what the program takes."""

import re
from pathlib import Path

import pytest

from styx.cli import parcels
from styx.cli.files import Loaded
from styx.file import job, read, yaml_text
from styx.sky import pipeline, recognise

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["task-files.md", "quickstart.md", "files.md"])
@pytest.mark.parametrize("language", ["yaml", "toml"])
def test_every_example_is_a_task_file(page: str, language: str, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for name in ("seed.csv", "project/netrc"):
        (tmp_path / name).touch()
    found = blocks(page, language)
    assert found or (page != "task-files.md" and language == "toml")
    for text in found:
        document = read.documents(read.Source(f"x.{language}", text))
        given = job.of(read.only(document, expected="", example=""))
        parcels.check(Loaded(given, tmp_path / "project"))
        given.check()


def test_the_examples_of_skypilot_are_known_and_run() -> None:
    found = blocks("from-skypilot.md", "yaml")
    assert found
    for text in found:
        documents = yaml_text.parse("x.yaml", text, old=True)
        assert recognise.is_sky(documents)
        pipeline.read(documents, {}).job().check()


def test_the_sweep_is_as_wide_as_the_text_says() -> None:
    [sweep] = [text for text in blocks("task-files.md", "yaml") if "matrix:" in text]
    document = read.documents(read.Source("x.yaml", sweep))[0]
    assert job.of(document).check().width == 16
