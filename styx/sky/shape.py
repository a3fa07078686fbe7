"""What SkyPilot's YAML may hold, and what does not fit it: unknown keys, wrong types.

A shape is a type; `OneOf` some words; `Each` an object of any keys; `ListOf`; a dict: an object with these
keys only; or a tuple of alternatives. A field that is null is not given.
"""

from collections.abc import Iterator
from types import NoneType
from typing import Any, Final, NamedTuple, cast

from styx.core import fields
from styx.core.fields import Wrong, below
from styx.core.units import Expected
from styx.errors import FieldError


class OneOf(NamedTuple):
    words: tuple[str, ...]  # in any case


class Each(NamedTuple):
    shape: Any


class ListOf(NamedTuple):
    shape: Any


NUMBER: Final = (int, float)
WORD: Final = (str, int, float)
ANYTHING: Final = Each(object)
_CALLED: Final = {
    NoneType: "nothing",
    str: "text", int: "a whole number", float: "a number", bool: "true or false",
    dict: "an object", Each: "an object", list: "a list", ListOf: "a list",
}  # fmt: skip
_CLOUDS: Final = (
    "aws", "azure", "gcp", "ibm", "lambda", "scp", "oci", "kubernetes", "k8s", "runpod", "vast", "vsphere",
    "cudo", "fluidstack", "paperspace", "primeintellect", "do", "nebius", "ssh", "slurm", "hyperbolic",
    "seeweb", "shadeform", "yotta", "mithril", "verda",
)  # fmt: skip
_HOOK: Final = {
    "run": str,
    "events": ListOf(OneOf(("stop", "preemption", "down"))),
    "timeout": int,
}
# {A100:1, H100:1} is an object, too: of keys without values.
_ACCELERATORS: Final = (str, Each((*NUMBER, NoneType)), ListOf(str))
_CANDIDATE: Final = {
    "infra": str,
    "cloud": OneOf(_CLOUDS),
    "region": str,
    "zone": str,
    "cpus": WORD,
    "memory": WORD,
    "accelerators": _ACCELERATORS,
    "gpus": _ACCELERATORS,
    "instance_type": str,
    "use_spot": bool,
    "job_recovery": (
        str,
        {
            "strategy": str,
            "max_restarts_on_errors": int,
            "recover_on_exit_codes": (int, ListOf(int)),
        },
    ),
    "volumes": ListOf(ANYTHING),
    "disk_size": (int, str),
    "ephemeral_storage": (int, str),
    "disk_tier": str,
    "network_tier": str,
    "local_disk": WORD,
    "max_hourly_cost": NUMBER,
    "ports": (int, str, ListOf((int, str))),
    "labels": Each(WORD),
    "accelerator_args": {
        "runtime_version": str,
        "tpu_name": str,
        "tpu_vm": bool,
        "gcp_queued_resource": bool,
    },
    "image_id": (str, Each(str)),
    "autostop": (
        bool,
        int,
        str,
        {
            "idle_minutes": int,
            "down": bool,
            "wait_for": OneOf(("jobs_and_ssh", "jobs", "none")),
            "hook": str,
            "hook_timeout": int,
        },
    ),
    "priority": int,
    "priority_class": str,
}
RESOURCES: Final = {
    **_CANDIDATE,
    "any_of": ListOf(_CANDIDATE),
    "ordered": ListOf(_CANDIDATE),
}
_STORAGE: Final = {
    "name": str,
    "source": (str, ListOf(str)),
    "store": OneOf(
        (
            "s3",
            "gcs",
            "azure",
            "r2",
            "ibm",
            "oci",
            "nebius",
            "coreweave",
            "vastdata",
            "hf",
            "volume",
        )
    ),
    "persistent": bool,
    "mode": OneOf(("mount", "copy", "mount_cached")),
    "type": OneOf(("model_checkpoint_ro", "model_checkpoint_rw", "dataset_ro", "dataset_rw")),
    "config": ANYTHING,
}
_POOL: Final = {
    "workers": int,
    "min_workers": int,
    "max_workers": int,
    "queue_length_threshold": int,
    "upscale_delay_seconds": NUMBER,
    "downscale_delay_seconds": NUMBER,
}
_SERVICE: Final = {
    "readiness_probe": (
        str,
        {
            "path": str,
            "initial_delay_seconds": NUMBER,
            "timeout_seconds": NUMBER,
            "endpoint_probe_interval_seconds": NUMBER,
            "consecutive_failure_threshold_timeout": NUMBER,
            "post_data": (str, ANYTHING),
            "headers": Each(str),
        },
    ),
    "load_balancer": {"stream_timeout_seconds": NUMBER},
    "pool": _POOL,
    "replica_policy": {
        "min_replicas": int,
        "max_replicas": int,
        "num_overprovision": int,
        "target_qps_per_replica": (*NUMBER, Each(NUMBER)),
        "dynamic_ondemand_fallback": bool,
        "base_ondemand_fallback_replicas": int,
        "spot_placer": OneOf(("dynamic_fallback",)),
        "upscale_delay_seconds": NUMBER,
        "downscale_delay_seconds": NUMBER,
    },
    "ports": (int, str),
    "replicas": int,
    "workers": int,
    "load_balancing_policy": OneOf(("round_robin", "least_load", "instance_aware_least_load")),
    "tls": {"keyfile": str, "certfile": str},
}
TASK: Final = {
    "name": WORD,
    "workdir": (str, {"url": str, "ref": WORD}),
    "num_nodes": int,
    "resources": RESOURCES,
    "setup": str,
    "run": str,
    "envs": ANYTHING,
    "secrets": (ANYTHING, ListOf(str)),
    "managed_secrets": ListOf((str, Each({"mount_path": str}))),
    "file_mounts": Each((str, _STORAGE)),
    "file_mounts_mapping": ANYTHING,
    "volumes": Each((str, ANYTHING)),
    "volume_mounts": ListOf(ANYTHING),
    "service": _SERVICE,
    "pool": _POOL,
    "config": {
        "hooks": ListOf(_HOOK),
        "docker": {"run_options": (str, ListOf(str))},
        "nvidia_gpus": {"disable_ecc": bool},
        "active_workspace": str,
        **dict.fromkeys(
            ("kubernetes", "ssh", "aws", "gcp", "azure", "vast", "slurm", "oci", "jobs"), ANYTHING
        ),
    },
    "inputs": Each(NUMBER),
    "outputs": Each(NUMBER),
    "event_callback": str,
    "api_server_access": bool,
}
HEADER: Final = {
    "name": WORD,
    "execution": OneOf(("serial", "parallel")),
    "primary_tasks": ListOf(str),
    "termination_delay": (int, str, Each((int, str))),
    "inter_connection": bool,
}


