"""A client of an application in the same process: for what has nothing to do with the wire."""

from __future__ import annotations

from typing import Any

import anyio
import httpx
from starlette.types import ASGIApp


class Within:
    """Asks an application; each request runs to its end."""

    def __init__(self, app: ASGIApp, base_url: str = "http://registry.test", secret: str | None = None) -> None:
        self.app = app
        self.base_url = base_url
        self.headers = {} if secret is None else {"authorization": f"Bearer {secret}"}

    def request(self, method: str, path: str, **named: Any) -> httpx.Response:
        """Return the answer to one request; `named` as in httpx."""

        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url=self.base_url, headers=self.headers) as client:
                return await client.request(method, path, **named)

        return anyio.run(asked)

    def get(self, path: str, **named: Any) -> httpx.Response:
        """Ask by GET."""
        return self.request("GET", path, **named)

    def head(self, path: str, **named: Any) -> httpx.Response:
        """Ask by HEAD."""
        return self.request("HEAD", path, **named)

    def post(self, path: str, **named: Any) -> httpx.Response:
        """Ask by POST."""
        return self.request("POST", path, **named)

    def put(self, path: str, **named: Any) -> httpx.Response:
        """Ask by PUT."""
        return self.request("PUT", path, **named)
