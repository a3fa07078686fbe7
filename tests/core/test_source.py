"""What a document may name as the source of a file, and as its destination."""

import pytest

from styx.core import form
from styx.core.feature import Feature
from styx.core.spec import TaskSpec
from styx.errors import InvalidSpec

DIGEST = "0" * 64


def task(files: object, **more: object) -> TaskSpec:
    return form.check_alone({"command": "x", "files": files, **more}).tasks[0]


def test_sources_are_kept_as_they_are_fetched() -> None:
    made = task({
        "./a": {"source": "https://h/f", "sha256": DIGEST}, "~/b/": "s3://bucket/c/", ".": "gs://bucket",
    })  # fmt: skip
    assert made.files == {
        "a": f"https://h/f#sha256={DIGEST}", "~/b/": "s3://bucket/c/", ".": "gs://bucket",
    }  # fmt: skip
    assert made.bundles == set()
    assert made.requirements.features == (Feature.SOURCES, Feature.STORAGE)
    assert task({"a": "https://h/f"}).requirements.features == (Feature.SOURCES,)


def test_a_directory_of_the_agent_is_where_they_go() -> None:
    assert task({"a": "s3://bucket/x"}, workdir="/srv").files == {"/srv/a": "s3://bucket/x"}


@pytest.mark.parametrize(
    ("to", "what", "said"),
    [
        ("../a", "https://h/f", "as destination"),
        ("/a/../b", "https://h/f", "as destination"),
        ("a//b", "https://h/f", "as destination"),
        ("a", "ftp://h/f", "s3://bucket/key"),
        ("a", "s3:///f", "s3://bucket/key"),
        ("a", "https://me:it@h/f", "password"),
        ("a", "https://h/f/", "of one file"),
        ("a", "https://h/a b", "escaped"),
        ("a", {"source": "https://h/f", "sha256": "1"}, "64 hexadecimal"),
        ("a", {"source": "s3://bucket/f/", "sha256": DIGEST}, "of one file"),
        ("a", {"source": "https://h/f", "md5": "1"}, "without 'md5'"),
    ],
)
def test_what_is_none_is_refused(to: str, what: object, said: str) -> None:
    with pytest.raises(InvalidSpec, match=said):
        task({to: what})
