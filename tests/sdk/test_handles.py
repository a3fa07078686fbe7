"""What `run` and `run_job` hand back, of either client, against a real server."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from styx.core import model
from styx.sdk import fields
from styx.sdk.client import Styx
from styx.sdk.failures import TaskFailed
from tests.sdk import bridge
from tests.support.site import Site


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    made = Site(tmp_path_factory.mktemp("handles"))
    try:
        made.start()
        made.agent("solo")
        yield made
    finally:
        made.close()


@pytest.fixture(params=[Styx, bridge.styx], ids=["sync", "async"])
def styx(
    site: Site, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Styx]:
    """Of the site's own machine and home."""
    for name, value in site.env.items():
        if name.startswith("STYX_"):
            monkeypatch.setenv(name, value)
    with request.param() as made:
        yield made


def test_a_task(styx: Styx) -> None:
    task = styx.run("echo one; printf 'tw\\303\\266\\nthree'", name="lines", cpus=0.5)
    assert [*task.logs(follow=True)] == ["one", "twö", "three"]
    over = task.wait(check=True)
    assert (task.id, task.name, over.name, over.resources.cpus) == (over.id, "lines", "lines", 0.5)
    assert task.status() == "succeeded"
    assert task.explain().status == "succeeded"
    assert [*task.logs(tail=1)] == ["three"]
    assert repr(task) == f"<task lines {task.id}>"


def test_text_is_a_script_and_a_list_is_a_program(styx: Styx) -> None:
    assert [*styx.run("echo $((1+1))").logs(follow=True)] == ["2"]
    listed = styx.run(["echo", "$((1+1))", 7])
    assert [*listed.logs(follow=True)] == ["$((1+1)) 7"]
    assert (listed.name, listed.detail().name) == ("echo", "echo")


def test_it_runs_where_we_stand(
    styx: Styx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert [*styx.run("pwd").logs(follow=True)] == [str(tmp_path)]
    assert [*styx.run("pwd", workdir=Path("/")).logs(follow=True)] == ["/"]
    job = {"tasks": {"where": {"run": "pwd"}}}
    assert [*styx.run_job(job).task("where").logs(follow=True)] == [str(tmp_path)]
    assert job == {"tasks": {"where": {"run": "pwd"}}}, "ours is left as it was"


def test_another_server_s_tasks_run_where_it_says(
    styx: Styx, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STYX_HOME", str(tmp_path))  # in which no server lives
    assert not styx.is_local()
    assert styx.run("true").detail().workdir == ""


def test_cancel(styx: Styx) -> None:
    task = styx.run("sleep 60", cpus=999)
    assert task.cancel().status == "cancelled"
    with pytest.raises(TaskFailed, match="cancelled"):
        task.wait(check=True)


def test_standard_error(styx: Styx) -> None:
    task = styx.run("echo no >&2; exit 4")
    with pytest.raises(TaskFailed) as caught:
        task.wait(check=True)
    assert (caught.value.exit_code, caught.value.tail) == (4, b"no\n")
    assert [*task.logs(stream="err")] == ["no"]


def test_an_array_is_a_job(styx: Styx) -> None:
    job = styx.run("echo $STYX_ARRAY_VALUE", name="each", array={"over": ["a", "b"]})
    assert job.wait(check=True).total == 2
    assert [*job.task("each", 1).logs()] == ["b"]
    assert (job.name, job.task("each", 1).name, job.status()) == ("each", "each/1", "succeeded")
    with pytest.raises(LookupError, match="an array of 2: which one"):
        job.task("each")
    rows = styx.run("echo $a", matrix={"a": (1, 2), "exclude": [{"a": 1}]})
    assert rows.wait().total == 1


def test_a_job_tells_of_its_first_failure(styx: Styx) -> None:
    job = styx.run_job(
        {
            "tasks": [
                {"name": "good", "run": "true"},
                {"name": "bad", "run": "echo oh >&2; exit 3", "needs": ["good"]},
                {"name": "after", "run": "true", "needs": ["bad"]},
            ]
        }
    )
    with pytest.raises(TaskFailed, match=r"task bad failed \(exit 3\)") as caught:
        job.wait(check=True)
    assert caught.value.tail == b"oh\n"
    assert job.wait().status == job.status() == "failed"
    assert (job.name, repr(job)) == ("job", f"<job job {job.id}>")
    with pytest.raises(LookupError, match="good is no array"):
        job.task("good", 0)


def test_a_job_that_was_cancelled(styx: Styx) -> None:
    job = styx.run_job({"tasks": {"never": {"run": "true", "resources": {"cpus": 999}}}})
    job.cancel()
    with pytest.raises(TaskFailed, match="task never cancelled"):
        job.wait(check=True)


def test_an_unknown_word(styx: Styx) -> None:
    with pytest.raises(TypeError, match=r"^no such field: 'gpu'; did you mean 'gpus'\?$"):
        styx.run("true", gpu=1)  # pyright: ignore[reportCallIssue]: the point of the test
    with pytest.raises(TypeError, match="at least one word"):
        styx.run([])


# --- the words ----------------------------------------------------------------------------------------


def test_the_words_are_those_of_a_task_file() -> None:
    own = {"command", "args", "run"} | fields.MANY
    assert set(fields.OF_A_TASK) == (
        set(model.TaskForm.__struct_fields__) - own | set(fields.RESOURCES)
    )
    assert set(fields.RESOURCES) == set(model.ResourcesForm.__struct_fields__) - {
        *("labels", "any_of", "ordered")
    }
    assert set(fields.OF_A_JOB) == set(model.ScheduledJobForm.__struct_fields__) - {"tasks"}


def test_resources_are_put_together() -> None:
    made = fields.task("x", {"cpus": 2, "resources": {"labels": {"zone": "a"}}, "gpus": None})
    assert made == {
        "name": "x",
        "run": "x",
        "resources": {"labels": {"zone": "a"}, "cpus": 2},
    }


@pytest.mark.parametrize(
    ("word", "name"), [("/bin/sh", "sh"), ("a b", "a-b"), ("/", "task"), ("ü", "task")]
)
def test_a_name_from_a_command(word: str, name: str) -> None:
    assert fields.name_of(word) == name


def test_a_directory_of_the_agent_s_user_stays_theirs() -> None:
    body = {"tasks": [{"workdir": "~/x"}, {"workdir": "x"}, {"bundle": "b"}, {}]}
    fields.stand_here(body)
    here = str(Path.cwd())
    assert [task.get("workdir") for task in body["tasks"]] == ["~/x", f"{here}/x", None, here]
