"""What a server keeps for its clients beside tasks: schedules, secrets, and files that go with tasks."""

from collections.abc import AsyncIterator

from styx.core import bundle
from styx.sdk.aio.calls import AsyncCalls, segment
from styx.sdk.fields import Document
from styx.wire import http as wire
from styx.wire import secret as secret_wire


class AsyncKept(AsyncCalls):
    __doc__ = AsyncCalls.__doc__

    # --- schedules --------------------------------------------------------------------------------

    async def put_schedule(self, name: str, job: Document) -> wire.ScheduleDetail:
        """Create or replace; `job` holds its `schedule`."""
        return await self._put(wire.ScheduleDetail, f"/schedules/{segment(name)}", job)

    def schedules(self, *, limit: int | None = None) -> AsyncIterator[wire.ScheduleView]:
        return self._pages(wire.ScheduleView, "/schedules", {}, limit)

    async def schedule(self, name: str) -> wire.ScheduleDetail:
        return await self._read(wire.ScheduleDetail, f"/schedules/{segment(name)}")

    async def pause_schedule(self, name: str) -> wire.ScheduleView:
        return await self._post(wire.ScheduleView, f"/schedules/{segment(name)}/pause")

    async def resume_schedule(self, name: str) -> wire.ScheduleView:
        return await self._post(wire.ScheduleView, f"/schedules/{segment(name)}/resume")

    async def run_schedule(self, name: str, *, key: str = "") -> wire.ScheduleRun:
        """A job of it now. The same `key` again gives the same job."""
        return await self._post(wire.ScheduleRun, f"/schedules/{segment(name)}/run", key=key)

    async def delete_schedule(self, name: str) -> wire.ScheduleView:
        return await self._delete(wire.ScheduleView, f"/schedules/{segment(name)}")

    # --- secrets ----------------------------------------------------------------------------------

    async def put_secret(self, name: str, value: str) -> secret_wire.SecretView:
        """Create or replace."""
        body = {"value": value}
        return await self._put(secret_wire.SecretView, f"/secrets/{segment(name)}", body)

    def secrets(self, *, limit: int | None = None) -> AsyncIterator[secret_wire.SecretView]:
        """Without their values, which nobody is told."""
        return self._pages(secret_wire.SecretView, "/secrets", {}, limit)

    async def secret(self, name: str) -> secret_wire.SecretView:
        return await self._read(secret_wire.SecretView, f"/secrets/{segment(name)}")

    async def delete_secret(self, name: str) -> secret_wire.SecretView:
        return await self._delete(secret_wire.SecretView, f"/secrets/{segment(name)}")

    async def rotate_secret_keys(self) -> secret_wire.SecretsRotated:
        """Put all under the first of the server's keys."""
        return await self._post(secret_wire.SecretsRotated, "/secret-keys/rotate")

    # --- files (`sdk.sending` packs and sends a directory) ----------------------------------------

    async def files(self) -> wire.FilesView:
        """How much may be sent."""
        return await self._read(wire.FilesView, "/files")

    async def offer_bundle(self, manifest: bytes) -> wire.BundleView:
        """What is missing of it; when nothing is, tasks may name it."""
        return await self._post(wire.BundleView, "/bundles", body=manifest)

    async def send_blobs(self, blobs: bytes) -> None:
        """As `core.bundle.encode_blobs` makes them."""
        await self._post(wire.BlobsKept, "/blobs", body=blobs, media_type=bundle.BLOBS_TYPE)
