"""The registry's pages as they are served: the real application over loopback, with centres of all kinds."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.units import utc_ns
from certify.registry.storage import tables
from tests.certify.golden.test_golden import HERE as GOLDEN
from tests.certify.registry import rows
from tests.certify.registry.laid import lay_registry

if TYPE_CHECKING:
    from certify.registry.storage.store import Store

ATTACK = "<img src=x onerror=alert(1)><script>alert(2)</script>"
NOW_NS = utc_ns(rows.T0) + 60 * 10**9
SECRET = "claims uuid:GPU-1234abcd-0000 of gpu-00000/cuda:0"


@dataclass(frozen=True)
class Site:
    """A served registry. `named` holds the digests of its statements."""

    address: str
    named: dict[str, str]

    def url(self, lang: str, room: str) -> str:
        """Return the address of a page."""
        return f"{self.address}/{lang}/{room.format(**self.named)}"


def fill(store: Store) -> dict[str, str]:
    """Store centres of all kinds; return the digests of two statements."""
    golden = store.objects.put((GOLDEN / "statement.dsse.json").read_bytes())
    receipt = b'{"payload": ""}'
    with store.writing() as connection:

        def add(centre_id: str, *pools: rows.PoolOf, **columns: Any) -> str:
            return rows.add_statement(connection, centre_id, pools, envelope_sha256=golden, **columns)

        both = (
            rows.PoolOf(nodes=2),
            rows.PoolOf(pool="hpc", pool_class="supercomputing", certified_mflop_s=41 * 10**9),
        )
        for month in ("01", "02"):
            add("gz-a", *both, at=f"2026-{month}-01T00:00:00.000000Z")
        a = add("gz-a", *both, name_zh="南沙智算中心", name_en="Nansha", district="南沙")
        rows.manage(connection, "gz-a")
        rows.beat(connection, "gz-a", rows.node_ids(both[0])[0], at=rows.T0)
        add("wh-b", rows.PoolOf(certified_mflop_s=10**9), jurisdiction="CN-420100", district="东湖", level="trusted")
        add("gz-evil", rows.PoolOf(), name_zh=ATTACK, name_en=ATTACK, operator=ATTACK, district=ATTACK)
        shown = add("gz-test", rows.PoolOf(certified_mflop_s=10**8), simulated=True, grade="smoke", project_id="P-1")
        rows.add_alarm(connection, a, shown, "gz-a", "gz-test")
        rows.add_external_id(connection, "gz-a", "suanli-0001")
        decided: dict[str, Any] = {
            "at": rows.T0,
            "kind": "statement",
            "object_sha256": None,
            "centre_id": "gz-a",
            "receipt": receipt,
        }
        for code, payload in ((None, shown), ("device-claimed-twice", rows.sha("refused"))):
            told: dict[str, Any] = {"code": code, "detail": code and SECRET, "level": None if code else "trusted"}
            told |= {"decision": "refused" if code else "accepted", "payload_sha256": payload, "token_id": 1}
            connection.execute(tables.decisions.insert(), decided | told)
        drawn: dict[str, Any] = {
            "challenge": "ab" * 16,
            "centre_id": "gz-a",
            "issued_at": "2026-01-01T00:00:00.000000Z",
        }
        drawn |= {"expires_at": "2026-02-01T00:00:00.000000Z", "token_id": 1}
        connection.execute(tables.challenges.insert(), drawn)
    return {"a": a, "golden": shown}


def serve(
    folder: Path,
    keys: Path,
    database: Path,
    filling: Callable[[Store], dict[str, str]] = fill,
    at_ns: int = NOW_NS,
    **settings: Any,
) -> Generator[Site, None, None]:
    """Serve a filled registry until the generator is closed."""
    import uvicorn

    from certify.registry.base.registry import open_registry
    from certify.registry.service.app import create_app

    laid = lay_registry(folder, keys, **settings)
    shutil.copyfile(database, laid.root / database.name)
    registry = open_registry(laid.root, lambda: at_ns)
    named = filling(registry.store)
    config = uvicorn.Config(create_app(registry), port=0, log_level="critical", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Site(f"http://127.0.0.1:{port}", named)
    server.should_exit = True
    thread.join()
    registry.close()
