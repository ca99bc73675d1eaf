"""``petaseal keys``: keys that sign, and what each is known by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import InputError
from certify.commands.options import Json, PassphraseFile, group
from certify.commands.output import report

app = group()


@app.command("new", epilog="Example: petaseal keys new --out operator.pem")
def new(
    out: Annotated[Path, typer.Option(help="Private key file to make (PEM, 0600); OUT.pub is made beside it.")],
    scheme: Annotated[str, typer.Option(help="Signature algorithm: ed25519 or sm2.")] = "ed25519",
    no_passphrase: Annotated[bool, typer.Option("--no-passphrase", help="Do not encrypt the private key.")] = False,
    passphrase_file: PassphraseFile = None,
    as_json: Json = False,
) -> None:
    """Make a key pair, Ed25519 or SM2; never overwrites one."""
    from certify.keys import files as keys
    from certify.keys.loading import read_passphrase

    if no_passphrase and passphrase_file is not None:
        raise InputError("usage", "--no-passphrase and --passphrase-file exclude each other", fix="give one of them")
    # Before the passphrase is asked for twice.
    algorithm = keys.scheme_named(scheme, "--scheme")
    passphrase = None if no_passphrase else read_passphrase(passphrase_file, f"new passphrase for {out}", confirm=True)
    made = keys.new_key(out, passphrase, algorithm)
    public = f"{out}.pub"
    report(
        as_json,
        {"private": str(out), "public": public, "keyid": made.keyid, "scheme": made.scheme},
        [f"private key {out}", f"public key  {public}", f"key id      {made.keyid}", f"scheme      {made.scheme}"],
    )


@app.command("show", epilog="Example: petaseal keys show operator.pem.pub")
def show(public_key: Annotated[Path, typer.Argument(help="Public key (PEM).")], as_json: Json = False) -> None:
    """Print the key id of a public key: compare it with what its owner told you."""
    from certify.keys import files as keys

    loaded = keys.load_public(public_key)
    report(as_json, {"keyid": loaded.keyid, "scheme": loaded.scheme}, [f"{loaded.scheme} {loaded.keyid}"])


@app.command("node", epilog="Example: petaseal keys node --out /shared/node-keys/node17.pub")
def node(
    out: Annotated[Path, typer.Option(help="Public key file to make, named after this node (NODE.pub).")],
    as_json: Json = False,
) -> None:
    """Write the public half of this node's own key, which is made on first use: for "campaign create --node-keys"."""
    from bench.environment import machine_id
    from bench.record.files import state_dir
    from certify.keys import files as keys

    # The private half never leaves the node: the campaign lists the public one, and takes no other for this node.
    public = keys.node_key(state_dir(), machine_id()).public
    keys.write_public(out, public)
    report(as_json, {"public": str(out), "keyid": public.keyid}, [f"public key  {out}", f"key id      {public.keyid}"])
