"""What is fetched from afar, `get`, and what is brought into a bucket, `put`.

Synchronous, for a process that does nothing else. Credentials are those of the agent: its environment, or its
machine's role.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from styx.agent import stream, web
from styx.agent.errand import Ended, Failed
from styx.agent.stream import Item, Opened
from styx.core import bundle, source
from styx.errors import InvalidSpec
from styx.kit.reach import Reach

AT_A_TIME: Final = 4  # files of one prefix
CURE: Final = "pip install 'styx[storage]' where the agent runs"


def get(text: str, to: str, reach: Reach) -> None:
    """A source of `core.source`, at the path `to`, or below it. Raises: Failed."""
    wanted = source.parse(text)
    bucket = wanted.scheme in source.BUCKETS
    items = _buckets(wanted.url).items(wanted.url) if bucket else [_page(wanted.url, reach)]

    def save(item: Item) -> None:
        stream.save(item, _place(item, to), wanted.sha256)

    pool = ThreadPoolExecutor(AT_A_TIME)
    try:
        for _ in pool.map(save, items):
            pass
    finally:
        pool.shutdown(cancel_futures=True)


def put(path: str, url: str) -> None:
    """A file, or all files below a directory, into a bucket: below `url` if that ends in `/`. What is large
    goes in parts. Raises: Failed.
    """
    _buckets(url).put(path, url)


def _page(url: str, reach: Reach) -> Item:
    name = url.partition("?")[0].rpartition("/")[2]

    def open_(at: int, tag: str) -> Opened:
        return web.open_(url, reach, at, tag)

    return Item(name, url, open_, alone=True)


def _place(item: Item, to: str) -> str:
    """Raises: Failed, for a name that leads out of `to`."""
    if item.alone and not to.endswith("/"):
        return to
    try:
        return os.path.join(to, *bundle.parts(item.name))
    except InvalidSpec as error:
        raise Failed(Ended.REFUSED, f"{item.url}: {error.message}") from error


def _buckets(url: str) -> Any:
    try:
        from styx.agent import buckets
    except ImportError as error:
        raise Failed(Ended.REFUSED, f"{url} needs the library obstore: {CURE}") from error
    return buckets
