"""Options that several commands have, each with its help text once, and the group that commands stand in."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

from bench.errors import InputError, PetasealError, one_line
from bench.units import utc_ns, utc_text

# A date, with or without a time of day, with or without a fraction of up to a microsecond.
_TYPED_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?Z)?", re.ASCII)


def _choose(chosen: str | None) -> str | None:
    """Have everything shown in the language that `--lang` names."""
    from bench.language import LANGUAGES, choose_language

    if chosen is not None and chosen not in LANGUAGES:
        raise InputError("usage", f"{chosen[:20]!r} is neither en nor zh", where="--lang")
    choose_language(None if chosen is None else "zh" if chosen == "zh" else "en")
    return chosen


# Help texts are part of the interface: where two commands word one option in two ways, there are two of it here.
# --- what is printed ---
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object for machines.")]
Lang = Annotated[
    str | None,
    typer.Option(
        "--lang", callback=_choose, is_eager=True, help="en or zh: language of what is shown (default: the locale's)."
    ),
]
All = Annotated[bool, typer.Option("--all", help="Print the whole, not the summary.")]
JsonAlone = Annotated[bool, typer.Option("--json", help="print one JSON object and nothing else")]

# --- who signs ---
Out = Annotated[Path, typer.Option(help="File to make; never overwrites one.")]
OperatorKey = Annotated[Path, typer.Option(help="Operator's private key (PEM).")]
NodeKey = Annotated[Path | None, typer.Option("--key", help="key that signs (default: this node's own)")]
SignerCommand = Annotated[
    str | None, typer.Option("--signer", help="Command that signs for a key on a token; --key is then its public key.")
]
PassphraseFile = Annotated[
    Path | None, typer.Option(help="File whose first line is the key's passphrase (never asked without a terminal).")
]
KeyPassphraseFile = Annotated[Path | None, typer.Option(help="File whose first line is the key's passphrase.")]
KeysPassphraseFile = Annotated[Path | None, typer.Option(help="File whose first line is the keys' passphrase.")]
NodePassphraseFile = Annotated[Path | None, typer.Option("--passphrase-file", help="of the key")]
RegistryPassphraseFile = Annotated[Path | None, typer.Option(help="Passphrase of the key, as first line.")]

# --- whose signatures count ---
Trust = Annotated[Path | None, typer.Option(help="Signed trust root that says whose keys count.")]
TrustInstead = Annotated[Path | None, typer.Option(help="Signed trust root, in place of the key.")]
PublicKey = Annotated[Path | None, typer.Option(help="The operator's public key, obtained out of band.")]
OperatorPublicKey = Annotated[Path | None, typer.Option(help="The operator's public key.")]
Fingerprint = Annotated[
    str | None, typer.Option(help="The trust root's fingerprint, where no version of it was accepted before.")
]
Revocations = Annotated[Path | None, typer.Option(help="Revocation list of the trust root.")]
At = Annotated[str | None, typer.Option(help="Answer for this UTC time, as 2026-03-01 or 2026-03-01T08:00:00Z.")]

# --- what a statement is judged by ---
Statement = Annotated[
    Path, typer.Argument(metavar="STATEMENT", help="statement.dsse.json, or a folder or package of its files.")
]
StatementIfAny = Annotated[
    Path | None,
    typer.Argument(
        metavar="STATEMENT", help="statement.dsse.json or statement.pdf, or a folder or package of a statement's files."
    ),
]
Records = Annotated[Path | None, typer.Option(help="records.jsonl, or a folder of record envelopes.")]
Baseline = Annotated[Path | None, typer.Option(help="The signed baseline that the statement binds.")]
Evidence = Annotated[
    Path | None, typer.Option("--evidence", help="Folder with the evidence documents that the statement binds.")
]
FurtherPolicies = Annotated[list[str] | None, typer.Option(help="Further policy file to recompute with.")]
FurtherProfiles = Annotated[list[str] | None, typer.Option(help="Further profile file to judge with.")]
FurtherRatings = Annotated[list[str] | None, typer.Option(help="Further file of ratings to judge with.")]
AcceptSimulated = Annotated[bool, typer.Option(help="Do not refuse a simulated statement.")]
OwnRatings = Annotated[Path | None, typer.Option("--ratings", help="file of ratings in place of the installed ones")]

# --- campaigns ---
CampaignFolder = Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="The campaign's folder.")]
Pairs = list[str] | None


def group(*parts: typer.Typer, cls: type[TyperGroup] = TyperGroup) -> typer.Typer:
    """Return a group of commands: those of its parts, in their order, and those that are added to it."""
    # Of no use without a command: Typer then prints the help and ends with 2.
    made = typer.Typer(cls=cls, no_args_is_help=True, rich_markup_mode=None)
    for part in parts:
        made.add_typer(part)
    return made


def checked_digest(text: str, where: str) -> str:
    """Return a SHA-256 that was typed, in lower case.

    Raises:
        InputError: `usage`, it is none.
    """
    # Copied from a page or a mail, it may come with a line break or in capitals.
    digest = text.strip().lower()
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise InputError("usage", f"{text[:80]!r} is not 64 hex digits", where=where)
    return digest


def checked_fingerprint(text: str | None) -> str | None:
    """Return a trust root's fingerprint that was typed, in lower case.

    Raises:
        InputError: `usage`, it is none.
    """
    return None if text is None else checked_digest(text, "--fingerprint")


def checked_challenge(text: str | None, option: str = "--challenge") -> str | None:
    """Return a challenge in the one form that documents use.

    Raises:
        InputError: `challenge-invalid`.
    """
    import msgspec

    from bench.record import Challenge as Form

    if text is None:
        return None
    try:
        return msgspec.convert(text.lower(), Form)
    except msgspec.ValidationError:
        what = f"{text!r} is not 32 to 64 hex digits"
        raise InputError("challenge-invalid", what, where=option) from None


def name_way_on(refusal: PetasealError | None) -> None:
    """Name the option that takes what was refused for being simulated, in the refusal itself."""
    # Here: a registry refuses in the same words, and whoever asks it has no such option.
    if refusal is not None and refusal.code == "simulated":
        refusal.fix = "to look at it all the same, give --accept-simulated"


def finite(value: float, option: str) -> float:
    """Return a number that is one: "nan" lies within any limits.

    Raises:
        InputError: it is none.
    """
    # Typer takes "nan" and "inf" for numbers, and neither is less than a minimum.
    if not math.isfinite(value):
        raise InputError("usage", f"{value} is not a number", where=option)
    return value


def checked_time(text: str, option: str) -> str:
    """Return a UTC time that was typed, in the one form that documents use.

    Raises:
        InputError: `time-invalid`.
    """
    return utc_text(moment_ns(text, option))


def moment_ns(text: str | None, option: str) -> int:
    """Return a UTC time that was typed, in ns since 1970; the present one where none was.

    Raises:
        InputError: `time-invalid`.
    """
    if text is None:
        return time.time_ns()
    # Documents have the one form of `utc_ns`; whoever types a time may leave out what is zero.
    typed = _TYPED_TIME.fullmatch(text)
    try:
        if typed is None:
            raise ValueError
        return utc_ns(f"{typed[1]}T{typed[2] or '00:00:00'}.{(typed[3] or '').ljust(6, '0')}Z")
    except ValueError:
        what = f"{one_line(text, 80)!r} is no UTC time such as 2026-03-01, 2026-03-01T08:00:00Z or"
        raise InputError("time-invalid", f"{what} 2026-03-01T08:00:00.000000Z", where=option) from None


def utc_now() -> str:
    """Return the present time in the one form that documents use."""
    return utc_text(time.time_ns())


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
