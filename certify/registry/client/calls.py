"""How a client asks: one connection pool, answers decoded as the types of `certify.registry.api`, pages, downloads."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import httpx
import msgspec

from bench.record.fields import in_words
from certify.registry.api import common
from certify.registry.client.transport import Transport, TransportRequest, TransportResponse, given_params

T = TypeVar("T")
PAGE = 200


class ClientCalls:
    """What all parts of the client share; it is made as `RegistryClient` says."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = 30.0,
        ca: Path | None = None,
        attempts: int = 4,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = Transport(url, token, timeout_s, ca, attempts, transport, sleep)
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport.url!r})"

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    def _read(self, path: str, params: Mapping[str, str | None] | None) -> TransportResponse:
        return self._transport.check(self._transport.ask(TransportRequest("GET", path, given_params(params))))

    def _get(self, path: str, kind: type[T], params: Mapping[str, str | None] | None = None) -> T:
        return self._decoded(self._read(path, params), kind)

    def _bytes(self, path: str, params: Mapping[str, str | None] | None = None) -> bytes:
        return self._read(path, params).content

    def _pages(self, path: str, kind: type[T], params: Mapping[str, str | None]) -> Iterator[T]:
        page_type: Any = common.Page[kind]  # type: ignore[valid-type]
        cursor: str | None = None
        while True:
            page = self._get(path, page_type, {**params, "limit": str(PAGE), "cursor": cursor})
            yield from page.items
            if page.next is None:
                return
            # keyset paging (not offsets): lines that come meanwhile move nothing
            cursor = page.next

    def _download(self, path: str, file: IO[bytes]) -> None:
        def emptied() -> IO[bytes]:
            file.seek(0)
            file.truncate()
            return file

        self._transport.check(self._transport.ask(TransportRequest("GET", path, into=emptied)))

    def _send(self, method: str, path: str, ask: common.ApiRequest, kind: type[T]) -> T:
        headers, body = {"content-type": "application/json"}, msgspec.json.encode(ask)
        # the same content at the same place once more changes nothing; a POST might
        repeatable = method != "POST"
        answer = self._transport.ask(TransportRequest(method, path, headers=headers, body=body, repeatable=repeatable))
        return self._decoded(self._transport.check(answer), kind)

    def _decoded(self, answer: TransportResponse, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(answer.content, type=kind)
        except msgspec.MsgspecError as error:
            raise self._transport.invalid(f"does not answer as a registry does ({in_words(error)})") from None
