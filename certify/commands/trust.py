"""``petaseal trust``: whom a verifier trusts."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.errors import InputError, RefusedError

if TYPE_CHECKING:
    from certify.keys.signers import PrivateKey, PublicKey
    from certify.trust.editing import Span
    from certify.trust.root import Root
    from certify.trust.trusted_set import Revocations, TrustRoot

Keys = Annotated[list[Path], typer.Option("--key", help="Private key that signs (PEM); may be repeated.")]
RootFile = Annotated[Path, typer.Argument(metavar="ROOT", help="Signed trust root (trust-root.json).")]
Out = Annotated[Path, typer.Option(help="File to make; never overwrites one.")]
PassphraseFile = Annotated[Path | None, typer.Option(help="File whose first line is the keys' passphrase.")]
SignerCommand = Annotated[
    str | None, typer.Option("--signer", help="Command that signs for a key on a token; --key is then its public key.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Days = Annotated[int, typer.Option(min=1, max=3660, help="How many days the new version is valid.")]
KeyDays = Annotated[int, typer.Option(min=1, max=3660, help="How many days the key is valid.")]
Fingerprint = Annotated[
    str | None, typer.Option(help="ROOT's fingerprint, where no version of it was accepted here before.")
]
Emit = Callable[[bool, Any, list[str]], None]
Counting = Callable[[str, bool], Any]
ROLES = ("operator", "witness", "node", "registry")


def mount(app: typer.Typer, emit: Emit) -> None:
    """Add ``petaseal trust``."""
    trust = typer.Typer(help="Say whose keys count: make, change and accept a trust root.", no_args_is_help=True)
    app.add_typer(trust, name="trust")

    @trust.command(
        epilog="Example: petaseal trust init --id cn-gz --root a.pem.pub --root b.pem.pub --threshold 2"
        " --key a.pem --key b.pem --out trust-root.json"
    )
    def init(
        trust_id: Annotated[str, typer.Option("--id", help="Name of the trust root, the same in all its versions.")],
        root: Annotated[list[Path], typer.Option(help="Public key of a root role holder; may be repeated.")],
        key: Keys,
        out: Out,
        threshold: Annotated[int, typer.Option(min=1, help="How many root keys must sign each version.")] = 1,
        days: Days = 366,
        key_days: KeyDays = 1830,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Make version 1 of a trust root.

        Tell its fingerprint to verifiers by another way than the file.
        """
        from certify.trust import editing as trust_edit

        valid, own = _spans(days, key_days)
        made = trust_edit.first(_name(trust_id), _public(root), threshold, valid, own)
        _write("trust-root", made, private_keys(key, passphrase_file, signer), out, None, emit, as_json)

    @trust.command(
        epilog="Example: petaseal trust add trust-root.json --role operator --centre gz-park-1"
        " --public-key operator.pem.pub --key a.pem --key b.pem --out trust-root-2.json"
    )
    def add(
        file: RootFile,
        role: Annotated[str, typer.Option(help=", ".join(ROLES))],
        public_key: Annotated[Path, typer.Option(help="Public key that is added.")],
        key: Keys,
        out: Out,
        centre: Annotated[
            list[str] | None, typer.Option(help="Centre that an operator or node speaks for; may be repeated.")
        ] = None,
        threshold: Annotated[
            int | None, typer.Option(min=1, help="How many keys of this role and these centres must sign.")
        ] = None,
        days: Days = 366,
        key_days: KeyDays = 1098,
        fingerprint: Fingerprint = None,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Give one more key a role, in the next version."""
        from certify.trust import editing as trust_edit

        if role not in ROLES:
            fix = "root keys are changed with: petaseal trust rotate" if role == "root" else None
            raise InputError("usage", f"is one of {', '.join(ROLES)}", where="--role", fix=fix)
        before = _signed_root(file, fingerprint)
        valid, own = _spans(days, key_days)
        (added,) = _public([public_key])
        centres = [_name(name) for name in centre or ()]
        changed = trust_edit.following(before.root, valid)
        made = trust_edit.with_key(changed, added, role, centres, threshold, own)  # type: ignore[arg-type]
        _write("trust-root", made, private_keys(key, passphrase_file, signer), out, before, emit, as_json)

    @trust.command(
        epilog='Example: petaseal trust revoke trust-root.json KEYID --reason "laptop stolen"'
        " --revoked-at 2026-03-01T08:00:00.000000Z --key a.pem --key b.pem --out trust-root-3.json"
    )
    def revoke(
        file: RootFile,
        key: Keys,
        out: Out,
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
        fingerprint: Fingerprint = None,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Revoke keys, or statements.

        Keys are revoked in the next version of the root; with --list, keys and statements in a revocation list.
        """
        from bench.units import utc_text
        from certify.trust import editing as trust_edit

        if not reason.isprintable() or not reason.strip():
            raise InputError("usage", "is not one line of printable text", where="--reason")
        keyids = [checked_digest(text, "KEYID") for text in keyid or ()]
        statements = [_payload_digest(text) for text in statement or ()]
        if not (keyids or statements):
            raise InputError("usage", "needs the id of a key, or --statement", where="trust revoke")
        if not as_list and (statements or previous is not None):
            what = "belongs to a revocation list"
            raise InputError("usage", what, where="--statement" if statements else "--previous", fix="add --list")
        before = _signed_root(file, fingerprint)
        valid, _ = _spans(days if as_list else max(days, 366), 1)
        at = utc_text(time.time_ns()) if revoked_at is None else _time(revoked_at)
        signing = private_keys(key, passphrase_file, signer)
        if not as_list:
            unknown = [text for text in keyids if text not in before.root.keys]
            if unknown:
                fix = "a key that no root lists, such as a node's, is revoked with --list"
                raise InputError("key-unknown", f"{unknown[0]} is not in the trust root", where=file, fix=fix)
            made = trust_edit.without_keys(trust_edit.following(before.root, valid), keyids, at, reason)
            _write("trust-root", made, signing, out, before, emit, as_json)
            return
        earlier = _list_before(previous, before)
        listed = trust_edit.listed(before.root, earlier, keyids, statements, at, reason, valid)
        _write("revocations", listed, signing, out, before, emit, as_json)

    @trust.command(
        epilog="Example: petaseal trust rotate trust-root.json --add c.pem.pub --remove KEYID"
        " --key a.pem --key c.pem --out trust-root-4.json"
    )
    def rotate(
        file: RootFile,
        key: Keys,
        out: Out,
        new: Annotated[list[Path] | None, typer.Option("--add", help="Public key of a new root key.")] = None,
        remove: Annotated[list[str] | None, typer.Option(help="Id of a root key that goes.")] = None,
        threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign from now on.")] = None,
        days: Days = 366,
        key_days: KeyDays = 1830,
        fingerprint: Fingerprint = None,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Change the root keys, or renew the root.

        The next version must be signed by the old threshold and the new.
        """
        from certify.trust import editing as trust_edit

        before = _signed_root(file, fingerprint)
        valid, own = _spans(days, key_days)
        removed = [checked_digest(text, "--remove") for text in remove or ()]
        made = trust_edit.rotated(trust_edit.following(before.root, valid), _public(new or []), removed, threshold, own)
        _write("trust-root", made, private_keys(key, passphrase_file, signer), out, before, emit, as_json)

    @trust.command(epilog="Example: petaseal trust sign trust-root-2.json --key b.pem")
    def sign(
        file: Annotated[Path, typer.Argument(metavar="FILE", help="Trust root or list that lacks signatures.")],
        key: Keys,
        passphrase_file: PassphraseFile = None,
        signer: SignerCommand = None,
        as_json: Json = False,
    ) -> None:
        """Add a signature to a root or revocation list.

        Somebody else made it: read it with "trust show" before.
        """
        from bench.record import read_given, write_atomic
        from certify.documents import dsse
        from certify.documents.caps import CAPS

        content = read_given(file, CAPS.trust_bytes)
        _kind(content, file)  # nothing else is signed here
        for one in private_keys(key, passphrase_file, signer):
            content = dsse.countersign(dsse.parse_envelope(content, CAPS.trust_bytes, file), one)
        write_atomic(file, content)
        shown, lines = _shown(content, file)
        emit(as_json, shown, lines)

    @trust.command(epilog="Example: petaseal trust show trust-root.json")
    def show(file: RootFile, as_json: Json = False) -> None:
        """Print a trust root or revocation list.

        It shows what the file says and who signed it; nothing is accepted.
        """
        from bench.record import read_given
        from certify.documents.caps import CAPS

        shown, lines = _shown(read_given(file, CAPS.trust_bytes), file)
        emit(as_json, shown, lines)

    @trust.command(epilog="Example: petaseal trust verify trust-root.json --fingerprint 3f1c...")
    def verify(
        files: Annotated[list[Path], typer.Argument(metavar="ROOT...", help="Versions of a trust root, in order.")],
        fingerprint: Annotated[
            str | None, typer.Option(help="Fingerprint of the first root, obtained by another way than the file.")
        ] = None,
        revocations: Annotated[Path | None, typer.Option(help="Revocation list of the root.")] = None,
        as_json: Json = False,
    ) -> None:
        """Accept a trust root and remember it.

        The first is accepted by its fingerprint, a later one by the keys of the one before.
        """
        from bench.record.files import state_dir
        from bench.units import utc_text
        from certify.trust.store import accept_files

        now = utc_text(time.time_ns())
        given = None if fingerprint is None else checked_digest(fingerprint, "--fingerprint")
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
        emit(as_json, shown, lines)


def _write(
    name: str,
    document: TrustRoot | Revocations,
    keys: Sequence[PrivateKey],
    out: Path,
    before: Root | None,
    emit: Emit,
    as_json: bool,
) -> None:
    """Sign and write a new document, and say what it still lacks."""
    from bench.record import write_atomic
    from certify.trust.editing import lacking, sealed
    from certify.trust.root import read_root

    content = sealed(name, document, keys)
    write_atomic(out, content, new=True)
    shown, lines = _shown(content, out)
    if name == "trust-root":
        missing = lacking(read_root(content, out), None if before is None else before.trusted)
        shown["signatures_lacking"] = missing
        if missing:
            lines.append(f"LACKS {missing} signature(s): petaseal trust sign {out} --key KEY")
        elif before is None:  # who made the first version needs nobody to tell him its fingerprint
            from bench.record.files import state_dir
            from bench.units import utc_text
            from certify.trust.store import accept_files

            accept_files([out], utc_text(time.time_ns()), state_dir(), shown["fingerprint"])
    elif before is not None:
        _remember_list(out, before)
    emit(as_json, {"out": str(out), **shown}, [f"{out}:", *lines])


def _remember_list(file: Path, root: Root) -> None:
    """Remember a revocation list that is whole, so that the next one goes on from it."""
    from bench.record import read_given
    from bench.record.files import state_dir
    from certify.documents.caps import CAPS
    from certify.trust.root import open_revocations
    from certify.trust.store import Memory

    content = read_given(file, CAPS.trust_bytes)
    with contextlib.suppress(RefusedError):  # it lacks signatures
        open_revocations(content, root, file)
        memory = Memory(state_dir() / "trust", root.root.trust_id)
        with memory.locked():
            memory.keep(memory.list_file, content)


def _shown(content: bytes, file: Path) -> tuple[dict[str, Any], list[str]]:
    """Return what a trust root or revocation list says, for machines and for people."""
    import hashlib

    import msgspec

    from certify.documents import dsse
    from certify.documents import kinds as documents
    from certify.documents.caps import CAPS
    from certify.trust.editing import lacking
    from certify.trust.root import read_root

    kind, envelope = _kind(content, file), dsse.parse_envelope(content, CAPS.trust_bytes, file)
    opened = documents.parse_payload(kind, envelope.payload, file)
    fingerprint = hashlib.sha256(envelope.payload).hexdigest()
    signers = [signature.keyid for signature in envelope.signatures]
    value = opened.predicate
    shown = {
        "kind": kind,
        "fingerprint": fingerprint,
        "signers": signers,
        "predicate": msgspec.to_builtins(value),
    }
    lines = [
        f"{kind} {value.trust_id}, version {value.version}, {value.issued_at} until {value.expires_at}",
        f"fingerprint {fingerprint}",
    ]
    if kind == "trust-root":
        root = read_root(content, file)
        good = root.signers(root.trusted, file)
        known = value.keys.keys() & {keyid for held in value.roles if held.role == "root" for keyid in held.keys}
        shown["signers"] = signers = sorted(good & known)
        others = sorted({signature.keyid for signature in envelope.signatures} - set(signers))
        for held in value.roles:
            centres = f" for {', '.join(held.centre_ids)}" if held.centre_ids else ""
            lines.append(f"{held.role}{centres}: {held.threshold} of {len(held.keys)}")
            for keyid in held.keys:
                entry = value.keys[keyid]
                lines.append(f"  {keyid} {entry.scheme}, {entry.valid_from} until {entry.valid_until}")
    lines += [f"revoked {entry.keyid} from {entry.revoked_at}: {entry.reason}" for entry in value.revocations]
    for entry in getattr(value, "statements", ()):
        lines.append(f"revoked statement {entry.payload_sha256} from {entry.revoked_at}: {entry.reason}")
    if kind == "revocations":
        return shown, [*lines, *(f"NOT CHECKED without its root: a signature under {keyid}" for keyid in signers)]
    lines += [f"signed by {keyid}" for keyid in signers]
    lines += [f"NOT CHECKED: a signature under {keyid}, no root key of this version" for keyid in others]
    if missing := lacking(root, None):
        lines.append(f"LACKS {missing} of the signatures of this version's own root keys")
    return shown, lines


def _kind(content: bytes, file: Path) -> str:
    """Return which of the two documents of this room a file holds."""
    from certify.documents import dsse
    from certify.documents import kinds as documents
    from certify.documents.caps import CAPS

    envelope = dsse.parse_envelope(content, CAPS.trust_bytes, file)
    documents.check_payload_type(envelope, file)
    try:
        documents.parse_payload("revocations", envelope.payload, file)
    except RefusedError as error:
        if error.code != "predicate-type-wrong":
            raise
        documents.parse_payload("trust-root", envelope.payload, file)
        return "trust-root"
    return "revocations"


def _signed_root(file: Path, fingerprint: str | None) -> Root:
    """Return the root that a change begins with: accepted here before, or by its fingerprint, and whole.

    A keeper who changed whatever file he is handed would sign for root keys that a stranger put into it.
    """
    from bench.record.files import state_dir
    from bench.units import utc_text
    from certify.trust.store import accept_files

    given = None if fingerprint is None else checked_digest(fingerprint, "--fingerprint")
    root = accept_files([file], utc_text(time.time_ns()), state_dir(), given, fresh=False).root
    assert root is not None
    return root


def _list_before(file: Path | None, root: Root) -> Revocations | None:
    """Return the list that a new one goes on from: the one given, else the one that was accepted here.

    One that was accepted here holds though its root keys have changed hands since.
    """
    from bench.record import read_given
    from bench.record.files import state_dir
    from certify.documents.caps import CAPS
    from certify.trust.root import open_revocations
    from certify.trust.store import Memory

    memory = Memory(state_dir() / "trust", root.root.trust_id)
    known = memory.revocations()
    if file is None:
        return known
    content = read_given(file, CAPS.trust_bytes)
    if known is not None and memory.list_file is not None and content == memory.list_file.read_bytes():
        return known
    return open_revocations(content, root, file)


def _spans(days: int, key_days: int) -> tuple[Span, Span]:
    from bench.units import utc_text
    from certify.trust.editing import Span

    now = utc_text(time.time_ns())
    return Span(now, days), Span(now, key_days)


def private_keys(files: Sequence[Path], passphrase_file: Path | None, signer: str | None) -> list[PrivateKey]:
    """Return the keys that a command signs with."""
    from certify.keys.loading import load_signing_key

    return [load_signing_key(path, passphrase_file, signer) for path in files]


def _public(files: Sequence[Path]) -> list[PublicKey]:
    from certify.keys import files as keys

    return [keys.load_public(path) for path in files]


def _name(text: str) -> str:
    import msgspec

    from bench.record import Name

    try:
        return msgspec.convert(text, Name)
    except msgspec.ValidationError:
        what = f"{text!r} is not a name: lower case letters, digits, dots, dashes and underscores"
        raise InputError("usage", what, where="trust") from None


def checked_digest(text: str, where: str) -> str:
    """Return a SHA-256 that somebody typed, in lower case."""
    flat = text.strip().lower()
    if len(flat) != 64 or not set(flat) <= set("0123456789abcdef"):
        raise InputError("usage", f"{text[:80]!r} is not 64 hex digits", where=where)
    return flat


def _payload_digest(text: str) -> str:
    """Return the payload digest of a statement that is named by its file or by the digest."""
    import hashlib

    from bench.record import read_given
    from certify.documents.caps import CAPS
    from certify.documents.dsse import parse_envelope

    if not os.path.lexists(text):
        return checked_digest(text, "--statement")
    content = read_given(Path(text), CAPS.statement_bytes)
    return hashlib.sha256(parse_envelope(content, CAPS.statement_bytes, text).payload).hexdigest()


def _time(text: str) -> str:
    from bench.units import utc_ns

    try:
        utc_ns(text)
    except ValueError as error:
        raise InputError("time-invalid", str(error), where="--revoked-at") from None
    return text
