"""``petaseal registry alarms``, ``acknowledge`` and ``audit``: the commands of officials, over the network."""

from __future__ import annotations

from itertools import islice
from typing import Annotated, Any

import typer

from bench.errors import InputError
from certify.commands.options import Json
from certify.commands.output import report
from certify.commands.registry.show import Ca, Timeout, TokenFile, Url, connected, table

app = typer.Typer()

AsReason = Annotated[str, typer.Option(help="Why, in one line; it stays stored.")]
MostLines = Annotated[int, typer.Option("--most", min=1, max=100_000, help="Lines at most, the newest first.")]


@app.command(epilog="Example: petaseal registry alarms --url https://registry.example --open --grouped")
def alarms(
    url: Url,
    centre: Annotated[str | None, typer.Option(help="Centre that they name.")] = None,
    code: Annotated[str | None, typer.Option(help="Their reason code.")] = None,
    acknowledged: Annotated[bool, typer.Option("--acknowledged", help="Those that were acknowledged.")] = False,
    not_acknowledged: Annotated[bool, typer.Option("--open", help="Those that were not.")] = False,
    grouped: Annotated[bool, typer.Option("--grouped", help="By code and pair of centres.")] = False,
    most: MostLines = 200,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """List alarms, newest first, with the platform's last word on each."""
    import msgspec

    if acknowledged and not_acknowledged:
        raise InputError("usage", "--open leaves out what --acknowledged asks for", fix="give one of them, or none")
    wanted = acknowledged if acknowledged or not_acknowledged else None
    with connected(url, token_file, ca, timeout) as there:
        asking: Any = there.alarm_groups if grouped else there.alarms
        found = list(islice(asking(centre, code, wanted), most))
    lines = _group_lines(found) if grouped else _alarm_lines(found)
    report(as_json, {"groups" if grouped else "alarms": msgspec.to_builtins(found)}, lines or ["there is no alarm"])


@app.command(
    epilog='Example: petaseal registry acknowledge 17 --url https://registry.example --reason "moved to the new centre"'
    " --token-file platform.token"
)
def acknowledge(
    alarm: Annotated[int, typer.Argument(metavar="ID", min=1, help="Number of the alarm.")],
    url: Url,
    reason: AsReason,
    withdraw: Annotated[bool, typer.Option("--withdraw", help="Withdraw an earlier acknowledgement.")] = False,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Acknowledge an alarm, or withdraw that, as the platform."""
    import msgspec

    if not 1 <= len(reason) <= 256:
        raise InputError("usage", "is a text of 1 to 256 letters", where="--reason")
    with connected(url, token_file, ca, timeout) as there:
        said = there.acknowledge(alarm, reason, not withdraw)
    state = "acknowledged" if said.acknowledged else "open again"
    report(as_json, msgspec.to_builtins(said), [f"alarm {said.alarm_id} is {state} since {said.at}: {said.reason}"])


@app.command(
    epilog="Example: petaseal registry audit --url https://registry.example --since 2026-03-01 --token-file"
    " platform.token"
)
def audit(
    url: Url,
    since: Annotated[str | None, typer.Option(help="At this UTC time or later: 2026-03-01 or longer.")] = None,
    until: Annotated[str | None, typer.Option(help="Before this UTC time.")] = None,
    token: Annotated[int | None, typer.Option(min=0, help="Number of a token.")] = None,
    action: Annotated[str | None, typer.Option(help="What was done: statement, records, manage ...")] = None,
    outcome: Annotated[str | None, typer.Option(help="done, accepted, repeated, or a reason code.")] = None,
    most: MostLines = 200,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """List who did what with the registry, newest first, as the platform."""
    import msgspec

    number = None if token is None else str(token)
    with connected(url, token_file, ca, timeout) as there:
        asked = there.audit(since=since, until=until, token=number, action=action, outcome=outcome)
        found = list(islice(asked, most))
    rows = [
        (one.at, one.token or str(one.token_id or "-"), one.action, one.outcome, one.target, one.request_id)
        for one in found
    ]
    lines = table("audit log", ("at", "token", "action", "outcome", "target", "request"), rows) if rows else []
    report(as_json, {"audit": msgspec.to_builtins(found)}, lines or ["there is no such line"])


def _alarm_lines(found: list[Any]) -> list[str]:
    rows = [
        (
            str(one.id),
            one.at,
            one.code,
            one.centre_id,
            one.other_centre_id or "-",
            str(one.devices),
            "acknowledged" if one.acknowledgement is not None and one.acknowledgement.acknowledged else "open",
            one.what or one.title.en,
        )
        for one in found
    ]
    headings = ("id", "at", "code", "centre", "other centre", "devices", "state", "what")
    return table("alarms", headings, rows, right=(0, 5)) if rows else []


def _group_lines(found: list[Any]) -> list[str]:
    rows = [
        (one.code, one.centre_id, one.other_centre_id or "-", str(one.alarms), str(one.open), one.last_at)
        for one in found
    ]
    headings = ("code", "centre", "other centre", "alarms", "open", "last")
    return table("alarms by code and centres", headings, rows, right=(3, 4)) if rows else []
