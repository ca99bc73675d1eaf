"""``petaseal registry``: the commands of who talks to a registry. For who runs one: `registry_admin`.

Everything of the registry is imported inside the commands: it needs the extra ``petaseal[registry]``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import InputError, PetasealError, RefusedError
from bench.terminal.show import print_json
from certify.commands.options import Json, checked_digest, group
from certify.commands.output import report
from certify.commands.registry import aliases, node, oversight, registry_admin, tokens
from certify.commands.registry.show import Ca, Timeout, TokenFile, Url, connected, say_outlived

if TYPE_CHECKING:
    from certify.registry.client.client import RegistryClient
    from certify.registry.client.push import Sent

client_app = typer.Typer()


@client_app.command(
    epilog="Example: petaseal registry push statement --url https://registry.example --token-file token"
)
def push(
    path: Annotated[
        Path,
        typer.Argument(help="Statement's folder or package, records.jsonl, campaign, node records, or one of them."),
    ],
    url: Url,
    token_file: TokenFile = None,
    statement: Annotated[
        str | None, typer.Option(help="Payload digest of the statement that records.jsonl belongs to.")
    ] = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Submit what a registry takes, and keep its receipts; exit 1 where it refuses."""
    with connected(url, token_file, ca, timeout) as there:
        from certify.registry.client.push import push

        report_decisions(push(there, path, statement), as_json)


