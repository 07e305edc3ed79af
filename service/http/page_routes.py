"""HTTP: the live page's own files. They hold no data, so they are for everybody; what the page shows, it asks for."""

import gzip
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from models.output.palette import PALETTE

FOLDER = Path(__file__).parent / "page"
CHECKED = "no-cache"  # kept, but asked about each time, which an ETag makes short


class File(NamedTuple):
    """How a file of the page is found and sent."""

    path: Callable[[], Path]
    media_type: str


def _module(path: Path) -> File:
    return File(lambda: path, "text/javascript")


FILES = {
    "/": File(lambda: FOLDER / "index.html", "text/html"),
    "/page/palette.css": File(lambda: PALETTE, "text/css"),
    "/page/page.css": File(lambda: FOLDER / "page.css", "text/css"),
    **{f"/page/{path.name}": _module(path) for path in sorted(FOLDER.glob("*.js"))},
}
PATHS = frozenset(FILES)


class _PageFile(NamedTuple):
    """A file, as it is and compressed; each has a tag of its own, as they are different bytes."""

    content: bytes
    etag: str
    packed: bytes
    packed_etag: str


_kept: dict[str, _PageFile] = {}


def router() -> APIRouter:
    api = APIRouter(include_in_schema=False)
    for path in FILES:
        api.add_api_route(path, _sender(path))
    return api


def _sender(path: str) -> Callable[[Request], Awaitable[Response]]:
    async def send(request: Request) -> Response:
        file, read = FILES[path], _kept.get(path)
        if read is None:  # in a thread, once: a page has two dozen files, and each thread is waited for
            read = _kept[path] = await run_in_threadpool(_read, path)
        packs = _takes_gzip(request.headers.get("accept-encoding", ""))
        content, etag = (read.packed, read.packed_etag) if packs else (read.content, read.etag)
        headers = {"ETag": etag, "Cache-Control": CHECKED, "Vary": "Accept-Encoding"}
        if _is_known(etag, request.headers.get("if-none-match", "")):
            return Response(status_code=304, headers=headers)
        if packs:
            headers["Content-Encoding"] = "gzip"
        return Response(content, headers=headers, media_type=file.media_type)

    return send


def _is_known(etag: str, tags: str) -> bool:
    """tags: an If-None-Match header. Weak ones match too: a proxy that compresses marks a tag so."""
    known = {tag.strip().removeprefix("W/") for tag in tags.split(",")}
    return etag in known or "*" in known


def _takes_gzip(encodings: str) -> bool:
    """encodings: an Accept-Encoding header."""
    for one in encodings.lower().split(","):
        name, _, weight = one.partition(";")
        if name.strip() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


def _read(path: str) -> _PageFile:
    content = FILES[path].path().read_bytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return _PageFile(content, f'"{digest}"', gzip.compress(content, 6, mtime=0), f'"{digest}-gzip"')
