"""Ids: unique, growing, and of the form that RFC 9562 gives them."""

import threading
import time
import uuid

from styx.kit import uuid7


def test_form():
    before = time.time_ns() // 1_000_000
    parsed = uuid.UUID(uuid7.new())
    after = time.time_ns() // 1_000_000
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    # Other tests may have made ids in this millisecond, but not in a later one.
    assert before <= parsed.int >> 80 <= after


def test_growing_and_unique_in_one_millisecond_and_over_batches():
    ids = [uuid7.new() for _ in range(1_000)]
    ids += uuid7.many(10_000)
    ids += [uuid7.new()]
    assert ids == sorted(set(ids))
    assert all(str(uuid.UUID(i)) == i for i in ids)


def test_an_empty_batch():
    assert uuid7.many(0) == []


def test_unique_over_threads():
    made: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda: made.append([uuid7.new() for _ in range(5_000)]))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({i for ids in made for i in ids}) == 20_000