@client_app.command(
    epilog="Example: petaseal registry revoke revocations.json --url https://registry.example --token-file token"
)
def revoke(
    path: Annotated[Path, typer.Argument(metavar="LIST", help="Signed list (petaseal trust revoke --list).")],
    url: Url,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Submit a signed revocation list, as the platform."""
    with connected(url, token_file, ca, timeout) as there:
        from certify.registry.client.push import push

        report_decisions(push(there, path, only=("revocations",)), as_json)


@client_app.command(
    epilog="Example: petaseal registry challenge --url https://registry.example --centre gz-park-1 --token-file token"
)
def challenge(
    url: Url,
    centre: Annotated[str, typer.Option(help="Centre whose campaign it opens.")],
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Draw a challenge for one campaign."""
    import msgspec

    with connected(url, token_file, ca, timeout) as there:
        drawn = there.draw_challenge(centre)
    lines = [
        f"challenge {drawn.challenge}",
        f"for one campaign of {drawn.centre_id} that is opened before {drawn.expires_at}:",
        f"  petaseal campaign create --challenge {drawn.challenge} --challenge-from registry ...",
    ]
    report(as_json, msgspec.to_builtins(drawn), lines)


@client_app.command(
    epilog="Example: petaseal registry pull --url https://registry.example --statement 3f1c... --out statement"
)
def pull(
    url: Url,
    statement: Annotated[str | None, typer.Option(help="Payload digest of a statement.")] = None,
    campaign: Annotated[str | None, typer.Option(help="Digest of a campaign, for the records posted of it.")] = None,
    feed: Annotated[bool, typer.Option("--feed", help="The capacity of all centres, as JSON and CSV.")] = False,
    nodes: Annotated[bool, typer.Option("--nodes", help="What each node gives, as JSON and CSV.")] = False,
    out: Annotated[Path | None, typer.Option(help="Folder for what is fetched.")] = None,
    follow: Annotated[
        bool,
        typer.Option("--follow", help="With --feed or --nodes: print what changes, one JSON object a line, for ever."),
    ] = False,
    since: Annotated[str | None, typer.Option(help='With --follow: "next" of the last line that was taken.')] = None,
    every: Annotated[float, typer.Option(min=0.1, max=86_400, help="With --follow: seconds between looks.")] = 10.0,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Fetch a statement with its first and its highest receipt, a campaign's records, or a feed."""
    if (statement is not None) + (campaign is not None) + feed + nodes != 1:
        raise InputError("usage", "give exactly one of --statement, --campaign, --feed and --nodes")
    if follow and not (feed or nodes):
        raise InputError("usage", "--follow is for the feeds", fix="give it with --feed or --nodes")
    # What is followed never ends, so that it cannot be a folder that is complete at some time.
    if (out is None) != follow:
        raise InputError("usage", "--out names the folder for what is fetched, and --follow prints it", where="--out")
    with connected(url, token_file, ca, timeout) as there:
        from certify.registry.client.push import pull_campaign, pull_feed, pull_nodes, pull_statement

        if out is None:
            (_print_node_changes if nodes else _print_changes)(there, since, every)
            return
        if statement is not None:
            pulled = pull_statement(there, checked_digest(statement, "--statement"), out)
        elif campaign is not None:
            pulled = pull_campaign(there, checked_digest(campaign, "--campaign"), out)
        else:
            pulled = (pull_nodes if nodes else pull_feed)(there, out)
    shown = {"files": [str(file) for file in pulled.files], "unchanged": pulled.unchanged}
    lines = [str(file) for file in pulled.files]
    if pulled.unchanged:
        lines.append(f"{pulled.unchanged} record(s) were there before")
    lines += [f"NOT FETCHED: {what}" for what in pulled.not_there]
    if statement is not None:
        lines.append(f"check it with: petaseal verify {out} --trust trust-root.json")
    report(as_json, {**shown, "not_fetched": list(pulled.not_there)}, lines)


@client_app.command(epilog="Example: petaseal registry status --url https://registry.example --centre gz-park-1")
def status(
    url: Url,
    centre: Annotated[str | None, typer.Option(help="Centre to look at (default: all together).")] = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Show what a registry is and its sums, or one centre's pools, attempts and alarms."""
    import msgspec

    with connected(url, token_file, ca, timeout) as there:
        from certify.commands.registry import show as showing

        if centre is None:
            service, lifecycle = there.service(), there.lifecycle()
            shown = {"service": service, "lifecycle": lifecycle}
            report(as_json, msgspec.to_builtins(shown), showing.service_lines(url, service, lifecycle))
            return
        detail, alarms = there.centre(centre), list(there.alarms(centre=centre))
        value = {"centre": detail, "alarms": alarms}
        report(as_json, msgspec.to_builtins(value), showing.centre_lines(detail, detail.attempts, alarms))


@client_app.command(
    epilog="Example: petaseal registry act manage --url https://registry.example --centre gz-park-1 --pool main"
    ' --reason "contract 2026-17" --token-file token'
)
def act(
    what: Annotated[str, typer.Argument(metavar="ACT", help="register, deregister, manage or release.")],
    url: Url,
    centre: Annotated[str, typer.Option(help="Centre of the pool.")],
    pool: Annotated[str, typer.Option(help="The pool.")],
    reason: Annotated[str, typer.Option(help="Why, in one line: it stands in the register.")],
    project: Annotated[str | None, typer.Option(help="Project of the centre, where its statements name one.")] = None,
    external_id: Annotated[
        list[str] | None, typer.Option(help="SCHEME=VALUE issued elsewhere (算力标识); may be repeated.")
    ] = None,
    token_file: TokenFile = None,
    ca: Ca = None,
    timeout: Timeout = 30.0,
    as_json: Json = False,
) -> None:
    """Register a pool, take it under management, or end that, as the platform."""
    import msgspec

    with connected(url, token_file, ca, timeout) as there:
        from certify.registry.api.common import ActAsk

        given = [text.partition("=") for text in external_id or ()]
        # As a mapping: the check of what was typed is that of the registry's own API.
        asked = {
            "act": what,
            "centre_id": centre,
            "project_id": project,
            "pool": pool,
            "reason": reason,
            "external_ids": [{"scheme": scheme, "value": value} for scheme, _, value in given],
        }
        try:
            done = there.act(msgspec.convert(asked, ActAsk))
        except msgspec.ValidationError as error:
            from bench.record.fields import in_words

            raise InputError("usage", in_words(error), where="act") from None
    lines = [f"{done.act}: {done.centre_id}, pool {done.pool}, at {done.at}: {done.reason}"]
    report(as_json, msgspec.to_builtins(done), lines)


def report_decisions(sending: Iterable[Sent], as_json: bool) -> None:
    """Print what the registry decided, also where something goes wrong on the way.

    Raises:
        RefusedError: the first refusal.
        InputError: what went wrong on the way.
    """
    sent: list[Sent] = []
    failure: PetasealError | None = None
    try:
        sent.extend(sending)
    # What was decided before the connection broke stays decided: it is printed, and the break raised after it.
    except PetasealError as error:
        failure = error
    for one in sent:
        if one.decided.decision == "refused" and failure is None:
            assert one.decided.code is not None
            failure = RefusedError(one.decided.code, one.decided.detail or "is refused", where=one.path)
    if sent:
        shown = {"accepted": failure is None, "decisions": [one.as_json() for one in sent]}
        report(as_json, shown, [line for one in sent for line in one.lines()])
    if failure is not None:
        raise failure


def _print_changes(there: RegistryClient, since: str | None, every_s: float) -> None:
    import msgspec

    for changes in there.follow(since, every_s, say_outlived):
        shown = {
            "at": changes.at,
            "next": changes.cursor,
            "centres": changes.centres,
            "items": msgspec.to_builtins(changes.items),
            "gone": [dict(zip(("centre_id", "project_id", "pool"), pool, strict=True)) for pool in changes.gone],
        }
        print_json(shown)


def _print_node_changes(there: RegistryClient, since: str | None, every_s: float) -> None:
    import msgspec

    for changes in there.follow_nodes(since, every_s, say_outlived):
        names = ("centre_id", "project_id", "pool", "node_id")
        shown = {
            "at": changes.at,
            "next": changes.cursor,
            "centres": changes.centres,
            "nodes": msgspec.to_builtins(changes.nodes),
            "items": msgspec.to_builtins(changes.items),
            "gone": [dict(zip(names, node, strict=True)) for node in changes.gone],
        }
        print_json(shown)


app = group(registry_admin.app, client_app, aliases.app, oversight.app, node.app)
app.add_typer(tokens.app, name="token")
