"""Files that go with tasks, and what tasks leave: what the API answers of them."""

import msgspec


class FilesView(msgspec.Struct):
    """How much room there is for what is sent with tasks."""

    max_bundle_bytes: int
    max_total_bytes: int
    total_bytes: int


class BundleView(msgspec.Struct):
    """`missing` are the blobs still to be sent; without any, tasks may name the bundle."""

    bundle: str
    missing: list[str] = []


class InputView(msgspec.Struct):
    """What a task that another one needs has left for it."""

    name: str
    index: int | None
    bundle: str


class OutputsView(msgspec.Struct):
    """What a task has left. `bundle` is where to have it from."""

    bundle: str
    size: int
    files: list["OutputView"]


class OutputView(msgspec.Struct):
    path: str
    size: int


class BlobsKept(msgspec.Struct):
    kept: int


class BlobsWanted(msgspec.Struct, forbid_unknown_fields=True):
    blobs: list[str]
