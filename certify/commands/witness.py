"""``petaseal witness``: recompute a statement, and sign what was checked."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.errors import RefusedError
from certify.commands import options
from certify.commands.output import RecordCounter, report

if TYPE_CHECKING:
    from certify.verify.report import VerificationReport

app = typer.Typer()


@app.command(
    epilog="Example: petaseal witness statement.dsse.json --records records.jsonl --trust trust-root.json"
    " --key witness.pem --out witness.dsse.json"
)
def witness(
    statement: options.Statement,
    key: Annotated[Path, typer.Option(help="The witness's private key (PEM): another than the operator's.")],
    out: options.Out,
    records: options.Records = None,
    trust: Annotated[Path | None, typer.Option(help="Signed trust root.")] = None,
    public_key: options.OperatorPublicKey = None,
    fingerprint: Annotated[str | None, typer.Option(help="Fingerprint of the trust root.")] = None,
    revocations: options.Revocations = None,
    samples: Annotated[Path | None, typer.Option(help="Folder with the samples (level audited).")] = None,
    baseline: options.Baseline = None,
    brought: options.Evidence = None,
    policy: options.FurtherPolicies = None,
    profile: options.FurtherProfiles = None,
    ratings: options.FurtherRatings = None,
    accept_simulated: options.AcceptSimulated = False,
    passphrase_file: options.KeysPassphraseFile = None,
    signer: options.SignerCommand = None,
    as_json: options.Json = False,
) -> None:
    """Recompute a statement, and sign what was checked.

    The document says how far it was recomputed, and when; "verify --witness" takes it.
    """
    from bench.record import followed, refuse_existing, write_atomic
    from bench.record.files import state_dir
    from bench.record.sources import tool
    from certify.keys.loading import load_signing_key
    from certify.statement import package
    from certify.trust.dating import make_witness
    from certify.trust.store import Anchor
    from certify.verify import verifier as checking
    from certify.verify.evidence import Evidence, VerifyRequest
    from certify.verify.report import steps_of

    # Recomputing may take minutes, and a key may ask for its passphrase: what cannot be written is said before.
    refuse_existing(out)
    signing = load_signing_key(key, passphrase_file, signer)
    now_ns = time.time_ns()
    anchor = Anchor(public_key, trust, options.checked_fingerprint(fingerprint), revocations, state=state_dir())
    evidence = Evidence(
        statement,
        records=followed(records),
        samples=followed(samples),
        baseline=followed(baseline),
        brought=brought,
        policies=tuple(policy or ()),
        profiles=tuple(profile or ()),
        ratings=tuple(ratings or ()),
    )
    with package.opened(followed(statement)) as place:
        inside = evidence.in_folder(place)
        request = VerifyRequest(inside, anchor, now_ns, accept_simulated=accept_simulated, demand_witnesses=False)
        with RecordCounter("recomputed", as_json) as count:
            recomputed = checking.verify(request, count)
        not_checked = package.named(recomputed.not_checked, place, statement)
        # A refused statement is never witnessed, whatever held before the refusal.
        if recomputed.refusal is not None:
            options.name_way_on(recomputed.refusal)
            raise recomputed.refusal
    assert recomputed.statement is not None
    assert recomputed.payload_sha256 is not None
    # The point of a witness is a second pair of eyes: the operator's own would add nothing.
    check_independent(recomputed, signing.public.keyid, key, is_listed=trust is not None)
    # The time after the work: a witness vouches for what it has seen by then.
    now, checks, digest, level = options.utc_now(), steps_of(recomputed), recomputed.payload_sha256, recomputed.level
    content = make_witness(recomputed.statement, digest, level, checks, tool(), signing, now)
    write_atomic(out, content, new=True)
    shown = {
        "witness": str(out),
        "payload_sha256": digest,
        "level": level,
        "checks": list(checks),
        "not_checked": not_checked,
        "keyid": signing.public.keyid,
        "witnessed_at": now,
    }
    lines = [
        f"{out}: witnessed at {now}, level {level}",
        f"statement {digest}",
        f"checked: {', '.join(recomputed.checked)}",
        *(f"NOT CHECKED: {what}" for what in not_checked),
    ]
    report(as_json, shown, lines)


def check_independent(recomputed: VerificationReport, keyid: str, key: Path, *, is_listed: bool) -> None:
    """Refuse a witness whose key signed the statement, or has another role than witness.

    Args:
        recomputed: the statement as it was recomputed.
        keyid: of the witness's key.
        key: its file.
        is_listed: whether a trust root says who is a witness.

    Raises:
        RefusedError: `key-two-roles`, `key-not-trusted`.
    """
    assert recomputed.trusted is not None
    role = recomputed.trusted.role_of(keyid)
    if keyid in recomputed.named or role not in (None, "witness"):
        what = f"is the key of {f'a {role}' if role else 'who signed it'}: a witness is somebody else"
        raise RefusedError("key-two-roles", what, where=key)
    # With a key alone there is no list of roles to hold the witness against.
    if role is None and is_listed:
        fix = "petaseal trust add --role witness"
        raise RefusedError("key-not-trusted", "is no witness's in the trust root", where=key, fix=fix)