def misfits(shape: Any, value: object) -> list[FieldError]:
    """Everything that does not fit; paths begin at the value."""
    if value is None:
        return []
    if type(shape) is tuple:
        return _of_alternatives(cast("tuple[Any, ...]", shape), value)
    if isinstance(shape, dict) and isinstance(value, dict):
        return list(_of_keys(cast("dict[str, Any]", shape), cast("dict[object, object]", value)))
    if isinstance(shape, Each) and isinstance(value, dict):
        return _of_items(shape.shape, cast("dict[object, object]", value).items())
    if isinstance(shape, ListOf) and isinstance(value, list):
        items = enumerate(cast("list[object]", value))
        return _of_items(shape.shape, [(f"[{index}]", item) for index, item in items])
    if isinstance(shape, OneOf):
        fits = isinstance(value, str) and value.lower() in shape.words
    else:
        fits = isinstance(shape, type) and isinstance(value, shape)
        fits = fits and (shape in {bool, object} or not isinstance(value, bool))
    return [] if fits else [_expected(_called(shape), value)]


def _of_alternatives(shapes: tuple[Any, ...], value: object) -> list[FieldError]:
    found = [misfits(shape, value) for shape in shapes]
    if not all(found):
        return []
    # Of an object that is wrong inside, say what is; else say what it could be.
    inner = [errors for errors in found if all(error.path for error in errors)]
    return inner[0] if inner else [_expected(_called(shapes), value)]


def _of_keys(shapes: dict[str, Any], value: dict[object, object]) -> Iterator[FieldError]:
    for key, item in value.items():
        if isinstance(key, str) and key.startswith("_"):
            continue  # SkyPilot's own notes, in a file that it wrote
        if key not in shapes:
            near = fields.did_you_mean(str(key), shapes)
            yield FieldError(str(key)[:128], f"SkyPilot knows no such key{near}")
        else:
            yield from below(cast("str", key), item, Wrong(misfits(shapes[cast("str", key)], item)))


def _of_items(shape: Any, items: Any) -> list[FieldError]:
    """Here null is a value, and most have none such."""
    found: list[FieldError] = []
    nullable = shape is object or (type(shape) is tuple and NoneType in shape)
    for key, item in items:
        wrong = misfits(shape, item)
        if item is None and not nullable:
            wrong = [_expected(_called(shape), None)]
        found += below(str(key), item, Wrong(wrong))
    return found


def _expected(what: str, value: object) -> FieldError:
    return below("", value, Expected(what))[0]


def _called(shape: Any) -> str:
    if type(shape) is tuple:
        shapes = cast("tuple[Any, ...]", shape)
        return " or ".join(dict.fromkeys(_called(one) for one in shapes))
    if isinstance(shape, OneOf):
        return f"one of {', '.join(shape.words)}"
    return _CALLED[shape if isinstance(shape, type) else type(shape)]
