"""`setup`: a script that runs on this machine before the first task of a spec of a job, and not again.

It is one `sh` around the task's own command: its output, its environment, its time and its failure are those of
the task that ran it. In a container, which begins anew each time, it runs each time. Elsewhere, who comes meanwhile waits for a lock that ends with its holder, whatever that dies of; the
mark that it is done is made after its success and lies in the job's directory, so it goes with that.
"""

import hashlib
import shlex
from collections.abc import Sequence
from typing import Final

import msgspec

from styx.agent import errand
from styx.core.spec import TaskSpec

MARK: Final = ".setup-"
# What the script leaves behind must not hold the lock, hence `9>&-`.
_ONCE: Final = """\
mark=$1 setup=$2
shift 2
if [ ! -e "$mark" ]; then
  mkdir -p "${mark%/*}" && exec 9>"$mark.lock" && flock 9 || exit
  if [ ! -e "$mark" ]; then
    SHELL -c "$setup" 9>&- || { code=$?; echo "styx: setup failed with exit code $code" >&2; exit $code; }
    : >"$mark" || exit
  fi
  exec 9>&-
fi
exec "$@"
"""
_EACH_TIME: Final = """\
setup=$1
shift
if command -v bash >/dev/null; then
  bash -euo pipefail -c "$setup"
else
  sh -eu -c "$setup"
fi || { code=$?; echo "styx: setup failed with exit code $code" >&2; exit $code; }
exec "$@"
"""


def each_time(argv: Sequence[str], setup: str) -> list[str]:
    """`argv`, which may get further words, after `setup`, by a shell of the image."""
    return ["sh", "-c", _EACH_TIME, "setup", setup, *argv]


def wrapped(argv: Sequence[str], shell: Sequence[str], mark: str, setup: str) -> list[str]:
    """`argv`, which may get further words, after `setup`."""
    return ["sh", "-c", _ONCE.replace("SHELL", shlex.join(shell)), "setup", mark, setup, *argv]


def mark(directory: str, job_id: str, spec: TaskSpec) -> str:
    """The file that says that the setup of this spec was done on this machine."""
    same = (spec.name, spec.setup, sorted(spec.env.items()), spec.workdir, spec.bundle)
    digest = hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:32]
    return f"{directory}/{errand.JOBS}/{job_id}/{MARK}{digest}"
