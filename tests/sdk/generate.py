"""The sync client from the async one: `python -m tests.sdk.generate` writes it.

`tests/sdk/test_generated.py` fails while it is out of date. Words are taken out and exchanged, in strings
and comments too; ruff formats what is left.
"""

import re
import subprocess
import sys
from pathlib import Path
from typing import Final

SDK: Final = Path(__file__).parents[2] / "styx" / "sdk"
GENERATED: Final = ("transport.py", "streams.py", "calls.py", "kept.py", "handles.py", "client.py")
HEAD: Final = "# Generated from aio/{name} by `python -m tests.sdk.generate`; do not edit.\n"
WORDS: Final = (
    (r"\b(?:async|await) ", ""),
    (r"\bAsync(?=[A-Z])", ""),  # AsyncStyx, AsyncIterator, …
    (r"\b__a(?=enter__|exit__|iter__|next__)", "__"),
    (r"\baclosing\b", "closing"),
    (r"\bstyx\.sdk\.aio\b", "styx.sdk"),
)


def generated() -> dict[str, str]:
    """File name -> text."""
    return {name: sync_of(name) for name in GENERATED}


def sync_of(name: str) -> str:
    text = HEAD.format(name=name) + (SDK / "aio" / name).read_text()
    for pattern, replacement in WORDS:
        text = re.sub(pattern, replacement, text)
    return formatted(name, text)


def formatted(name: str, text: str) -> str:
    """By the ruff that is here, whichever that is."""
    ruff, place = (sys.executable, "-m", "ruff"), (f"--stdin-filename={SDK / name}", "--quiet", "-")
    for words in (("check", "--fix-only", "--select=I"), ("format",)):
        done = subprocess.run(
            [*ruff, *words, *place], input=text, capture_output=True, text=True, check=True
        )
        text = done.stdout
    return text


def main() -> int:
    for name, text in generated().items():
        (SDK / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
