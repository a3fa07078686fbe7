"""The JSON Schema of a task file, drawn from the structs that document the fields.

What a value may say (`4+`, `1h30m`) is the check's to judge: the schema knows names, types and choices.
"""

from typing import Any, Final

import msgspec

from styx.core import model
from styx.core.fields import SCHEDULE
from styx.file import job

_REF: Final = "#/$defs/{name}"
_TASK: Final = model.TaskForm.__name__
_ALONE: Final = model.AloneForm.__name__
_JOB: Final = model.JobForm.__name__
_SCHEDULED: Final = model.ScheduledJobForm.__name__


def schema() -> dict[str, Any]:
    forms = (model.TaskForm, model.AloneForm, model.JobForm, model.ScheduledJobForm)
    _, shapes = msgspec.json.schema_components(forms, ref_template=_REF)
    scheduled = shapes.pop(_SCHEDULED)["properties"][SCHEDULE]
    shapes[_JOB]["properties"] = {
        **shapes[_JOB]["properties"],
        **{key: shape for key, shape in shapes[_TASK]["properties"].items() if _is_default(key)},
    }
    for name in (_ALONE, _JOB):
        shapes[name]["properties"] |= {
            SCHEDULE: scheduled,
            job.SCHEMA: {"description": "This schema.", "type": "string"},
        }
    shapes[_JOB]["description"] += " What stands beside `tasks` is a default of every task."
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A task file of Styx",
        "description": "One task, or a job with `tasks`.",
        # One of the two, decided by one key: an editor can then say what is wrong inside.
        "if": {"required": ["tasks"]},
        "then": {"$ref": _REF.format(name=_JOB)},
        "else": {"$ref": _REF.format(name=_ALONE)},
        "$defs": shapes,
    }


def _is_default(key: str) -> bool:
    return key not in job.OF_A_JOB | job.NO_DEFAULT
