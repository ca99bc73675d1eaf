"""``petaseal trust``: whom a verifier trusts."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError
from certify.commands import options
from certify.commands.output import report

if TYPE_CHECKING:
    from certify.keys.signers import PrivateKey, PublicKey
    from certify.trust.editing import Validity
    from certify.trust.revocations import Revocations
    from certify.trust.root import Root
    from certify.trust.trusted_set import TrustRoot

app = options.group()

Keys = Annotated[list[Path], typer.Option("--key", help="Private key that signs (PEM); may be repeated.")]
RootFile = Annotated[Path, typer.Argument(metavar="ROOT", help="Signed trust root (trust-root.json).")]
Days = Annotated[int, typer.Option(min=1, max=3660, help="How many days the new version is valid.")]
KeyDays = Annotated[int, typer.Option(min=1, max=3660, help="How many days the key is valid.")]
RootFingerprint = Annotated[
    str | None, typer.Option(help="ROOT's fingerprint, where no version of it was accepted here before.")
]
ROLES = ("operator", "witness", "node", "registry")  # those of `certify.trust.key_table`


@app.command(
    epilog="Example: petaseal trust init --id cn-gz --root a.pem.pub --root b.pem.pub --threshold 2"
    " --key a.pem --key b.pem --out trust-root.json"
)
def init(
    trust_id: Annotated[str, typer.Option("--id", help="Name of the trust root, the same in all its versions.")],
    root: Annotated[list[Path], typer.Option(help="Public key of a root role holder; may be repeated.")],
    key: Keys,
    out: options.Out,
    threshold: Annotated[int, typer.Option(min=1, help="How many root keys must sign each version.")] = 1,
    days: Days = 366,
    key_days: KeyDays = 1830,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Make version 1 of a trust root.

    Tell its fingerprint to verifiers by another way than the file.
    """
    from certify.trust import editing

    valid, key_valid = validities(days, key_days)
    made = editing.first(options.checked_name(trust_id), public_keys(root), threshold, valid, key_valid)
    write_signed(made, private_keys(key, passphrase_file, signer), out, None, as_json)


