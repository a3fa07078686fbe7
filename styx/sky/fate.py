"""What becomes of each field of SkyPilot's YAML. The tables are the program's and the documentation's."""

from enum import StrEnum
from typing import Final, NamedTuple


class Kind(StrEnum):
    TAKEN = "taken"
    WARNED = "warned"  # the task runs, without this
    NEEDED = "needed"  # whoever runs it has to give it
    REFUSED = "refused"  # the task would be another without it


class Fate(NamedTuple):
    kind: Kind
    becomes: str  # of what is taken, in Styx's words; else what happens instead


def _taken(becomes: str) -> Fate:
    return Fate(Kind.TAKEN, becomes)


def _warned(becomes: str) -> Fate:
    return Fate(Kind.WARNED, becomes)


def _needed(becomes: str) -> Fate:
    return Fate(Kind.NEEDED, becomes)


def _refused(becomes: str) -> Fate:
    return Fate(Kind.REFUSED, becomes)


_ANYWHERE: Final = _warned("it runs on any agent with enough room: `labels` of agents tell places")
_MACHINE: Final = _warned("the machine is the agent's, as it is")
_PRIVATE: Final = _warned("written by SkyPilot for itself, and left out")
_SECRET: Final = _taken(
    "`secrets` of the same names: `styx secret set NAME` keeps one, `--secret NAME=VALUE` gives one for a job, "
    "`--env NAME=…` openly"
)
WRITTEN_SECRET: Final = _warned(
    "the value in the file is not used: `--secret {name}=VALUE` gives it, or `styx secret set {name}` keeps it"
)
SECRET_FILE: Final = _refused(
    "a secret is a variable, not a file: write `${name}` where it is wanted in `run`"
)

TASK: Final = {
    "name": _taken("`name`"),
    "workdir": _taken(
        "`workdir`, which is sent along; of a git repository (`url`) the files of its `ref`"
    ),
    "num_nodes": _taken("`num_nodes`"),
    "resources": _taken("`resources`, see below"),
    "setup": _taken("the beginning of `run`, in a shell of its own"),
    "run": _taken("`run`, without bash's `-euo pipefail`"),
    "envs": _taken("`env`; what has no value needs `--env`"),
    "secrets": _SECRET,
    "managed_secrets": _SECRET,
    "file_mounts": _taken(
        "`files`, which are sent along; buckets and URLs, which the agent copies"
    ),
    "volumes": _refused("no volumes are mounted: have the data on the agents' machines"),
    "service": _warned(
        "it runs once, as a task: there are no replicas, no probes and no load balancer"
    ),
    "pool": _warned(
        "it runs once, as a task: Styx's agents are the pool, so start one on each worker"
    ),
    "config": _warned("Styx makes no pods and no machines, so it has no say in how"),
    "inputs": _warned("what moving data would cost is not weighed"),
    "outputs": _warned("what moving data would cost is not weighed"),
    "event_callback": _warned("it is not called: `styx events` tells of every change"),
    "api_server_access": _warned("the task gets no token of the server"),
    "file_mounts_mapping": _PRIVATE,
    "volume_mounts": _PRIVATE,
}
CONFIG: Final = {
    "hooks": _warned("not run: a task that is stopped gets SIGTERM, and `grace` seconds to end"),
}
RESOURCES: Final = {
    "cpus": _taken("`resources.cpus`"),
    "memory": _taken("`resources.memory`, in GiB"),
    "accelerators": _taken("`resources.gpus`: of several kinds the first, which is said"),
    "gpus": _taken("the same"),
    "disk_size": _taken("`resources.disk`, in GiB"),
    "labels": _taken("`labels` of the task"),
    "job_recovery": _taken("`retries`, `retry_on`, `infra_retries`"),
    "priority": _taken("`priority`: below 0 low, 0 normal, above high, from 500 on critical"),
    "any_of": _taken("`any_of`; what goes beside `resources` is of the first, which is said"),
    "ordered": _taken("`ordered`; what goes beside `resources` is of the first, which is said"),
    "image_id": _taken("`image`, of `docker:…`; an image of machines is left out, which is said"),
    "infra": _ANYWHERE,
    "cloud": _ANYWHERE,
    "region": _ANYWHERE,
    "zone": _ANYWHERE,
    "instance_type": _warned("only `cpus`, `memory` and `accelerators` choose the machine"),
    "use_spot": _warned("nothing is rented: it runs on the agents that are there"),
    "max_hourly_cost": _warned("nothing is rented: the agents that are there have no price"),
    "autostop": _warned("nothing is rented, so nothing is stopped: agents stay"),
    "ports": _warned("ports are neither opened nor closed: the agent's network is as it is"),
    "disk_tier": _MACHINE,
    "network_tier": _MACHINE,
    "local_disk": _MACHINE,
    "ephemeral_storage": _MACHINE,
    "accelerator_args": _MACHINE,
    "priority_class": _warned("only `priority` orders the queue"),
    "volumes": _refused("no volumes are mounted: have the data on the agents' machines"),
}
MOUNTED: Final = _warned(
    "copied when the task starts; what the task writes there stays on the agent: a copy in "
    "`run`, or `outputs` in a file of Styx's, brings it to the bucket"
)
SENT: Final = _warned("no bucket is made of it: it is sent along, and that is where it is read")
NEW_BUCKET: Final = _refused(
    "a bucket to write to is not mounted, and what is written would be lost: `styx import sky` makes a file of "
    "Styx's of this, in which `outputs: [{path: DIR/, to: s3://BUCKET/PREFIX/}]` keeps what "
    "the task writes below its work directory"
)
FAR_OF_MANY: Final = _refused(
    "of several sources in one place all are files or directories of this machine"
)
UNKNOWN_STORE: Final = _refused(
    "only s3://, gs://, az:// and https:// are fetched: fetch it in `run`"
)
NO_VALUE: Final = _needed("has no value: `--env {name}=…` gives it one")
MACHINE_IMAGE: Final = _MACHINE
GPU_MEMORY: Final = _refused("Styx knows the kinds of GPUs, not their memory: name a kind")
HEADER: Final = {
    "name": _taken("`name` of the job"),
    "execution": _taken("`serial`: each task needs the one before; `parallel`: none needs another"),
    "primary_tasks": _refused("Styx ends no task because others have ended"),
    "termination_delay": _warned("Styx ends no task because others have ended"),
    "inter_connection": _refused("the tasks of a job find no names of each other's machines"),
}
GROUP: Final = "each task starts when there is room, not all at once, and no host names join them"
