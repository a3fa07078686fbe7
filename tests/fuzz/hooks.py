"""What schemathesis cannot know of Styx: which ids are there, and that some answers never end.

Loaded by it, in a process of its own; `known.json` beside the configuration names the ids.
"""

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any, Final

import requests
import schemathesis
import urllib3

from styx.core import bundle
from styx.core.bundle import Blob

FIRST_BYTES: Final = 64
KNOWN: Final[dict[str, list[str]]] = json.loads(Path(os.environ["STYX_FUZZ_KNOWN"]).read_text())


@schemathesis.hook
def map_path_parameters(ctx: Any, path_parameters: dict[str, Any] | None) -> Any:
    """Half of all references are of something that is there, else nearly every answer were a 404."""
    if not path_parameters or "id" not in path_parameters:
        return path_parameters
    known = KNOWN.get(ctx.operation.path.split("/")[3], [])
    draw = random.Random(str(path_parameters["id"]))
    if known and draw.random() < 0.5:
        return path_parameters | {"id": draw.choice(known)}
    return path_parameters


@schemathesis.hook
def before_call(_: Any, case: Any, kwargs: dict[str, Any]) -> None:
    if str((case.query or {}).get("wait", "")).replace(".", "").isdigit():
        case.query["wait"] = min(float(case.query["wait"]), 0.1)  # its task has no end to wait for
    kwargs["hooks"] = {"response": _begin_only}


def _begin_only(answer: requests.Response, **_: Any) -> None:
    """Of a stream the beginning is enough: it goes on for as long as its reader likes."""
    endless = "content-length" not in answer.headers
    if not endless:
        return
    body = b""
    try:
        while piece := answer.raw.read1(FIRST_BYTES):
            body += piece
            if answer.headers["content-type"].startswith("text/event-stream"):
                break
    except urllib3.exceptions.ReadTimeoutError:
        pass
    answer._content = body
    answer._content_consumed = True
    answer.raw.close()


@schemathesis.serializer(bundle.BLOBS_TYPE)
def blobs(_: Any, value: Any) -> bytes:
    """Of what is drawn as text, half become a blob as it should be, and half are sent as they are."""
    data = value if isinstance(value, bytes) else str(value).encode(errors="replace")
    if len(data) % 2:
        return data
    return bundle.encode_blobs([Blob(hashlib.sha256(data).digest(), data)])
