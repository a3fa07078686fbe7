"""`curl` where there is none: sends the same, as far as the pages go. A refusal is a failure."""

import http.client
import sys
from pathlib import Path
from urllib.parse import urlsplit


def main() -> int:
    method, url, body = "", "", None
    headers = {"User-Agent": "curl/8", "Accept": "*/*"}
    rest = iter(sys.argv[1:])
    for word in rest:
        if word == "-X":
            method = next(rest)
        elif word == "-H":
            name, _, value = next(rest).partition(":")
            headers[name] = value.strip()
        elif word in {"-d", "--data", "--data-binary"}:
            given = next(rest)
            body = Path(given[1:]).read_bytes() if given.startswith("@") else given.encode()
        elif not word.startswith("-"):
            url = word
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc)
    target = f"{parts.path}?{parts.query}" if parts.query else parts.path
    connection.request(method or ("GET" if body is None else "POST"), target, body, headers)
    answer = connection.getresponse()
    while piece := answer.read1(1 << 16):
        sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    return 22 if answer.status >= 400 else 0


if __name__ == "__main__":
    sys.exit(main())
