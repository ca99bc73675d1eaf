"""Heartbeats under load: of single nodes and of racks, at a registry whose trust root lists a thousand keys.

Each heartbeat is signed when it is sent, since it bears the nonce of the answer before. `beating` keeps nodes on-line
at a given rate while something else is measured.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median

from msgspec.structs import replace

from bench.units import utc_text
from certify.keys.signers import load_scheme, spki_text
from certify.trust.root import read_root
from certify.trust.store import accept_files
from certify.trust.trusted_set import Delegation, TrustedKey
from tests.certify.registry.beating import Line, Node, lay_nodes, racks
from tests.certify.registry.laid import Laid, lay_keys, lay_registry
from tests.certify.registry.listening import Served, opened, served

KEYS = 1000  # of the trust root
CENTRES, NODES = 50, 20
SECONDS, ROUNDS = 8.0, 3
CONNECTIONS = 16
LIMIT_HZ = 500  # heartbeats of single nodes that must be accepted
UNLIMITED = {"requests_per_minute": 10**7, "burst": 10**7}  # one address stands for a city


def measure() -> None:
    """Print how many heartbeats a second are accepted, alone, and what each costs the service."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        laid = lay_registry(folder / "registry", lay_keys(folder / "keys"), stale_after_s=3600, limits=UNLIMITED)
        list_keys(laid, KEYS)
        with opened(laid.root) as registry:
            nodes = lay_nodes(registry.store, CENTRES, NODES, utc_text(time.time_ns()))
        with served(laid.root) as service:
            with contextlib.closing(Line(service.url)) as line:
                line.ask_nonces(nodes)
            singles = [_round(service, nodes, single=True) for _ in range(ROUNDS)]
            together = [_round(service, nodes, single=False) for _ in range(ROUNDS)]
    for what, rounds, limit in (
        ("of single nodes", singles, f" (limit {LIMIT_HZ})"),
        ("of racks of 64", together, ""),
    ):
        rate, cost_ms = (median(one[place] for one in rounds) for place in (0, 1))
        print(
            f"heartbeats {what}, a root of {KEYS} keys, alone, median of {ROUNDS} x {SECONDS:.0f} s: {rate:.0f}/s"
            f" accepted{limit}; {cost_ms:.2f} ms of a core of the service for each",
            flush=True,
        )


def list_keys(laid: Laid, count: int) -> None:
    """Let the trust root list so many keys of operators more, each of a centre of its own."""
    root = read_root(laid.trust.read_bytes()).root
    (like,) = (root.keys[one.keys[0]] for one in root.roles if one.role == "witness")
    keys, roles = dict(root.keys), list(root.roles)
    for number in range(count - len(keys)):
        public = load_scheme("ed25519").generate().public
        keys[public.keyid] = TrustedKey(
            scheme=public.scheme, spki=spki_text(public), valid_from=like.valid_from, valid_until=like.valid_until
        )
        centre = (f"listed-{number:04d}",)
        roles.append(Delegation(role="operator", centre_ids=centre, threshold=1, keys=(public.keyid,)))
    laid.new_root(replace(root, version=root.version + 1, keys=keys, roles=tuple(roles)))
    accept_files((laid.trust,), utc_text(time.time_ns()), laid.root / "state", laid.anchor.fingerprint)


def _round(service: Served, nodes: Sequence[Node], *, single: bool) -> tuple[float, float]:
    """Return how many heartbeats a second were accepted, and what each cost the service, ms of a core."""
    accepted, until_s = [0] * CONNECTIONS, time.perf_counter() + SECONDS
    before_s, begin_s = service.cpu_s(), time.perf_counter()

    def beat(number: int, line: Line) -> None:
        part = nodes[number::CONNECTIONS]
        for group in cycle([[node] for node in part] if single else racks(part)):
            if time.perf_counter() > until_s:
                return
            if single:
                assert line.beat(group[0]).online
            else:
                assert all(one.online for one in line.beat_rack(group).lines)
            accepted[number] += len(group)

    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(Line(service.url))) for _ in range(CONNECTIONS)]
        threads = [threading.Thread(target=beat, args=pair) for pair in enumerate(lines)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    took_s = time.perf_counter() - begin_s
    return sum(accepted) / took_s, 1e3 * (service.cpu_s() - before_s) / max(1, sum(accepted))


@contextlib.contextmanager
def beating(service: Served, nodes: Sequence[Node], rate_hz: float) -> Iterator[list[float]]:
    """Send heartbeats of single nodes at a rate, and yield the list of what each took, s, from when it was due."""
    ended, taken = threading.Event(), list[float]()
    connections = 4

    def beat(number: int, line: Line) -> None:
        due_s = time.perf_counter() + number / rate_hz
        for node in cycle(nodes[number::connections]):
            if ended.wait(max(0.0, due_s - time.perf_counter())):
                return
            assert line.beat(node).online
            taken.append(time.perf_counter() - due_s)
            due_s += connections / rate_hz

    with contextlib.ExitStack() as stack:
        lines = [stack.enter_context(contextlib.closing(Line(service.url))) for _ in range(connections)]
        lines[0].ask_nonces(nodes)
        threads = [threading.Thread(target=beat, args=pair) for pair in enumerate(lines)]
        for thread in threads:
            thread.start()
        try:
            yield taken
        finally:
            ended.set()
            for thread in threads:
                thread.join()
