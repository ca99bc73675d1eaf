"""What ``bench`` needs of ``certify`` and may not import: opening a campaign, sealing a record, describing it.

The root command line hands an instance of `Sealing` to ``bench.cli``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import InputError

if TYPE_CHECKING:
    from bench.record import Campaign, DeviceModel, NodeRecord, Profile
    from certify.keys.signers import PrivateKey
    from certify.statement.describe import Judged


class Signer:
    """Seals node records with one key."""

    def __init__(self, key_file: Path | None, passphrase_file: Path | None, state_dir: Path, machine_id: str) -> None:
        from certify.documents.kinds import spki_text
        from certify.keys import files as keys

        if key_file is None:
            self._key = keys.node_key(state_dir, machine_id)
        else:
            self._key = load_signing_key(key_file, passphrase_file)
        self.spki_b64 = spki_text(self._key.public)

    def seal_record(self, record: NodeRecord, samples_sha256: str) -> bytes:
        """Return the record's envelope; its subject is the samples sidecar."""
        from certify.documents.dsse import seal
        from certify.documents.kinds import PAYLOAD_TYPE, make_document

        return seal(make_document("node-record", record, samples_sha256), PAYLOAD_TYPE, [self._key])


class Sealing:
    """The means to sign, for ``bench.cli``."""

    def open_campaign(self, path: Path) -> Campaign:
        """Return a campaign. A node has no key to check it by: the record binds its digest, and ``certify`` checks."""
        from bench.record import read_bytes
        from certify.documents.caps import CAPS
        from certify.documents.dsse import parse_envelope
        from certify.documents.kinds import check_payload_type, parse_payload

        envelope = parse_envelope(read_bytes(path, CAPS.campaign_bytes), CAPS.campaign_bytes, path)
        check_payload_type(envelope, path)
        campaign: Campaign = parse_payload("campaign", envelope.payload, path).predicate
        return campaign

    def signer(self, key_file: Path | None, passphrase_file: Path | None, state_dir: Path, machine_id: str) -> Signer:
        """Return the signer of a record: the key given, else the node's own, made on first use."""
        return Signer(key_file, passphrase_file, state_dir, machine_id)

    def judge(self, record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
        """Return what the rules make of each figure: device, precision -> reason code -> effect."""
        from certify.statement.describe import judge_record

        return judge_record(record, campaign, profile)

    def describe(self, record: NodeRecord, judged: Judged) -> list[str]:
        """Return a judged record for people, one line of text each."""
        from certify.statement.describe import describe_record

        return describe_record(record, judged)


def nominal_rates(model: DeviceModel) -> dict[str, int]:
    """Return a device model's nominal ratings by precision, MFLOP/s; empty where the table has no row."""
    from certify.policy.ratings import installed_ratings

    rating = installed_ratings().match(model.vendor, model.model, model.memory_bytes, model.count_unit)
    return {precision: rate.nominal_mflop_s for precision, rate in rating.rates.items()} if rating else {}


def load_signing_key(path: Path, passphrase_file: Path | None, signer: str | None = None) -> PrivateKey:
    """Return a key to sign with, asking for its passphrase on a terminal where it needs one and none is given.

    Args:
        path: the private key; the public key where a command signs.
        passphrase_file: its first line opens the private key.
        signer: command line that signs with a key which is not in a file (`certify.keys.signer_command`).

    Raises:
        InputError, RefusedError: codes of `keys.load_private`; with `signer` those of `keys.load_public`, and `usage`.
    """
    from certify.keys import files as keys

    if signer is not None:
        from certify.keys.signer_command import command_key

        if passphrase_file is not None:
            what = "--signer and --passphrase-file exclude each other"
            raise InputError("usage", what, fix="let the command ask for what it needs")
        return command_key(keys.load_public(path), signer)
    if passphrase_file is not None:
        return keys.load_private(path, keys.read_passphrase(passphrase_file))
    try:
        return keys.load_private(path)
    except InputError as error:
        if error.code != "key-passphrase-missing":
            raise
    return keys.load_private(path, read_passphrase(None, f"passphrase of {path}"))


def read_passphrase(file: Path | None, prompt: str, confirm: bool = False) -> bytes:
    """Return a passphrase from a file, or typed on a terminal; never asks without one.

    Raises:
        InputError: there is no terminal, or the two entries differ.
    """
    import getpass

    from certify.keys import files as keys

    if file is not None:
        return keys.read_passphrase(file)
    if sys.stdin is None or not sys.stdin.isatty():
        raise InputError("key-passphrase-missing", "there is no terminal to ask on", fix="give --passphrase-file")
    passphrase = getpass.getpass(f"{prompt}: ").encode()
    if confirm and getpass.getpass("again: ").encode() != passphrase:
        raise InputError("key-passphrase-wrong", "the two entries differ")
    return passphrase
