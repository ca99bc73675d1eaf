"""A registry below a path of its host, as ``https://city.example/petaseal``: `serve --root-path /petaseal`.

A reverse proxy may send the path on as it came or without the prefix; both arrive at the same routes. Everything that
the registry says of its own addresses (links, redirects, OpenAPI) begins with the prefix.
"""

from __future__ import annotations

import re

from starlette.types import ASGIApp, Receive, Scope, Send

from bench.errors import InputError

SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
OWN = frozenset({"v1", "zh", "en", "assets", "healthz", "readyz", "metrics"})  # first segments of the registry's paths


def checked_root_path(text: str) -> str:
    """Return a root path without its last slash; empty where the registry has its host to itself.

    Raises:
        InputError: `usage`, it is no plain path, or begins as the registry's own paths do.
    """
    segments = text.strip("/").split("/") if text.strip("/") else []
    plain = all(SEGMENT.fullmatch(segment) and segment.strip(".") for segment in segments)
    if not plain or (segments and not text.startswith("/")):
        what = f"{text!r} is no path of letters, digits and . _ ~ - between slashes"
        raise InputError("usage", what, where="--root-path", fix="write it as /petaseal")
    # else a path could be meant with or without the prefix
    if segments and segments[0] in OWN:
        what = f"begins with /{segments[0]}, as paths of the registry itself do"
        raise InputError("usage", what, where="--root-path", fix="write it as /petaseal")
    return "".join(f"/{segment}" for segment in segments)


class RootPathMiddleware:
    """ASGI middleware around the whole application that takes a prefix off the path, where a proxy left it there.

    Args:
        app: what is inside.
        root_path: the prefix, as `checked_root_path` returns it.
    """

    def __init__(self, app: ASGIApp, root_path: str) -> None:
        self.app = app
        self.root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and self.root_path:
            path = scope["path"]
            if path == self.root_path or path.startswith(f"{self.root_path}/"):
                scope = {**scope, "path": path[len(self.root_path) :] or "/"}
        await self.app(scope, receive, send)