@app.command(
    epilog="Example: petaseal trust add trust-root.json --role operator --centre gz-park-1"
    " --public-key operator.pem.pub --key a.pem --key b.pem --out trust-root-2.json"
)
def add(
    file: RootFile,
    key: Keys,
    out: options.Out,
    role: Annotated[str | None, typer.Option(help=", ".join(ROLES))] = None,
    public_key: Annotated[Path | None, typer.Option(help="Public key that is added.")] = None,
    keys: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Many keys in place of one: CSV with the columns role, centre, public_key[, valid_until, threshold].",
        ),
    ] = None,
    centre: Annotated[
        list[str] | None, typer.Option(help="Centre that an operator or node speaks for; may be repeated.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(min=1, help="How many keys of this role and these centres must sign.")
    ] = None,
    days: Days = 366,
    key_days: KeyDays = 1098,
    fingerprint: RootFingerprint = None,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Give one more key a role, or every key of a table, in the next version."""
    from certify.trust import editing, key_table

    single = {"--role": role, "--public-key": public_key, "--centre": centre, "--threshold": threshold}
    if keys is not None and (given := [name for name, value in single.items() if value]):
        raise InputError("usage", "is of one key; the table has a column for it", where=given[0], fix="leave it out")
    valid, key_valid = validities(days, key_days)
    if keys is not None:
        before = root_before(file, fingerprint)
        added = key_table.read_keys(keys, key_valid)
    else:
        if role not in ROLES:
            fix = "root keys are changed with: petaseal trust rotate" if role == "root" else None
            raise InputError("usage", f"is one of {', '.join(ROLES)}", where="--role", fix=fix)
        if public_key is None:
            raise InputError("usage", "is missing", where="--public-key", fix="give it, or --keys TABLE")
        before = root_before(file, fingerprint)
        (public,) = public_keys([public_key])
        centres = tuple(options.checked_name(name) for name in centre or ())
        added = (editing.AddedKey("--public-key", public, role, centres, threshold, key_valid),)  # type: ignore[arg-type]
    made = editing.with_keys(editing.following(before.root, valid), added)
    write_signed(made, private_keys(key, passphrase_file, signer), out, before, as_json)


@app.command(
    epilog='Example: petaseal trust revoke trust-root.json KEYID --reason "laptop stolen"'
    " --revoked-at 2026-03-01T08:00:00.000000Z --key a.pem --key b.pem --out trust-root-3.json"
)
def revoke(
    file: RootFile,
    key: Keys,
    out: options.Out,
    reason: Annotated[str, typer.Option(help="Why, in one line: it stands in the document.")],
    keyid: Annotated[list[str] | None, typer.Argument(metavar="[KEYID]...", help="Ids of keys to revoke.")] = None,
    statement: Annotated[
        list[str] | None, typer.Option(help="Statement to revoke: its file, or its payload digest (needs --list).")
    ] = None,
    reissue_allowed: Annotated[
        bool, typer.Option("--reissue-allowed", help="The statement's records are good: it may be issued again.")
    ] = False,
    as_list: Annotated[
        bool, typer.Option("--list", help="Make a revocation list beside the root, not its next version.")
    ] = False,
    previous: Annotated[Path | None, typer.Option(help="The revocation list before this one.")] = None,
    revoked_at: Annotated[
        str | None, typer.Option(help="Last moment at which the key was surely its owner's, UTC (default: now).")
    ] = None,
    days: Days = 31,
    fingerprint: RootFingerprint = None,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Revoke keys, or statements.

    Keys are revoked in the next version of the root; with --list, keys and statements in a revocation list. A
    statement falls with its records: none over them holds from then on.
    """
    from bench.record.files import state_dir
    from certify.trust import editing
    from certify.trust.editing import revocations_before
    from certify.trust.withdrawing import named_statements

    # The reason is signed and shown on every verifier's terminal.
    if not reason.isprintable() or not reason.strip():
        raise InputError("usage", "is not one line of printable text", where="--reason")
    # Digests before keys: a passphrase is asked for once all else is right.
    keyids = [options.checked_digest(text, "KEYID") for text in keyid or ()]
    digest_of = partial(options.checked_digest, where="--statement")
    statements = named_statements(statement or (), digest_of, reissue=reissue_allowed)
    if not (keyids or statements):
        raise InputError("usage", "needs the id of a key, or --statement", where="trust revoke")
    if not as_list and (statements or previous is not None):
        what = "belongs to a revocation list"
        raise InputError("usage", what, where="--statement" if statements else "--previous", fix="add --list")
    before = root_before(file, fingerprint)
    # A list is renewed every month, a root lives a year: a revocation must not shorten its life.
    valid, _ = validities(days if as_list else max(days, 366), 1)
    at = options.utc_now() if revoked_at is None else options.checked_time(revoked_at, "--revoked-at")
    signing = private_keys(key, passphrase_file, signer)
    if not as_list:
        # A typing error in an id would else revoke nothing, and nobody would notice.
        unknown = [text for text in keyids if text not in before.root.keys]
        if unknown:
            fix = "a key that no root lists, such as a node's, is revoked with --list"
            raise InputError("key-unknown", f"{unknown[0]} is not in the trust root", where=file, fix=fix)
        made = editing.without_keys(editing.following(before.root, valid), keyids, at, reason)
        write_signed(made, signing, out, before, as_json)
        return
    earlier = revocations_before(previous, before, state_dir())
    listed = editing.listed(before.root, earlier, keyids, statements, at, reason, valid)
    write_signed(listed, signing, out, before, as_json)


@app.command(
    epilog="Example: petaseal trust rotate trust-root.json --add c.pem.pub --remove KEYID"
    " --key a.pem --key c.pem --out trust-root-4.json"
)
def rotate(
    file: RootFile,
    key: Keys,
    out: options.Out,
    new: Annotated[list[Path] | None, typer.Option("--add", help="Public key of a new root key.")] = None,
    remove: Annotated[list[str] | None, typer.Option(help="Id of a root key that goes.")] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign from now on.")] = None,
    days: Days = 366,
    key_days: KeyDays = 1830,
    fingerprint: RootFingerprint = None,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Change the root keys, or renew the root.

    The next version must be signed by the old threshold and the new.
    """
    from certify.trust import editing

    before = root_before(file, fingerprint)
    valid, key_valid = validities(days, key_days)
    removed = [options.checked_digest(text, "--remove") for text in remove or ()]
    made = editing.rotated(editing.following(before.root, valid), public_keys(new or []), removed, threshold, key_valid)
    write_signed(made, private_keys(key, passphrase_file, signer), out, before, as_json)


@app.command(epilog="Example: petaseal trust sign trust-root-2.json --key b.pem")
def sign(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Trust root or list that lacks signatures.")],
    key: Keys,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Add a signature to a root or revocation list.

    Somebody else made it: read it with "trust show" before.
    """
    from bench.record import read_given, write_atomic
    from certify.documents import dsse
    from certify.documents.caps import CAPS
    from certify.trust.describing import describe_file, kind_of
    from certify.trust.root import split_versions

    *before, (content, _) = split_versions(read_given(file, CAPS.trust_chain_bytes), file)
    # Root keys sign roots and lists, and nothing that somebody hands over under their name.
    kind_of(content, file)  # nothing else is signed here
    for one in private_keys(key, passphrase_file, signer):
        content = dsse.countersign(dsse.parse_envelope(content, CAPS.trust_bytes, file), one)
    # Of several versions in one file the last is the one that lacks signatures.
    content = b"".join([*(part for part, _ in before), content])
    write_atomic(file, content)
    shown, lines = describe_file(content, file)
    report(as_json, shown, lines)


@app.command(epilog="Example: petaseal trust show trust-root.json")
def show(file: RootFile, as_json: options.Json = False) -> None:
    """Print a trust root or revocation list.

    It shows what the file says and who signed it; nothing is accepted.
    """
    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.trust.describing import describe_file

    shown, lines = describe_file(read_given(file, CAPS.trust_chain_bytes), file)
    report(as_json, shown, lines)


@app.command(epilog="Example: petaseal trust verify trust-root.json --fingerprint 3f1c...")
def verify(
    files: Annotated[list[Path], typer.Argument(metavar="ROOT...", help="Versions of a trust root, in order.")],
    fingerprint: Annotated[
        str | None, typer.Option(help="Fingerprint of the first root, obtained by another way than the file.")
    ] = None,
    revocations: Annotated[Path | None, typer.Option(help="Revocation list of the root.")] = None,
    as_json: options.Json = False,
) -> None:
    """Accept a trust root and remember it.

    The first is accepted by its fingerprint, a later one by the keys of the one before.
    """
    from bench.record.files import state_dir
    from certify.trust.store import accept_files

    now = options.utc_now()
    given = options.checked_fingerprint(fingerprint)
    accepted = accept_files(files, now, state_dir(), given, revocations)
    root = accepted.root
    assert root is not None
    shown: dict[str, Any] = {
        "accepted": True,
        "trust_id": root.root.trust_id,
        "version": root.root.version,
        "fingerprint": root.fingerprint,
        "expires_at": root.root.expires_at,
        "not_checked": list(accepted.not_checked),
    }
    lines = [
        f"ACCEPTED: {root.root.trust_id}, version {root.root.version}, until {root.root.expires_at}",
        f"fingerprint {root.fingerprint}",
        *(f"NOT CHECKED: {what}" for what in accepted.not_checked),
    ]
    report(as_json, shown, lines)


def write_signed(
    document: TrustRoot | Revocations, keys: Sequence[PrivateKey], out: Path, before: Root | None, as_json: bool
) -> None:
    """Sign and write a new version, and say what it still lacks."""
    from bench.record.files import state_dir
    from certify.trust.editing import write_version

    shown, lines = write_version(document, keys, out, before, options.utc_now(), state_dir())
    report(as_json, {"out": str(out), **shown}, [f"{out}:", *lines])


def root_before(file: Path, fingerprint: str | None) -> Root:
    """Return the root that a change begins with, by its file and what was typed of its fingerprint."""
    from bench.record.files import state_dir
    from certify.trust.editing import signed_root

    given = options.checked_fingerprint(fingerprint)
    return signed_root(file, options.utc_now(), state_dir(), given)


def validities(days: int, key_days: int) -> tuple[Validity, Validity]:
    """Return how long a new version is valid from now on, and how long a key in it."""
    from certify.trust.editing import Validity

    now = options.utc_now()
    return Validity(now, days), Validity(now, key_days)


def private_keys(files: Sequence[Path], passphrase_file: Path | None, signer: str | None) -> list[PrivateKey]:
    """Return the keys that a command signs with."""
    from certify.keys.loading import load_signing_key

    return [load_signing_key(path, passphrase_file, signer) for path in files]


def public_keys(files: Sequence[Path]) -> list[PublicKey]:
    """Return the public keys of some files."""
    from certify.keys import files as keys

    return [keys.load_public(path) for path in files]
