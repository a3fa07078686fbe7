"""Each field of a SkyPilot task: what it becomes, what is said of it, and where."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from styx.core import form
from styx.errors import InvalidSpec
from styx.file import yaml_text
from styx.sky import fate, pipeline, recognise, shape
from styx.sky.fate import Kind
from styx.sky.pipeline import Pipeline


def read(text: str, **env: str) -> Pipeline:
    return pipeline.read(yaml_text.parse("sky.yaml", text, old=True), env)


def task(text: str, **env: str) -> dict[str, Any]:
    """The one task, without a word of warning, and it is one that the server takes."""
    found = read(text, **env)
    assert (found.refused, found.warnings) == ([], [])
    body = found.body()
    form.check_job(body)
    return body["tasks"][0]


def warned(text: str) -> list[str]:
    found = read(f"run: x\n{text}")
    assert found.refused == []
    form.check_job(found.body())
    return [f"{note.where.removeprefix('sky.yaml:')}: {note.message}" for note in found.warnings]


def refused(text: str) -> list[str]:
    found = read(f"run: x\n{text}")
    with pytest.raises(InvalidSpec):
        found.job()
    return [note.where.removeprefix("sky.yaml:") for note in found.refused]


def wrong(text: str) -> list[str]:
    with pytest.raises(InvalidSpec) as caught:
        read(text)
    return [f"{e.path.removeprefix('sky.yaml:')}: {e.message}" for e in caught.value.errors]


def resources(text: str) -> dict[str, Any]:
    return task(f"run: x\nresources: {text}\n").get("resources", {})


# --- what is taken ----------------------------------------------------------------------------------


def test_a_whole_task() -> None:
    made = task(
        "name: train\nnum_nodes: 2\nenvs: {A: 1, B: yes, C: 1e-4, D: null}\n"
        "resources: {accelerators: 'A100:8', cpus: 16+, memory: 64+, disk_size: 500, use_spot: false}\n"
        "setup: |\n  pip install x\nrun: |\n  ./train\n",
        D="d",
    )
    assert made == {
        "name": "train",
        "num_nodes": 2,
        "env": {"A": "1", "B": "True", "C": "1e-4", "D": "d"},
        "resources": {"gpus": "A100:8", "cpus": "16", "memory": 64, "disk": 500},
        "run": "set +euo pipefail  # as SkyPilot runs it\n"
        "(  # setup\npip install x\n) || exit\n./train\n",
    }


def test_a_script_goes_on_after_a_failure_as_with_skypilot() -> None:
    assert task("run: |\n  false\n  echo $UNSET\n")["run"].startswith("set +euo pipefail")


def test_what_a_bashrc_exports_and_defines_is_there_as_in_skypilots_shells(tmp_path: Path) -> None:
    guard = "case $- in *i*) ;; *) return;; esac\necho noise; echo noise >&2; export B=rc\n"
    (tmp_path / ".bashrc").write_text(f"{guard}conda() {{ echo $1 $2; }}\n")
    made = task(
        "setup: |\n  echo 'export A=1' >> ~/.bashrc\n  conda activate x\n  exit 0\n"
        "run: |\n  conda activate y\n  echo $A $B\nenvs: {B: own}\n"
    )
    env = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], **made["env"]}
    done = subprocess.run(["bash", "-c", made["run"]], env=env, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"activate x\nactivate y\n1 own\n", b"")


def test_a_script_that_needs_no_bashrc_does_not_wait_for_one() -> None:
    assert (
        "bash -ic"
        not in task('run: |\n  eval "$(conda shell.bash hook)"\n  conda activate x\n')["run"]
    )


def test_setup_alone_is_something_to_do() -> None:
    assert task("setup: echo x\n")["run"].endswith("(  # setup\necho x\n) || exit\n")


def test_setup_has_skypilots_names_for_the_node() -> None:
    made = task("setup: echo $SKYPILOT_SETUP_NODE_RANK ${SKYPILOT_SETUP_NODE_IPS}\nrun: y\n")
    assert 'export SKYPILOT_SETUP_NODE_RANK="$SKYPILOT_NODE_RANK"\n' in made["run"]
    assert 'export SKYPILOT_SETUP_NODE_IPS="$SKYPILOT_NODE_IPS"\n' in made["run"]
    assert "NUM_GPUS" not in made["run"]


def test_variables_from_outside_win() -> None:
    assert task("run: x\nenvs: {A: 1}\n", A="2", B="3")["env"] == {"A": "2", "B": "3"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{accelerators: V100}", {"gpus": "V100:1"}),
        ("{accelerators: {A100-80GB: 4}}", {"gpus": "A100-80GB:4"}),
        ("{accelerators: [H100:8]}", {"gpus": "H100:8"}),
        ("{accelerators: {H100:8}}", {"gpus": "H100:8"}),
        ("{gpus: T4:2}", {"gpus": "T4:2"}),
        ("{cpus: 0.5}", {"cpus": 0.5}),
        ("{memory: 512MB}", {"memory": 0.5}),
        ("{memory: 16GB+}", {"memory": 16}),
        ("{memory: '8'}", {"memory": 8}),
        ("{disk_size: 1TB}", {"disk": 1024}),
        ("null", {}),
        ("{cpus: null, ports: []}", {}),
        ("{cpus: 4, any_of: [{memory: 8}, {memory: '8'}]}", {"cpus": 4, "memory": 8}),
        ("{cpus: 4, ordered: [{}]}", {"cpus": 4}),
        ("{accelerators: [H100:8, A100:8]}", {"ordered": [{"gpus": "H100:8"}, {"gpus": "A100:8"}]}),
        ("{gpus: {H100: 8, A100: 4}}", {"any_of": [{"gpus": "H100:8"}, {"gpus": "A100:4"}]}),
        (
            "{cpus: 2, any_of: [{memory: 8}, {cpus: 4}]}",
            {"any_of": [{"cpus": 2, "memory": 8}, {"cpus": 4}]},
        ),
    ],
)
def test_resources(text: str, expected: dict[str, Any]) -> None:
    assert resources(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{labels: {team: x, n: 1}}", {"labels": {"team": "x", "n": "1"}}),
        ("{labels: {a: x, b: x}, any_of: [{labels: {b: y}}]}", {"labels": {"a": "x", "b": "y"}}),
        ("{priority: -1}", {"priority": "low"}),
        ("{priority: 0}", {"priority": "normal"}),
        ("{priority: 1}", {"priority": "high"}),
        ("{priority: 500}", {"priority": "critical"}),
        ("{job_recovery: FAILOVER}", {}),
        ("{job_recovery: none}", {"infra_retries": 0}),
        ("{job_recovery: {max_restarts_on_errors: 3}}", {"retries": 3}),
        ("{job_recovery: {recover_on_exit_codes: 33}}", {"retries": 1000, "retry_on": [33]}),
        (
            "{job_recovery: {recover_on_exit_codes: [34, 33]}}",
            {"retries": 1000, "retry_on": [33, 34]},
        ),
    ],
)
def test_what_stands_beside_the_resources(text: str, expected: dict[str, Any]) -> None:
    made = task(f"run: x\nresources: {text}\n")
    assert {k: v for k, v in made.items() if k not in {"run", "name"}} == expected


# --- what is warned of, once ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("resources: {infra: aws/us-east-1}", "2:13: resources.infra"),
        ("resources: {cloud: AWS}", "2:13: resources.cloud"),
        ("resources: {region: x}", "2:13: resources.region"),
        ("resources: {zone: x}", "2:13: resources.zone"),
        ("resources: {instance_type: p4d}", "2:13: resources.instance_type"),
        ("resources: {use_spot: yes}", "2:13: resources.use_spot"),
        ("resources: {max_hourly_cost: 3.5}", "2:13: resources.max_hourly_cost"),
        ("resources: {autostop: 10}", "2:13: resources.autostop"),
        ("resources: {autostop: {idle_minutes: 5, down: true, wait_for: none}}", "2:13: resources.autostop"),
        ("resources: {ports: [8080, 1-2]}", "2:13: resources.ports"),
        ("resources: {disk_tier: best}", "2:13: resources.disk_tier"),
        ("resources: {network_tier: best}", "2:13: resources.network_tier"),
        ("resources: {local_disk: 100+}", "2:13: resources.local_disk"),
        ("resources: {ephemeral_storage: 100}", "2:13: resources.ephemeral_storage"),
        ("resources: {accelerator_args: {tpu_vm: true}}", "2:13: resources.accelerator_args"),
        ("resources: {priority_class: x}", "2:13: resources.priority_class"),
        ("resources: {image_id: ami-123}", "2:13: resources.image_id"),
        ("resources: {image_id: {us-east-1: ami-123}}", "2:13: resources.image_id"),
        ("resources: {accelerators: 'V100:0.5'}", "2:13: resources.accelerators"),
        ("resources: {any_of: [{infra: aws}, {infra: gcp}]}", "2:23: resources.any_of[0].infra"),
        ("resources: {ordered: [{priority: 2}, {priority: -4}]}", "2:13: resources.ordered"),
        ("resources:\n  job_recovery: {max_restarts_on_errors: 1, recover_on_exit_codes: [3]}",
         "3:45: resources.job_recovery.recover_on_exit_codes"),
        ("config: {kubernetes: {pod_config: {spec: {}}}}", "2:10: config.kubernetes"),
        ("config: {hooks: [{run: x, events: [stop], timeout: 3}]}", "2:10: config.hooks"),
        ("config: {docker: {run_options: --x}}", "2:10: config.docker"),
        ("inputs: {s3://x: 1.5}", "2:1: inputs"),
        ("outputs: {s3://x: 1}", "2:1: outputs"),
        ("event_callback: ./x", "2:1: event_callback"),
        ("api_server_access: true", "2:1: api_server_access"),
        ("volume_mounts: [{path: /x}]", "2:1: volume_mounts"),
        ("name: a task", "2:1: name"),
        ("setup: echo $SKYPILOT_CLUSTER_INFO", "2:1: setup"),
    ],
)  # fmt: skip
def test_what_is_left_out_is_said_once(text: str, where: str) -> None:
    [note] = warned(text)
    assert note.startswith(f"{where}: ")


def test_models_that_will_do_as_well_are_all_kept() -> None:
    for given in ("[H100:8, A100:8]", "{H100: 8, A100: 8}"):
        assert warned(f"resources: {{memory: 8, accelerators: {given}}}") == []


def test_a_variable_of_the_file_is_not_missed() -> None:
    assert warned("setup: echo $SKYPILOT_USER\nenvs: {SKYPILOT_USER: me}") == []


def test_what_is_switched_off_needs_no_warning() -> None:
    off = "resources: {use_spot: false, autostop: false, image_id: {}}\napi_server_access: false"
    assert (
        warned(f"{off}\nconfig: {{}}\ninputs: {{}}\nevent_callback: ''\n_metadata: {{x: 1}}") == []
    )


# --- what would be another task ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("file_mounts: {/a: cos://b, /c: ./d}", "2:15: file_mounts./a"),
        ("file_mounts: {/a: {name: n, store: S3, mode: MOUNT}}", "2:15: file_mounts./a"),
        ("file_mounts: {/a: {source: [./x, s3://y]}}", "2:15: file_mounts./a"),
        ("volumes: {/a: v}", "2:1: volumes"),
        ("resources: {accelerators: 80GB+}", "2:13: resources.accelerators"),
        ("resources: {accelerators: 'nvidia:80GB:2'}", "2:13: resources.accelerators"),
        ("resources: {volumes: [{path: /x, disk_size: 10}]}", "2:13: resources.volumes"),
        ("managed_secrets: [{A: {mount_path: /x}}]", "2:19: managed_secrets[0]"),
    ],
)
def test_what_would_change_the_meaning_is_refused(text: str, where: str) -> None:
    assert refused(text) == [where]


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("envs: {A: null}", "2:8: envs.A"),
    ],
)
def test_what_is_still_to_be_given_refuses_to_run_and_nothing_else(text: str, where: str) -> None:
    found = read(f"run: x\n{text}")
    assert [note.where for note in found.needed] == [f"sky.yaml:{where}"]
    assert "`--env A=…`" in found.needed[0].message
    with pytest.raises(InvalidSpec, match="--env A="):
        found.job()
    found.job(to_run=False).check()
    assert not read(f"run: x\n{text}", A="1").needed


def test_a_service_and_a_pool_run_once() -> None:
    assert warned("service: {readiness_probe: /health, replicas: 2}") == [
        "2:1: service: it runs once, as a task: there are no replicas, no probes and no load balancer"
    ]
    assert "start one on each worker" in warned("pool: {workers: 3}")[0]


def test_every_refusal_is_told_at_once() -> None:
    two = "volumes: {/v: v}\nfile_mounts: {/a: oci://b}"
    assert refused(two) == ["3:15: file_mounts./a", "2:1: volumes"]


def test_directories_and_files_are_sent() -> None:
    text = "run: x\nworkdir: .\nfile_mounts: {/a: ./b, ~/c: ~/d, e: f}\n"
    fields = read(text).tasks[0].fields
    assert fields["workdir"] == "."
    assert fields["files"] == {"/a": "./b", "~/c": "~/d", "e": "f"}
    # What is absolute is the user's to SkyPilot, and would be the agent's to Styx.
    fields = read("run: x\nworkdir: ~/d\n").tasks[0].fields
    assert (fields["files"], "workdir" in fields) == ({".": "~/d"}, False)
    # Each of several is there under its own name.
    found = read("run: x\nfile_mounts: {/a: {source: [./b/, ~/c/d], store: s3, mode: COPY}}\n")
    assert found.tasks[0].fields["files"] == {"/a/b": "./b/", "/a/d": "~/c/d"}
    assert [note.message for note in found.warnings] == [fate.SENT.becomes]


def test_of_a_git_repository_the_files_of_its_ref() -> None:
    text = "run: x\nworkdir: {url: git@host:team/tool.git, ref: 1.5}\n"
    assert read(text).tasks[0].fields["workdir"] == {"git": "git@host:team/tool.git", "ref": "1.5"}
    assert recognise.is_sky([yaml_text.parse("sky.yaml", text, old=True)[0]])
    assert "2:1: workdir" in wrong("run: x\nworkdir: {url: -o, ref: main}\n")[0]


def test_buckets_are_copied() -> None:
    text = "run: x\nfile_mounts: {/a: s3://b/, /c: 'https://h/f', /d: {source: gs://b/c, mode: COPY}}\n"
    assert task(text)["files"] == {"/a": "s3://b/", "/c": "https://h/f", "/d": "gs://b/c"}


def test_a_mounted_bucket_is_said_to_be_a_copy() -> None:
    mounted = "file_mounts: {/a: {name: n, source: s3://x, store: S3, mode: MOUNT}}"
    (said,) = warned(mounted)
    assert said.startswith(
        "2:15: file_mounts./a: copied when the task starts; what the task writes"
    )


@pytest.mark.parametrize("image", ["'docker:ubuntu'", "{us: ami, docker: ubuntu}"])
def test_the_image_of_a_container_is_taken(image: str) -> None:
    assert task(f"run: x\nresources: {{image_id: {image}}}\n")["image"] == "ubuntu"


@pytest.mark.parametrize(
    "given", ["secrets: {A: null}", "secrets: ['secrets:A']", "managed_secrets: [A]"]
)
def test_a_secret_is_one_that_the_server_keeps(given: str) -> None:
    made = task(f"run: x\n{given}\n")
    assert (made["secrets"], made.get("env")) == (["A"], None)
    assert warned(given) == []


def test_a_secret_s_value_in_the_file_is_not_used() -> None:
    [note] = warned("secrets: {A: hush}")
    assert "the value in the file is not used" in note
    assert "hush" not in note


def test_a_secret_that_is_given_openly_is_a_variable() -> None:
    assert task("run: x\nsecrets: {A: null}\n", A="1")["env"] == {"A": "1"}


def test_variables_stand_in_for_themselves_where_skypilot_expands_them() -> None:
    text = "run: echo $B\nworkdir: ${B}/$OTHER\nfile_mounts: {/d/$B: {source: 's3://${B}', store: $S}}\n"
    found = read(f"{text}envs: {{B: bucket, S: gcs}}\n").tasks[0]
    assert found.fields["workdir"] == "bucket/$OTHER"
    assert found.fields["files"] == {"/d/bucket": "s3://bucket"}
    assert found.fields["run"].endswith("echo $B")


# --- what SkyPilot would not take either --------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("runn: x\n", "1:1: runn: SkyPilot knows no such key; did you mean 'run'?"),
        ("run: x\nresources: {acelerators: 1}\n",
         "2:13: resources.acelerators: SkyPilot knows no such key; did you mean 'accelerators'?"),
        ("run: x\nnum_nodes: '2'\n", "2:1: num_nodes: expected a whole number, not '2'"),
        ("run: x\nnum_nodes: true\n", "2:1: num_nodes: expected a whole number, not true"),
        ("run: [x]\n", "1:1: run: expected text, not a list"),
        ("run: x\nresources: 7\n", "2:1: resources: expected an object, not 7"),
        ("run: x\nresources: {cpus: many}\n",
         '2:13: resources.cpus: expected a number of cores from 0.001 to 100,000, such as 4, 0.5 or "4+"'),
        ("run: x\nresources: {memory: 3x}\n",
         "2:13: resources.memory: expected GiB as a number, or a size such as 16+ or 512GB"),
        ("run: x\nresources: {accelerators: 'A100:many'}\n",
         "2:13: resources.accelerators: expected a kind with a number, such as A100:8, not 'A100:many'"),
        ("run: x\nresources: {accelerators: A, gpus: B}\n",
         "2:30: resources.gpus: says the same as `accelerators`; give one of them"),
        ("run: x\nresources: {any_of: [{}], ordered: [{}]}\n",
         "2:27: resources.ordered: give either `any_of` or `ordered`, not both"),
        ("run: x\nresources: {any_of: [{any_of: []}]}\n",
         "2:23: resources.any_of[0].any_of: SkyPilot knows no such key"),
        ("run: x\nresources: {priority: 2000}\n",
         "2:13: resources.priority: expected a whole number from -1,000 to 1,000"),
        ("run: x\nresources: {cloud: moon}\n", "2:13: resources.cloud: expected one of aws, "),
        ("run: x\nresources: {job_recovery: {recover_on_exit_codes: [0]}}\n",
         "2:28: resources.job_recovery.recover_on_exit_codes: expected exit codes from 1 to 255"),
        ("run: x\nresources: {job_recovery: {strategi: x}}\n",
         "2:28: resources.job_recovery.strategi: SkyPilot knows no such key; did you mean 'strategy'?"),
        ("run: x\nservice: {replica_policy: {min_replica: 1}}\n",
         "2:28: service.replica_policy.min_replica: SkyPilot knows no such key; did you mean 'min_replicas'?"),
        ("run: x\nfile_mounts: {/a: {mode: FLOAT}}\n",
         "2:20: file_mounts./a.mode: expected one of mount, copy, mount_cached, not 'FLOAT'"),
        ("run: x\nenvs: {A-B: 1}\n", "2:8: envs.A-B: expected a variable's name"),
        ("run: x\nenvs: {A: [1]}\n", "2:8: envs.A: expected text"),
        ("run: x\nenvs: 7\n", "2:1: envs: expected an object, not 7"),
        ("run: x\nresources: {image_id: {us: null}}\n",
         "2:24: resources.image_id.us: expected text, not null"),
        ("run: x\nresources: {accelerators: [null]}\n",
         "2:28: resources.accelerators[0]: expected text, not null"),
        ("run: x\nresources: {labels: {a: null}}\n",
         "2:22: resources.labels.a: expected text or a whole number or a number, not null"),
        ("run: x\nresources: {ordered: [null]}\n",
         "2:23: resources.ordered[0]: expected an object, not null"),
        ("run: ' '\n", "1:1: nothing to do: neither `run` nor `setup` says anything"),
        ("resources: {cpus: 1}\n", "1:1: nothing to do: neither `run` nor `setup` says anything"),
    ],
)  # fmt: skip
def test_what_is_no_task_of_skypilot(text: str, message: str) -> None:
    [found] = wrong(text)
    assert found.startswith(message)


@pytest.mark.parametrize("text", ["- run: x\n", "words\n", "", "7\n"])
def test_what_is_no_object(text: str) -> None:
    with pytest.raises(InvalidSpec, match=r"sky\.yaml[:0-9]*: expected a task of SkyPilot"):
        read(text)


def test_what_the_server_refuses_stands_in_the_file() -> None:
    job = read("run: x\nnum_nodes: 5000\nresources: {accelerators: 'A100:5'}\n").job()
    with pytest.raises(InvalidSpec) as caught:
        job.check()
    assert caught.value.errors[0].path == "sky.yaml:2:1: num_nodes"


# --- the tables are whole ---------------------------------------------------------------------------


def test_every_field_of_the_schema_has_a_fate() -> None:
    assert set(fate.TASK) == set(shape.TASK)
    assert set(fate.RESOURCES) == set(shape.RESOURCES)
    assert set(fate.HEADER) == set(shape.HEADER)
    assert set(fate.CONFIG) <= set(shape.TASK["config"])


def test_no_fate_of_the_left_out_is_empty() -> None:
    fates = [*fate.TASK.values(), *fate.RESOURCES.values(), *fate.HEADER.values()]
    assert {f.kind for f in (*fates, fate.NO_VALUE)} == set(Kind)
    assert all(len(f.becomes) > 5 for f in fates)
