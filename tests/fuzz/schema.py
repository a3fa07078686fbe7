"""T-12: schemathesis reads the OpenAPI document and tries every operation, with and without a token.

Every answer has to be declared: its status, its media type, its shape. Run outside of pytest: it brings a
pytest plugin whose warnings are not ours.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from tests.fuzz import rig

# Not among them: whether what the document forbids is refused, and what it allows is taken. A form takes
# `null` for "not given" and an empty list for none, and refuses what no schema can say, such as a cycle.
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
    "ensure_resource_availability",
    "ignored_auth",
)
# Makes a request of this machine a stranger's: else the operating system vouches for it.
STRANGER: Final = "X-Forwarded-For: 203.0.113.9"


def run(cases: int, seed: int) -> int:
    """Both passes over about so many cases; 0 if nothing was found."""
    with rig.running() as made:
        made.seed()
        operations = len(_operations(made.site.get("/schema/openapi.json")))
        each = max(1, cases // (2 * operations))
        found = 0
        for name, headers in (
            ("with a token", [f"Authorization: Bearer {made.token}", STRANGER]),
            ("without", [STRANGER]),
        ):
            rig.say(
                f"--- {name}: {operations} operations, up to {each} generated cases each, seed {seed}",
            )
            found += _pass(made, headers, each, seed) != 0
        faults = made.faults()
        for fault in faults:
            rig.say(f"server: {fault}")
        rig.say(
            f"schema: {'FAILED' if found or faults else 'ok'}; {len(faults)} faults in the server's log"
        )
        return int(bool(found or faults))


def _pass(made: rig.Rig, headers: list[str], each: int, seed: int) -> int:
    known = made.site.home / "known.json"
    known.write_text(json.dumps(made.known))
    document = made.site.home / "openapi.json"
    document.write_bytes(made.site.call("GET", "/schema/openapi.json").body)
    words = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(document), "--url", made.url),
        *("--checks", ",".join(CHECKS), "--max-examples", str(each), "--seed", str(seed)),
        *("--continue-on-failure", "--request-timeout", "30", "--suppress-health-check", "all"),
    ]
    for header in headers:
        words += ["-H", header]
    env = os.environ | {
        "SCHEMATHESIS_HOOKS": "tests.fuzz.hooks",
        "STYX_FUZZ_KNOWN": str(known),
        "PYTHONPATH": str(Path(__file__).parent.parent.parent),
    }
    return subprocess.run(words, env=env, check=False).returncode


def _operations(document: dict[str, Any]) -> list[str]:
    return [f"{m} {path}" for path, methods in document["paths"].items() for m in methods]
