"""What the command of a `@task` is, on an agent: `python -m styx.sdk.call MODULE:FUNCTION CALL`."""

import importlib
import os
import sys
from collections.abc import Callable, Mapping
from functools import reduce
from pathlib import Path
from typing import Any

from styx.sdk import graph, values
from styx.sdk.payload import Call, invoke


def main(target: str, text: str, env: Mapping[str, str]) -> None:
    """What it raises is the task's failure, with Python's own trace."""
    call = Call.decode(text)
    if call.path:
        sys.path.insert(0, str(Path(call.path).absolute()))
    function = _found(target)
    element = env["STYX_ARRAY_VALUE"] if call.each else None
    returned = invoke(function, call, element, values.Inputs(env.get("STYX_INPUT_DIR", "")))
    if env.get("STYX_NODE_RANK", "0") == "0":  # one of a gang speaks for all
        values.keep(returned, env.get("STYX_OUTPUT_DIR", ""))


def _found(target: str) -> Callable[..., Any]:
    module_name, _, name = target.partition(":")
    token = graph.loading.set(True)
    try:
        module = importlib.import_module(module_name)
    finally:
        graph.loading.reset(token)
    found: Any = reduce(getattr, name.split("."), module)
    return getattr(found, "function", found)  # in its decorator, or plain


if __name__ == "__main__":
    main(*sys.argv[1:], env=os.environ)
