"""How commands reach a registry, and what it tells people at a terminal: tables of plain text.

Every word in the tables is somebody else's. The libraries are those of ``petaseal[registry]``.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import InputError, MissingLibraryError, PetasealError, one_line
from bench.terminal.show import say
from bench.units import rate_text
from certify.registry.api.cities import Lifecycle
from certify.registry.api.common import Service, TrustStatus
from certify.registry.api.views import Alarm, AttemptLine, CentreDetail, PoolCapacity, StatementSummary

if TYPE_CHECKING:
    from certify.registry.client.client import RegistryClient


TOKEN_VARIABLE = "PETASEAL_TOKEN"  # noqa: S105 (names the variable)
# More is no token, and may be the wrong file: it is not read into memory.
TOKEN_BYTES = 4096

Url = Annotated[str, typer.Option(help="The registry, such as https://registry.example.")]
TokenFile = Annotated[
    Path | None, typer.Option(help=f"File whose first line is a token (default: the variable {TOKEN_VARIABLE}).")
]
Ca = Annotated[Path | None, typer.Option(help="PEM file of the only authorities that may vouch for the registry.")]
Timeout = Annotated[
    float,
    typer.Option(min=0.1, max=3600, help="Seconds that a call may take as a whole; more for what is large (64 KiB/s)."),
]


@contextlib.contextmanager
def libraries(purpose: str) -> Iterator[None]:
    """Say in one sentence which library is missing, and how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        # A module of our own that is missing is a broken installation, and no missing extra.
        if error.name is None or error.name.split(".")[0] in ("certify", "bench", "kernels"):
            raise
        raise MissingLibraryError(error.name.split(".")[0], purpose, "registry") from None


@contextlib.contextmanager
def connected(url: str, token_file: Path | None, ca: Path | None, timeout_s: float) -> Iterator[RegistryClient]:
    """Yield a client of the registry at a URL, with the token of a file or of the environment."""
    # Before the libraries: a wrong file is said at once.
    token = read_token(token_file)
    with libraries("to talk to a registry"):
        from certify.registry.client.client import RegistryClient

        with RegistryClient(url, token, timeout_s, ca) as registry:
            yield registry


def read_token(file: Path | None) -> str | None:
    """Return the token of a file, else of the environment, else none.

    Raises:
        InputError: `token-file-invalid`, there is none in it; the text is not told.
    """
    if file is None:
        where, text = TOKEN_VARIABLE, os.environ.get(TOKEN_VARIABLE)
        if not text:
            return None
    else:
        from bench.record import read_given

        where, text = str(file), read_given(file, TOKEN_BYTES).decode("utf-8", "replace")
    # Editors end a file with a line break, which in a header would begin another one.
    token = text.splitlines()[0].strip() if text.strip() else ""
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError("token-file-invalid", "does not begin with a line that is a token", where=where)
    return token


def say_outlived(error: PetasealError) -> None:
    """Say on the side what goes wrong and is outlived."""
    say(f"petaseal: {error}", aside=True)


WIDE = 200  # columns, where nobody looks at a terminal
CELL = 80  # characters


def service_lines(url: str, service: Service, lifecycle: Lifecycle) -> list[str]:
    """Return what a registry is, and the sums of all states."""
    lines = [
        f"{service.name.zh} {service.name.en} at {url}",
        f"version    {service.version}, API {service.api}",
        f"receipts   signed by {service.registry_keyid}",
        f"trust root {service.trust_root}",
        *trust_lines(service.trust),
        f"reading    {'public' if service.public_read else 'by token'}",
        f"on-line    a node that was heard of within {service.stale_after_s} s",
    ]
    if service.rehearsal:
        lines.append("REHEARSAL  simulated centres add up here: it proves nothing")
    elif service.accepts_simulated:
        lines.append("simulated  statements are accepted, marked, and in no sum")
    shown = [line for line in lifecycle.lines if line.pools or line.reached.devices]
    if not shown:
        return [*(one_line(line) for line in lines), f"at {lifecycle.at}: no pool counts yet"]
    rows = [
        (
            line.state,
            line.pool_class,
            line.precision,
            f"{line.pools:,}",
            rate_text(line.own.certified_mflop_s),
            rate_text(line.reached.certified_mflop_s),
            rate_text(line.reached.sustained_mflop_s),
            rate_text(line.reached.nominal_mflop_s),
        )
        for line in shown
    ]
    headings = ("state", "class", "precision", "pools", "certified here", "certified, reached", "sustained", "nominal")
    return [
        *(one_line(line) for line in lines),
        *table(f"capacity at {lifecycle.at}", headings, rows, right=range(3, 8)),
    ]


