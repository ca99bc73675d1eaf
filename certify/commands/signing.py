"""What ``bench`` needs of ``certify`` and may not import: opening a campaign, sealing a record, saying what counts.

The root command line hands an instance of `Sealing` to ``bench.cli``.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from certify.keys.loading import load_signing_key

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bench.campaign.running import Open
    from bench.record import Campaign, Device, DeviceModel, NodeRecord, Profile
    from bench.record.folder import FoundModel
    from bench.record.judged import Judged
    from certify.campaign.prospects import Prospects
    from certify.statement.outlook import Outlook


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

    def open_campaign(self, path: Path, *, shared: bool = False) -> Campaign:
        """Return a campaign; `shared`: from a folder that others write to.

        A node has no key to check it by: the record binds its digest, and ``certify`` checks.
        """
        from bench.record import read_bytes, read_given
        from certify.documents.caps import CAPS
        from certify.documents.dsse import parse_envelope
        from certify.documents.kinds import check_payload_type, parse_payload

        content = read_bytes(path, CAPS.campaign_bytes) if shared else read_given(path, CAPS.campaign_bytes)
        envelope = parse_envelope(content, CAPS.campaign_bytes, path)
        check_payload_type(envelope, path)
        campaign: Campaign = parse_payload("campaign", envelope.payload, path).predicate
        return campaign

    def signer(self, key_file: Path | None, passphrase_file: Path | None, state_dir: Path, machine_id: str) -> Signer:
        """Return the signer of a record: the key given, else the node's own, made on first use."""
        return Signer(key_file, passphrase_file, state_dir, machine_id)

    def judge(self, record: NodeRecord, campaign: Campaign, profile: Profile) -> Judged:
        """Return what the rules make of each figure, and what bounds it."""
        from certify.statement.describe import judge_record

        return judge_record(record, campaign, profile)

    def describe(self, record: NodeRecord, judged: Judged) -> list[str]:
        """Return a judged record for people, one line of text each."""
        from certify.statement.describe import describe_record

        return describe_record(record, judged)


def foresee(policies: Sequence[str], ratings: Path | None) -> Callable[[DeviceModel, Device], Outlook]:
    """Return what says what a device's figures can expect under some policies, by default every installed one."""
    from bench.record import config_names
    from certify.judge.expectation import demands_of
    from certify.policy.policies import load_policy
    from certify.policy.ratings import load_ratings
    from certify.statement.outlook import outlook_of

    table = load_ratings(ratings)
    demands = [demand for name in policies or config_names("policies") for demand in demands_of(load_policy(name))]
    return lambda model, device: outlook_of(model, device, table, demands)


def foresee_campaign(opened: Open, ratings: Path | None) -> Callable[[Mapping[str, Sequence[FoundModel]]], Prospects]:
    """Return what says what the devices can expect that the nodes of a campaign tell of."""
    from certify.campaign.prospects import of_nodes, terms_of
    from certify.policy.ratings import load_ratings

    table = load_ratings(ratings)
    terms = terms_of(opened.folder, opened.campaign, opened.profile)
    names = {node.node_id: node.name for node in opened.roster.nodes}
    return lambda told: of_nodes(terms, told, names, table)
