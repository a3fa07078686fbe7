"""SkyPilot's own examples on a Styx of this machine: `python -m tests.sky.examples DIR`, from the top of their
repository.

Of each YAML of DIR: is there all that it needs, which is a machine and a shell? What needs more is left out, and
why is said; the others run to their end. A task whose program this machine lacks fails, and its row says so.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from styx.cli import files, parcels
from styx.core import source
from styx.errors import InvalidSpec
from styx.sky.pipeline import Pipeline
from tests.support.site import Site

AGENTS: Final = 2
AT_ONCE: Final = 4
MOST_S: Final = 60
# Words of a script that fetches something, needs a cloud, or more rights than its own.
FETCHING: Final = re.compile(
    r"(?<![\w./-])(pip3?|apt|apt-get|yum|curl|wget|git|docker|conda|uv|npm|sudo|aws|gcloud|gsutil|az|hf|oci|"
    r"huggingface-cli|kubectl|sky)(?![\w./-])"
)
OF_AN_IMAGE: Final = re.compile(r"~/sky_templates/|/opt/amazon/")  # SkyPilot's own, and Amazon's
COMMENT: Final = re.compile(r"^\s*#.*$", re.MULTILINE)


class Row(NamedTuple):
    file: str
    verdict: str  # ran, failed, endless, left out, refused, other
    why: str = ""  # of what failed the last line of stderr
    seconds: float | None = None
    exit: int | None = None

    def __str__(self) -> str:
        seconds = "" if self.seconds is None else f"{self.seconds:.1f}"
        code = "" if self.exit is None else str(self.exit)
        return f"{self.file:<70} {self.verdict:<9} {seconds:>7} {code:>4}  {self.why}".rstrip()


def table(site: Site, top: Path) -> list[Row]:
    """A row for each file, in the order of their names."""
    paths = sorted(path for path in top.rglob("*") if path.suffix in {".yaml", ".yml"})
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(partial(_row, site), paths))


def _row(site: Site, path: Path) -> Row:
    try:
        if not files.is_of_tasks(str(path)):
            return Row(str(path), "other")
        found = files.skypilots(str(path), {})
        job = found.job(to_run=False)
    except InvalidSpec as error:
        return Row(str(path), "refused", error.errors[0].message if error.errors else error.message)
    if why := "; ".join(dict.fromkeys(_needs(found))):
        return Row(str(path), "left out", why)
    places = [Path.cwd(), path.absolute().parent]
    missing = [_missing(files.Loaded(job, place)) for place in places]
    if all(missing):
        return Row(str(path), "left out", missing[0])
    names_files = any(made.fields.keys() & {"workdir", "files"} for made in found.tasks)
    with tempfile.TemporaryDirectory() as scratch:
        return _ran(site, path, places[missing.index("")] if names_files else Path(scratch))


def _needs(found: Pipeline) -> Iterator[str]:
    """What it needs beyond a machine and a shell."""
    yield from (f"needs a value: {note.field}" for note in found.needed)
    for made in found.tasks:
        document: Any = made.document.content
        fields: Mapping[str, Any] = made.fields
        wanted = fields.get("resources", {})
        choices = (wanted, *wanted.get("any_of", ()), *wanted.get("ordered", ()))
        if any(choice.get("gpus") for choice in choices):
            yield "needs accelerators"
        if fields.get("num_nodes", 1) > AGENTS:
            yield f"needs {fields['num_nodes']} nodes"
        if fields.get("image"):
            yield "needs a container's image"
        if document.get("service") or document.get("pool"):
            yield "is a service, which has no end"
        if isinstance(fields.get("workdir"), dict):
            yield "needs a git repository"
        for to, what in fields.get("files", {}).items():
            if source.is_source(what):
                yield f"fetches {what}"
            elif to.startswith("/"):
                yield f"writes to {to} of this machine"
        script = COMMENT.sub("", "\n".join(str(document.get(key, "")) for key in ("setup", "run")))
        if words := sorted({match[1] for match in FETCHING.finditer(script)}):
            yield f"runs {', '.join(words)}"
        if match := OF_AN_IMAGE.search(script):
            yield f"runs a program of a cloud's machine image, below {match[0]}"


def _missing(loaded: files.Loaded) -> str:
    """What it names, and this machine has not, seen from the base."""
    body = {**loaded.job.body, "tasks": [dict(task) for task in loaded.job.body["tasks"]]}
    try:
        parcels.check(loaded._replace(job=loaded.job._replace(body=body)))
    except InvalidSpec as error:
        return error.errors[0].message
    return ""


def _ran(site: Site, path: Path, cwd: Path) -> Row:
    words = ("submit", "--sky", "--follow", str(path.absolute()))
    began = time.monotonic()
    try:
        done = site.cli(*words, cwd=cwd, limit_s=MOST_S)
    except subprocess.TimeoutExpired:
        return Row(str(path), "endless", f"not over after {MOST_S} s")
    seconds = time.monotonic() - began
    if done.returncode == 0:
        return Row(str(path), "ran", "", seconds, 0)
    said = done.stderr.decode(errors="replace").strip().splitlines()
    own = [line.partition(" | ")[2] for line in said if " | " in line]  # else what `submit` says
    return Row(str(path), "failed", (own or said or [""])[-1], seconds, done.returncode)


def main(words: Sequence[str]) -> int:
    with tempfile.TemporaryDirectory(prefix="styx-examples-") as home:
        os.environ["HOME"] = home  # of the tasks, too: what they write there goes
        site = Site(Path(home) / "styx")
        try:
            site.start()
            for number in range(AGENTS):
                site.agent(f"a{number}", "--memory", "128", cpus=64)
            rows = [row for word in words for row in table(site, Path(word))]
        finally:
            site.close()
    counts = Counter(row.verdict for row in rows)
    summary = ", ".join(f"{count} {verdict}" for verdict, count in sorted(counts.items()))
    sys.stdout.write("\n".join([*map(str, rows), summary, ""]))
    return int(counts["failed"] > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
