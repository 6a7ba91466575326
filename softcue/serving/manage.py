"""Managing routes: what adapters there are, and adding, naming and removing them."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from softcue.adapter import Adapter
from softcue.bank.entry import ALIAS, Entry, check_name
from softcue.errors import AdapterError, RequestError, short
from softcue.serving.access import MANAGE_SCOPE
from softcue.serving.body import body_parts, read_body
from softcue.serving.endpoints import Endpoint, Site
from softcue.serving.faults import json_response, refused_upload
from softcue.serving.replies import json_body, ref
from softcue.serving.upload import files_in_tar, unpack
from softcue.serving.wire import AliasBody, parse_body

MOST = 1_000  # entries of a page


async def list_adapters(site: Site, request: Request) -> Response:
    """List adapters, a page at a time."""
    entries, after, count = await _page(site, request, 100)
    return json_response(
        {"adapters": [describe_entry(entry) for entry in entries], "next": after, "count": count}
    )


async def list_models(site: Site, request: Request) -> Response:
    """List adapters as OpenAI lists models."""
    entries, after, _ = await _page(site, request, MOST)
    data = [
        {"id": entry.name, "object": "model", "created": int(entry.added), "owned_by": "softcue"}
        for entry in entries
    ]
    return json_response({"object": "list", "data": data, "has_more": after is not None})


async def show_adapter(site: Site, request: Request) -> Response:
    """Say what a name stands for now."""
    return json_response(
        describe_entry(await asyncio.to_thread(site.source.find, request.path_params["adapter"]))
    )


async def put_adapter(site: Site, request: Request) -> Response:
    """Add a version of an adapter from a tar with its two files."""
    name = request.path_params["name"]
    check_name(name)
    async with site.uploads:  # few at a time: each takes memory
        data = await unpack(body_parts(request.receive, site.limits.upload_seconds), site.limits.upload)
        entry = await asyncio.to_thread(_add, site, name, data)
    return json_response(describe_entry(entry), 201)


def _add(site: Site, name: str, data: bytes) -> Entry:
    try:
        adapter = Adapter.from_files(files_in_tar(data), name)
        site.service.check(name, adapter)  # a source without adapters takes those of any encoder
        return site.source.add(name, adapter)
    except AdapterError as error:
        raise refused_upload(error) from error


async def delete_adapter(site: Site, request: Request) -> Response:
    """Remove an adapter, or one version of it."""
    removed = await asyncio.to_thread(site.source.remove, request.path_params["adapter"])
    return json_response({"removed": [describe_entry(entry) for entry in removed]})


async def put_alias(site: Site, request: Request) -> Response:
    """Let an alias stand for a version."""
    body = parse_body(AliasBody, await read_body(request.receive, site.limits))
    return json_response(describe_entry(await _alias(site, request, body.version)))


async def delete_alias(site: Site, request: Request) -> Response:
    """Let an alias stand for no version any more."""
    return json_response(describe_entry(await _alias(site, request, None)))


async def _alias(site: Site, request: Request, version: int | None) -> Entry:
    name, alias = request.path_params["name"], request.path_params["alias"]
    check_name(name)
    if not ALIAS.fullmatch(alias):
        raise RequestError(
            f"{short(alias)} is no alias; expected a letter, then letters, digits, '.', '_', '-'"
        )
    return await asyncio.to_thread(site.source.alias, name, alias, version)


async def _page(site: Site, request: Request, usual: int) -> tuple[list[Entry], str | None, int]:
    """Return the entries that are asked for, the name to go on after, and how many names there are."""
    asked = request.query_params
    limit = asked.get("limit", str(usual))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= MOST):
        raise RequestError(f"limit is {short(limit)}; expected a number from 1 to {MOST:,}")
    after, search = asked.get("after", ""), asked.get("search", "")
    entries = await asyncio.to_thread(site.source.page, after, int(limit) + 1, search)
    more = len(entries) > int(limit)
    entries = entries[: int(limit)]
    return entries, entries[-1].name if more else None, await asyncio.to_thread(site.source.count)


def describe_entry(entry: Entry) -> dict[str, Any]:
    """Return an entry as JSON."""
    return {**entry.to_json(), "full_name": entry.full_name}


def _query(name: str, about: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": about, "schema": schema}


PAGE = (
    _query("after", "The name to go on after: `next` of the page before.", {"type": "string"}),
    _query("limit", "How many.", {"type": "integer", "minimum": 1, "maximum": MOST}),
    _query("search", "Names that contain this.", {"type": "string"}),
)
_BYTES = {"schema": {"type": "string", "format": "binary"}}
_TAR = {"application/x-tar": _BYTES, "application/gzip": _BYTES}
_NAMED = "/v1/adapters/{name}"
_ASKED = "/v1/adapters/{adapter}"

MANAGE_ENDPOINTS = (
    Endpoint(
        "GET",
        "/v1/adapters",
        list_adapters,
        "List adapters",
        reply=ref("Adapters"),
        query=PAGE,
        refusals=(422,),
    ),
    Endpoint(
        "GET",
        "/v1/models",
        list_models,
        "List adapters as OpenAI lists models",
        reply=ref("Models"),
        query=PAGE,
        refusals=(422,),
    ),
    Endpoint("GET", _ASKED, show_adapter, "Say what a name stands for", reply=ref("Adapter")),
    Endpoint(
        "PUT",
        _NAMED,
        put_adapter,
        "Add a version of an adapter: a tar, gzipped or not, with its two files",
        scope=MANAGE_SCOPE,
        body=_TAR,
        reply=ref("Adapter"),
        status=201,
    ),
    Endpoint(
        "DELETE",
        _ASKED,
        delete_adapter,
        "Remove an adapter, or one version of it",
        scope=MANAGE_SCOPE,
        reply=ref("Removed"),
    ),
    Endpoint(
        "PUT",
        _NAMED + "/aliases/{alias}",
        put_alias,
        "Let name@alias stand for a version",
        scope=MANAGE_SCOPE,
        body=json_body("AliasBody", {"version": 1}),
        reply=ref("Adapter"),
    ),
    Endpoint(
        "DELETE",
        _NAMED + "/aliases/{alias}",
        delete_alias,
        "Let an alias stand for no version any more",
        scope=MANAGE_SCOPE,
        reply=ref("Adapter"),
    ),
)