def trust_lines(trust: TrustStatus | None) -> list[str]:
    """Return what is to be said of a trust root that is not good; nothing of one that is, or of an older registry."""
    if trust is None or trust.state == "good":
        return []
    code = f" ({trust.code})" if trust.code else ""
    return [f"           {trust.state}{code}: expires at {trust.expires_at}, followed until {trust.grace_until}"]


def centre_lines(detail: CentreDetail, attempts: Sequence[AttemptLine], alarms: Sequence[Alarm]) -> list[str]:
    """Return a centre's pools, statements, attempts and alarms."""
    centre = detail.summary
    until = f", valid until {centre.valid_until}" if centre.valid_until else ""
    return [
        one_line(f"{centre.centre_id}: {centre.name.zh} {centre.name.en}, {centre.operator}"),
        one_line(f"{centre.state}; {centre.in_force} of {centre.statements} statement(s) in force{until}"),
        *_pools(detail.pools),
        *_statements(detail.statements),
        *_attempts(attempts),
        *_alarms(alarms),
    ]


def table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> list[str]:
    """Return a table as lines of text, as wide as the terminal where there is one."""
    shown = Table(title=Text(title), title_justify="left", box=None, pad_edge=False, header_style="", title_style="")
    flush = set(right)
    for index, heading in enumerate(headings):
        shown.add_column(heading, justify="right" if index in flush else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(one_line(cell, CELL)) for cell in row))
    console = Console(file=io.StringIO(), width=None if sys.stdout.isatty() else WIDE, color_system=None)
    with console.capture() as capture:
        console.print(shown)
    return ["", *(line.rstrip() for line in capture.get().splitlines())]


def _pools(pools: Sequence[PoolCapacity]) -> list[str]:
    rows = [
        (
            f"{pool.pool} (simulated)" if pool.simulated else pool.pool,
            pool.pool_class,
            f"{pool.precision} {pool.choice}",
            pool.state,
            f"{pool.devices:,}",
            rate_text(pool.certified_mflop_s),
            rate_text(pool.sustained_mflop_s),
            rate_text(pool.nominal_mflop_s),
            rate_text(pool.schedulable_mflop_s),
            f"{pool.nodes_online}/{pool.nodes}",
            pool.valid_until,
        )
        for pool in pools
    ]
    headings = ("pool", "class", "workload", "state", "devices", "certified", "sustained", "nominal", "schedulable")
    return table("pools", (*headings, "on-line", "valid until"), rows, right=range(4, 10)) if rows else []


def _statements(statements: Sequence[StatementSummary]) -> list[str]:
    rows = [
        (
            str(one.sequence),
            one.payload_sha256[:16],
            one.project_id or "-",
            one.state,
            one.level,
            one.grade or "-",
            one.received_at,
            one.ended_code or "-",
        )
        for one in statements
    ]
    headings = ("no.", "statement", "project", "state", "level", "grade", "received at", "ended by")
    return table("statements", headings, rows, right=(0,)) if rows else []


def _attempts(attempts: Sequence[AttemptLine]) -> list[str]:
    rows = [
        (one.campaign_id or "-", one.state, one.opened_at, str(one.records), (one.statement or "-")[:16])
        for one in attempts
    ]
    return (
        table("attempts", ("campaign", "state", "opened at", "records", "statement"), rows, right=(3,)) if rows else []
    )


def _alarms(alarms: Sequence[Alarm]) -> list[str]:
    rows = [
        (one.at, one.code, one.other_centre_id or "-", str(one.devices), one.what or one.title.en) for one in alarms
    ]
    return table("alarms", ("at", "code", "other centre", "devices", "what"), rows, right=(3,)) if rows else []
