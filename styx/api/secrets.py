"""Secrets: put, list, look, delete. A value goes in, and never comes out again."""

from collections.abc import Mapping
from typing import Any, Final, cast

from litestar import Response

from styx.api import document, page, route
from styx.api.backend import Backend
from styx.api.route import UNCHANGED, Call, read_query, reply, visit
from styx.core import fields, secret
from styx.core.fields import Field
from styx.core.ids import JobId
from styx.core.spec import JobSpec
from styx.engine.ports import SecretRow
from styx.errors import Conflict, FieldError, InvalidSpec, LimitReached, NotFound
from styx.wire import secret as wire

PATH: Final = "/api/v1/secrets"
NAMED: Final = f"{PATH}/{{name}}"
EXAMPLE: Final = {"value": "hf_…"}
_VALUE: Final = {"value": Field("value", secret.value)}
_GIVEN: Final = {"values": Field("values", secret.values)}


class SecretRoutes:
    def __init__(self, backend: Backend) -> None:
        self._secrets = backend.secrets

    @route.put(
        NAMED,
        "putSecret",
        wire.SecretView,
        status=201,
        also={200: "Replaced"},
        body=wire.SecretForm,
        example=EXAMPLE,
        refuses=(InvalidSpec, Conflict, LimitReached),
    )
    async def put(self, call: Call) -> Response[bytes]:
        """Create or replace a secret.

        Tasks that start from now on get the new value; those that run keep the one that they have.
        """
        name = _name(call)
        given: str = _read(document.read(await call.body()), _VALUE)
        row = await self._secrets.put(name, given, visit(call).actor)
        return reply(_view(row), 201 if row.created_at == row.updated_at else 200)

    @route.get(PATH, "listSecrets", list[wire.SecretView], also=UNCHANGED, query=page.PageQuery)
    async def browse(self, call: Call) -> Response[bytes]:
        """List secrets, without their values.

        In the order in which they were created.
        """
        asked = read_query(call, page.PageQuery)
        after = page.after(asked) if asked.after else ""
        found = await self._secrets.page(after, asked.limit + 1)
        shown = [_view(row) for row in found[: asked.limit]]
        return page.answer(call, shown, more=len(found) > asked.limit)

    @route.get(NAMED, "getSecret", wire.SecretView, refuses=(NotFound,))
    async def get(self, call: Call) -> Response[bytes]:
        """What is known of one secret, without its value."""
        return reply(_view(await self._secrets.find(call.path_params["name"])))

    @route.delete(NAMED, "deleteSecret", wire.SecretView, refuses=(NotFound, LimitReached))
    async def delete(self, call: Call) -> Response[bytes]:
        """Forget it.

        Tasks that run keep the value that they have; those that name it and have not begun will fail.
        """
        return reply(_view(await self._secrets.delete(call.path_params["name"], visit(call).actor)))

    @route.post(
        "/api/v1/secret-keys/rotate",
        "rotateSecretKeys",
        wire.SecretsRotated,
        refuses=(Conflict, LimitReached),
    )
    async def rotate(self, call: Call) -> Response[bytes]:
        """Put every secret under the first of the server's keys.

        Then the older keys are not needed any more.
        """
        return reply(wire.SecretsRotated(await self._secrets.rotate(visit(call).actor)))

    @route.post(
        "/api/v1/job-secrets",
        "giveSecrets",
        wire.SecretsGiven,
        status=201,
        body=wire.SecretsForm,
        example={"values": {"HF_TOKEN": "hf_…"}},
        refuses=(InvalidSpec, Conflict, LimitReached),
    )
    async def give(self, call: Call) -> Response[bytes]:
        """Give values for one job.

        A task of it names them by what is answered, in its `secrets`. They are forgotten an hour or two
        after its end, or if no job comes.
        """
        given = _read(document.read(await call.body()), _GIVEN)
        names = await self._secrets.give(given, visit(call).actor)
        return reply(wire.SecretsGiven(names), 201)


async def require(backend: Backend, spec: JobSpec, job_id: JobId | None) -> None:
    """What was given for one job becomes that of this one; None is of a schedule.

    Raises: InvalidSpec, if a task names a secret that is not there: it could only fail.
    """
    wanted = secret.wanted(spec)
    if not wanted or not (absent := await backend.secrets.absent(wanted, job_id)):
        return
    errors = secret.unknown(spec, absent)
    raise InvalidSpec(
        f"{errors[0].path}: {errors[0].message}",
        *errors,
        hint="see what there is: styx secret list",
    )


def _name(call: Call) -> str:
    name: str = call.path_params["name"]
    if not fields.NAME.fullmatch(name):
        wrong = FieldError(
            "name", "expected 1 to 128 letters, digits, dots, dashes and underscores"
        )
        raise InvalidSpec(f"{wrong.path}: {wrong.message}", wrong)
    return name


def _read(given: object, known: Mapping[str, Field]) -> Any:
    """The one field of a body. Raises: InvalidSpec, which does not show it."""
    [key] = known
    errors: list[FieldError] = []
    read: dict[str, Any] = {}
    if isinstance(given, dict):  # what else it is would be shown
        read = fields.read(cast("object", given), known, errors)
    if not errors and known[key].keep in read:
        return read[known[key].keep]
    errors = errors or [FieldError(key, "missing: the body is an object with it")]
    raise InvalidSpec(f"{errors[0].path}: {errors[0].message}", *errors)


def _view(row: SecretRow) -> wire.SecretView:
    return wire.SecretView(
        id=row.id,
        name=row.name,
        created_at=row.created_at,
        created_by=row.created_by,
        updated_at=row.updated_at,
        updated_by=row.updated_by,
        key_id=row.key_id,
    )
