"""The OpenAPI 3.1 document, and a page for people made from it.

Drawn from the routes by msgspec rather than by the framework: forms and answers are msgspec structs,
and every refusal is declared. The page is plain HTML made here: the usual viewers load themselves from
a content network, which a server without the internet cannot.
"""

import functools
from collections.abc import Iterable, Sequence
from html import escape
from inspect import cleandoc
from typing import Any, Final

import msgspec
from litestar import Response

from styx.api import problems, route
from styx.api.route import JSON, Call, Handler, Route, reply
from styx.wire import http

Described = tuple[Route, Handler]

REF: Final = "#/components/schemas/{name}"
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}
code,pre{font:13px/1.45 ui-monospace,monospace;background:#8881;border-radius:4px}
code{padding:.1em .3em}pre{padding:.6em .8em;overflow:auto}h2{margin-top:2.5rem}
table{border-collapse:collapse}td,th{text-align:left;padding:.2em 1em .2em 0;vertical-align:top}
article{border-top:1px solid #8884;padding:.4rem 0}:root{color-scheme:light dark}
"""
_IN_PATHS: Final = {
    "id": "An id, a unique prefix of one, a name (the newest), or `last`",
    "name": "The whole name",
}
_PAGE_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
}


class Schema:
    """Serves both; they are made when first asked for."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._described: Sequence[Described] = ()

    def describe(self, routes: Sequence[Described]) -> None:
        self._described = routes

    @functools.cached_property
    def document(self) -> dict[str, Any]:
        return openapi(self._described, self._version)

    @route.get("/schema", "getDocs", str, media_types=("text/html",))
    async def page(self, _: Call) -> Response[str]:
        """This page."""
        return Response(page(self.document), media_type="text/html", headers=_PAGE_HEADERS)

    @route.get("/schema/openapi.json", "getSchema", dict[str, Any])
    async def json(self, _: Call) -> Response[bytes]:
        """The same for machines: OpenAPI 3.1."""
        return reply(self.document)


def openapi(described: Sequence[Described], version: str) -> dict[str, Any]:
    routes = [taken for taken, _ in described]
    types = list(dict.fromkeys(_types(routes)))
    schemas, components = msgspec.json.schema_components(types, ref_template=REF)
    by_type = dict(zip(types, schemas, strict=True))
    for query in {taken.query for taken in routes}:  # its fields stand with each route
        by_type[query] = components.pop(query.__name__)
    paths: dict[str, dict[str, Any]] = {}
    for taken, handler in described:
        operation = _operation(taken, cleandoc(handler.__doc__ or ""), by_type)
        paths.setdefault(taken.path, {})[taken.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Styx",
            "version": version,
            "description": "Run any command, array or DAG of commands on whatever machines you have.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{"bearer": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(taken.tag for taken in routes)],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def page(document: dict[str, Any]) -> str:
    operations = [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Styx API</title><style>{_STYLE}</style>",
        f"<h1>Styx {escape(document['info']['version'])}: HTTP API</h1>",
        "<p>The same for machines: <a href=/schema/openapi.json>openapi.json</a></p>",
    ]
    for tag in document["tags"]:
        parts.append(f"<h2>{escape(tag['name'])}</h2>")
        parts += (_article(*o) for o in operations if o[2]["tags"] == [tag["name"]])
    parts.append("<h2>Problems</h2><p>Errors are <code>application/problem+json</code>.</p><table>")
    parts += (
        f"<tr id=problem-{kind.code}><td><code>{kind.code}</code><td>{kind.status}"
        f"<td>{escape(kind.title)}"
        for kind in sorted({*problems.KINDS.values(), problems.INTERNAL})
    )
    return "\n".join([*parts, "</table>"])


def _types(routes: Iterable[Route]) -> Iterable[Any]:
    yield http.Problem
    for taken in routes:
        yield from taken.answers
        yield taken.query
        if taken.body is not None:
            yield taken.body


def _operation(
    taken: Route, description: str, schemas: dict[Any, dict[str, Any]]
) -> dict[str, Any]:
    summary, _, more = description.partition("\n")
    operation: dict[str, Any] = {
        "operationId": taken.operation_id,
        "tags": [taken.tag],
        "summary": summary,
        "description": more.strip(),
        "parameters": [
            *_path_parameters(taken),
            *_query_parameters(schemas[taken.query]),
            *_headers(taken),
        ],
        "responses": _responses(taken, schemas),
    }
    if taken.open:
        operation["security"] = []
    if taken.body is not None:
        content: dict[str, Any] = {"schema": schemas[taken.body], "example": taken.example}
        operation["requestBody"] = {"required": True, "content": {taken.body_type: content}}
    return operation


def _responses(taken: Route, schemas: dict[Any, dict[str, Any]]) -> dict[str, Any]:
    shapes = [schemas[answer] for answer in taken.answers]
    shape = shapes[0] if len(shapes) == 1 else {"anyOf": shapes}
    good = {media_type: {"schema": shape} for media_type in taken.media_types}
    responses: dict[str, Any] = {str(taken.status): {"description": "Done", "content": good}}
    for status, description in taken.also.items():
        responses[str(status)] = {"description": description, "content": good}
    refused = {problems.MEDIA_TYPE: {"schema": schemas[http.Problem]}}
    for kind in taken.kinds:
        response = responses.setdefault(str(kind.status), {"description": "", "content": {}})
        said = response["description"]
        response["description"] = f"{said}; {kind.title}" if said else kind.title
        response["content"] = response["content"] | refused
    return responses


def _path_parameters(taken: Route) -> list[dict[str, Any]]:
    said = _IN_PATHS | ({"id": "The whole id"} if taken.exact else {})
    return [
        _parameter(name, "path", {"type": "string"}, meaning, required=True)
        for name, meaning in said.items()
        if f"{{{name}}}" in taken.path
    ]


def _query_parameters(model: dict[str, Any]) -> list[dict[str, Any]]:
    fields: dict[str, dict[str, Any]] = model.get("properties", {})
    return [
        _parameter(
            name,
            "query",
            {key: said for key, said in schema.items() if key != "description"},
            schema.get("description", ""),
        )
        for name, schema in fields.items()
    ]


def _headers(taken: Route) -> list[dict[str, Any]]:
    return [
        _parameter(name, "header", {"type": "string"}, said) for name, said in taken.headers.items()
    ]


def _parameter(
    name: str, place: str, schema: dict[str, Any], description: str, *, required: bool = False
) -> dict[str, Any]:
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": description,
        "schema": schema,
    }


def _article(method: str, path: str, operation: dict[str, Any]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(p['name'])}</code><td>{escape(p['description'])}"
        for p in operation["parameters"]
    )
    body = operation.get("requestBody", {}).get("content", {}).get(JSON, {}).get("example")
    example = "" if body is None else f"<pre>{escape(msgspec.json.encode(body).decode())}</pre>"
    answers = " ".join(f"<code>{status}</code>" for status in operation["responses"])
    return (
        f"<article id={escape(operation['operationId'])}>"
        f"<p><code>{method.upper()} {escape(path)}</code> {escape(operation['summary'])}</p>"
        f"<p>{escape(operation.get('description', ''))}</p>{example}<table>{rows}</table>"
        f"<p>{answers}</p></article>"
    )
