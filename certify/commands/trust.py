"""``petaseal trust``: whom a verifier trusts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError
from certify.commands import options
from certify.commands.output import report

if TYPE_CHECKING:
    from certify.keys.signers import PrivateKey, PublicKey
    from certify.trust.editing import Validity
    from certify.trust.root import Root
    from certify.trust.trusted_set import Revocations, TrustRoot

app = options.group()

Keys = Annotated[list[Path], typer.Option("--key", help="Private key that signs (PEM); may be repeated.")]
RootFile = Annotated[Path, typer.Argument(metavar="ROOT", help="Signed trust root (trust-root.json).")]
Days = Annotated[int, typer.Option(min=1, max=3660, help="How many days the new version is valid.")]
KeyDays = Annotated[int, typer.Option(min=1, max=3660, help="How many days the key is valid.")]
RootFingerprint = Annotated[
    str | None, typer.Option(help="ROOT's fingerprint, where no version of it was accepted here before.")
]
ROLES = ("operator", "witness", "node", "registry")


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
    made = editing.first(checked_name(trust_id), public_keys(root), threshold, valid, key_valid)
    write_signed(made, private_keys(key, passphrase_file, signer), out, None, as_json)


@app.command(
    epilog="Example: petaseal trust add trust-root.json --role operator --centre gz-park-1"
    " --public-key operator.pem.pub --key a.pem --key b.pem --out trust-root-2.json"
)
def add(
    file: RootFile,
    role: Annotated[str, typer.Option(help=", ".join(ROLES))],
    public_key: Annotated[Path, typer.Option(help="Public key that is added.")],
    key: Keys,
    out: options.Out,
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
    """Give one more key a role, in the next version."""
    from certify.trust import editing

    if role not in ROLES:
        fix = "root keys are changed with: petaseal trust rotate" if role == "root" else None
        raise InputError("usage", f"is one of {', '.join(ROLES)}", where="--role", fix=fix)
    before = root_before(file, fingerprint)
    valid, key_valid = validities(days, key_days)
    (added,) = public_keys([public_key])
    centres = [checked_name(name) for name in centre or ()]
    changed = editing.following(before.root, valid)
    made = editing.with_key(changed, added, role, centres, threshold, key_valid)  # type: ignore[arg-type]
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

    Keys are revoked in the next version of the root; with --list, keys and statements in a revocation list.
    """
    from bench.record.files import state_dir
    from certify.trust import editing
    from certify.trust.editing import revocations_before

    # The reason is signed and shown on every verifier's terminal.
    if not reason.isprintable() or not reason.strip():
        raise InputError("usage", "is not one line of printable text", where="--reason")
    # Digests before keys: a passphrase is asked for once all else is right.
    keyids = [options.checked_digest(text, "KEYID") for text in keyid or ()]
    statements = [payload_digest(text) for text in statement or ()]
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
    from certify.trust.editing import describe_trust, kind_of

    content = read_given(file, CAPS.trust_bytes)
    # Root keys sign roots and lists, and nothing that somebody hands over under their name.
    kind_of(content, file)  # nothing else is signed here
    for one in private_keys(key, passphrase_file, signer):
        content = dsse.countersign(dsse.parse_envelope(content, CAPS.trust_bytes, file), one)
    write_atomic(file, content)
    shown, lines = describe_trust(content, file)
    report(as_json, shown, lines)


@app.command(epilog="Example: petaseal trust show trust-root.json")
def show(file: RootFile, as_json: options.Json = False) -> None:
    """Print a trust root or revocation list.

    It shows what the file says and who signed it; nothing is accepted.
    """
    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.trust.editing import describe_trust

    shown, lines = describe_trust(read_given(file, CAPS.trust_bytes), file)
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


def checked_name(text: str) -> str:
    """Return a name that was typed.

    Raises:
        InputError: `usage`, it is none.
    """
    import msgspec

    from bench.record import Name

    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        what = f"{text!r} is not a name: lower case letters, digits, dots, dashes and underscores"
        raise InputError("usage", what, where="trust") from None


def payload_digest(text: str) -> str:
    """Return the payload digest of a statement that is named by its file or by the digest."""
    import hashlib

    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.documents.dsse import parse_envelope

    # Whatever is no file here is read as a digest, so that a mistyped name is refused as one.
    if not os.path.lexists(text):
        return options.checked_digest(text, "--statement")
    content = read_given(Path(text), CAPS.statement_bytes)
    return hashlib.sha256(parse_envelope(content, CAPS.statement_bytes, text).payload).hexdigest()
