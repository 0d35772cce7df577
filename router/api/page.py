"""The page at `/`: files of the package, served as they are. They hold no data, so they need no token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from importlib import resources

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
# Nothing of another host, no script or style inside the markup, no markup made from text by a script.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


def page_routes() -> list[Route]:
    """`index.html` at `/`, and the other files below `/page/`."""
    files = {
        file.name: _file(kind, file.read_bytes())
        for file in resources.files(__package__).joinpath("assets").iterdir()
        if (kind := _TYPES.get(file.name.rpartition(".")[2])) is not None
    }

    async def serve(request: Request) -> Response:
        file = files.get(request.path_params.get("file", "index.html"))
        if file is None:
            raise HTTPException(404, "the page has no such file")
        return file(request)

    return [Route("/", serve), Route("/page/{file}", serve)]


def is_page(path: str) -> bool:
    """Whether ``path`` belongs to the page itself."""
    return path == "/" or path.startswith("/page/")


def _file(kind: str, content: bytes) -> Callable[[Request], Response]:
    headers = {**_HEADERS, "etag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'}

    def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["etag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return answer
