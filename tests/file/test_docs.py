"""What the documentation shows is what the program takes."""

import re
from pathlib import Path

import pytest

from styx.file import job, read, yaml_text
from styx.sky import pipeline, recognise

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.parametrize("page", ["task-files.md", "quickstart.md", "schedules.md"])
@pytest.mark.parametrize("language", ["yaml", "toml"])
def test_every_example_is_a_task_file(page: str, language: str) -> None:
    found = blocks(page, language)
    assert found or (language == "toml" and page != "task-files.md")
    for text in found:
        document = read.documents(read.Source(f"x.{language}", text))
        job.of(read.only(document, expected="", example="")).check()


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
