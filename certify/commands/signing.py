"""What ``bench`` needs of ``certify`` and may not import: opening a campaign, sealing a record, describing it.

The root command line hands an instance of `Sealing` to ``bench.cli``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from certify.keys.loading import load_signing_key

if TYPE_CHECKING:
    from bench.record import Campaign, DeviceModel, NodeRecord, Profile
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
