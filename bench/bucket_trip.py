r"""A file of any size into a bucket and back, by the code that agents fetch with, each way in a process of its own:

AWS_ENDPOINT_URL=… AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… \
        python -m bench.bucket_trip --mib 1024 --to s3://bucket/trip/
"""

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import msgspec

from styx.agent import remote
from styx.agent.errand import Ended, Outcome, Request, Target

MIB: Final = 1 << 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mib", type=int, default=64)
    parser.add_argument("--to", required=True, help="a prefix, with / at its end")
    parser.add_argument("--put", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.put:
        remote.put(given.put, given.to)
        return
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory, "file")
        with file.open("wb") as out:
            for _ in range(given.mib):
                out.write(os.urandom(MIB))
        again = [sys.executable, "-m", "bench.bucket_trip", "--to", given.to, "--put", str(file)]
        _timed("put", again, b"", given.mib)
        back = Path(directory, "back")
        target = Target("trip", "", ((str(back), f"{given.to}file"),))
        request = Request(
            "", 1, "", encrypted=False, token="", home=directory, target=target, cache_bytes=0
        )
        asked = msgspec.json.encode(request) + b"\n"
        said = _timed("get", [sys.executable, "-m", "styx.agent.fetch"], asked, given.mib)
        assert msgspec.json.decode(said, type=Outcome).ended is Ended.DONE, said
        assert _digest(file) == _digest(back), "the file came back as another"
        print(f"the same {given.mib:,} MiB: {_digest(back)}")


def _timed(name: str, command: list[str], said: bytes, mib: int) -> bytes:
    begun = time.monotonic()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(said)
        process.stdin.flush()  # and left open: see `styx.agent.child`
        answer = process.stdout.readline()
    assert process.returncode == 0, answer
    took_s = time.monotonic() - begun
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(f"{name}: {took_s:.1f} s, {mib / took_s:.0f} MiB/s, peak so far {peak:.0f} MiB resident")
    return answer


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
