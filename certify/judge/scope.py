"""What the records of one statement are judged against, and what shows that a record belongs elsewhere.

Pure functions of values: policies, centre and campaign come in, and nothing is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

from bench.errors import InputError, RefusedError
from bench.record import RULES_VERSION, Campaign, NodeRecord, Profile, Workload, digest
from bench.record.closing import Closing
from certify.documents.kinds import Baseline
from certify.documents.statement import CapacityStatement
from certify.judge.case import MeasurementPlan
from certify.judge.identities import identities_of
from certify.judge.timing import r10_clocks_compared
from certify.keys.signers import keyid, spki_bytes
from certify.policy.centre import Centre
from certify.policy.policies import EACH_POLICY, Counting, Policy
from certify.policy.pools import Places
from certify.policy.ratings import Ratings


@dataclass(frozen=True)
class Scope:
    """What all records of one statement are judged against."""

    centre: Centre
    campaign: Campaign
    campaign_sha256: str
    starts_at: str  # T0, which every record names
    profile: Profile
    profile_sha256: str
    ratings: Ratings
    counting: dict[str, Counting]  # pool class -> counted precision
    accept: frozenset[str]  # hold codes that the policies accept
    accept_with_witness: frozenset[str]  # and those that they accept where a witness vouches for the statement
    in_baseline: frozenset[str]  # identities in the baseline inventory, as `identities` gives them
    enrolled_only: bool = False  # a policy demands that every record is signed by its node's enrolled key
    closing: Closing | None = None  # of the campaign; None where nobody coordinated it
    evidence_nodes: frozenset[str] = frozenset()  # on which other tools ran: their records say what these can hold

    @classmethod
    def of(
        cls,
        campaign: Campaign,
        starts_at: str,
        *,
        centre: Centre,
        profile: Profile,
        ratings: Ratings,
        policies: tuple[Policy, ...],
        in_baseline: frozenset[str] = frozenset(),
        closing: Closing | None = None,
    ) -> Scope:
        """Return what the records of a campaign are judged against under some policies.

        Args:
            campaign: that all records name.
            starts_at: T0 of the campaign.
            centre: whose pools the devices count in.
            profile: with the digest that the campaign names; the caller has compared it.
            ratings: of the accelerators.
            policies: of one statement, which must agree on what each class counts in.
            in_baseline: identities of the devices that the baseline inventory lists.
            closing: what the coordinator saw when the campaign ended.

        Raises:
            InputError: `policies-differ`, `class-not-counted`.
        """
        return cls(
            centre=centre,
            campaign=campaign,
            campaign_sha256=digest(campaign),
            starts_at=starts_at,
            profile=profile,
            profile_sha256=campaign.profile_sha256,
            ratings=ratings,
            counting=counting_of(policies, centre),
            accept=accepted_holds(policies),
            accept_with_witness=accepted_with_witness(policies),
            in_baseline=in_baseline,
            enrolled_only=enrolled_only(policies),
            closing=closing,
        )

    @classmethod
    def of_statement(
        cls,
        statement: CapacityStatement,
        policies: tuple[Policy, ...],
        profile: Profile,
        ratings: Ratings,
        baseline: Baseline | None = None,
    ) -> Scope:
        """Return what the records of a statement are judged against; its digests of itself have been checked.

        Args:
            statement: names the campaign, the centre and the closing document.
            policies: the verifier's own, of the names that the statement gives.
            profile, ratings: the verifier's own, of the digests that the statement gives.
            baseline: the inventory that the statement binds; without it every device counts as new.

        Raises:
            InputError: `policies-differ`, `class-not-counted`.
        """
        return cls.of(
            statement.campaign,
            statement.starts_at,
            centre=statement.centre,
            profile=profile,
            ratings=ratings,
            policies=policies,
            in_baseline=frozenset() if baseline is None else identities_of(baseline),
            closing=statement.closing,
        )

    @cached_property
    def plan(self) -> MeasurementPlan:
        """The plan of measurement: the campaign's profile and windows."""
        return MeasurementPlan(self.campaign, self.profile)

    @cached_property
    def places(self) -> Places:
        """The pool in which each device counts."""
        return Places(self.centre, self.campaign)

    @cached_property
    def counted(self) -> dict[str, Workload]:
        """The workload that counts in each class of pools."""
        return {name: counting.workload for name, counting in self.counting.items()}

    @cached_property
    def expected(self) -> dict[str, str]:
        """The campaign's nodes and their pools."""
        return {node.node_id: node.pool for node in self.campaign.nodes}

    @cached_property
    def groups(self) -> dict[str, str | None]:
        """The group that each of the campaign's nodes reduces in; None: all nodes are one."""
        return {node.node_id: node.group for node in self.campaign.nodes}

    @cached_property
    def enrolled(self) -> dict[str, str]:
        """The keys that the campaign names for its nodes; what a node issues for itself afterwards enrols no key."""
        if self.campaign.self_issued:
            return {}
        return {node.node_id: node.keyid for node in self.campaign.nodes if node.keyid is not None}

    def key_codes(self, record: NodeRecord) -> tuple[str, ...]:
        """Return what is wrong with the key that signed a record: it is the one that is enrolled for its node."""
        if (enrolled := self.enrolled.get(record.node_id)) is None:
            return ("node-key-not-enrolled",) if self.enrolled_only else ()
        return () if keyid(spki_bytes(record.signer_spki)) == enrolled else ("node-key-differs",)

    def clock_codes(self, record: NodeRecord) -> tuple[str, ...]:
        """Return what is wrong with a node's clock; one that issued its own campaign has none to differ from."""
        return () if self.campaign.self_issued else r10_clocks_compared(record, self.closing)


def counting_of(policies: Iterable[Policy], centre: Centre) -> dict[str, Counting]:
    """Return what each class of the centre's pools counts in, which all policies of one statement must agree on.

    Raises:
        InputError: two policies differ, or none counts a class of the centre.
    """
    # a statement has one set of sums, so that all its policies must count a class alike
    counting: dict[str, Counting] = {}
    by: dict[str, str] = {}  # class -> the policy that counts it first
    for policy in policies:
        for name, entry in policy.counting.items():
            known, first = counting.setdefault(name, entry), by.setdefault(name, policy.policy)
            if (known.workload, known.accumulate) != (entry.workload, entry.accumulate):
                one, other = (f"{each.workload} with {each.accumulate} accumulation" for each in (known, entry))
                what = f"{first} counts {name} in {one}, and {policy.policy} in {other}"
                fix = "make a campaign and a statement for each, with one --policy at a time"
                raise InputError("policies-differ", what, where="--policy", fix=fix)
    for pool in centre.pools:
        if pool.pool_class not in counting:
            raise InputError(
                "class-not-counted",
                f"no policy counts {pool.pool_class}",
                where=pool.pool,
                fix=f"add one that does, and {EACH_POLICY}",
            )
    return counting


def enrolled_only(policies: Iterable[Policy]) -> bool:
    """Return whether a policy demands that records are signed by their nodes' enrolled keys."""
    return any(policy.node_keys == "enrolled" for policy in policies)


def accepted_holds(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the hold codes that every policy accepts: one statement has one set of sums."""
    accepts = [frozenset(policy.accept) for policy in policies]
    return frozenset.intersection(*accepts) if accepts else frozenset()


def accepted_with_witness(policies: Iterable[Policy]) -> frozenset[str]:
    """Return the hold codes that every policy accepts where a witness vouches for the statement."""
    accepts = [frozenset(policy.accepted_with_witness) for policy in policies]
    return frozenset.intersection(*accepts) if accepts else frozenset()


def check_belongs(record: NodeRecord, scope: Scope) -> None:
    """Refuse a record that another campaign, centre, profile or version of the rules made."""
    if (fact := next(foreign_facts(record, scope), None)) is not None:
        raise RefusedError(fact[0], f"the record {fact[1]}", where=record.node_id)


def foreign_facts(record: NodeRecord, scope: Scope) -> Iterator[tuple[str, str]]:
    """Yield (code, what) of everything that shows that a record belongs elsewhere."""
    expected, campaign = scope.expected, scope.campaign
    self_issued = campaign.self_issued
    # in this order: the first that does not hold is the code of the refusal
    if record.rules != RULES_VERSION:
        yield "rules-differ", f"follows the rules {record.rules}, not {RULES_VERSION}"
    if record.campaign_sha256 != scope.campaign_sha256:
        yield "campaign-differs", "is of another campaign"
    if record.starts_at != scope.starts_at:
        yield "start-differs", f"started at {record.starts_at}, not {scope.starts_at}"
    if record.challenge != campaign.challenge:
        yield "challenge-differs", "answers another challenge"
    if record.centre_id != campaign.centre_id:
        yield "centre-differs", f"is of the centre {record.centre_id}"
    if not self_issued and record.centre_id != scope.centre.centre_id:
        yield "centre-differs", f"is of the centre {record.centre_id}, not {scope.centre.centre_id}"
    if record.profile_sha256 != scope.profile_sha256:
        yield "profile-differs", f"used another profile ({record.profile})"
    if record.node_id not in expected:
        yield "node-not-expected", "is of a node that the campaign does not name"
    if record.pool != expected.get(record.node_id):
        yield "pool-differs", f"names the pool {record.pool}"
    if record.campaign_id != campaign.campaign_id:
        yield "campaign-differs", f"names {record.campaign_id}"
    if record.profile != campaign.profile:
        yield "profile-differs", f"names the profile {record.profile}"
    if record.campaign != (campaign if self_issued else None):
        yield "campaign-differs", "holds another campaign, or none, against its kind"
    if not record.started_at <= record.ready_at <= record.ended_at:  # one form of time: its text order is its order
        yield (
            "times-reversed",
            f"arrives at {record.started_at}, is ready at {record.ready_at} and ends at {record.ended_at}",
        )
    if record.node_id in expected:
        places = scope.places
        for device in record.devices:
            if (problem := places.problem(record.node_id, device.device)) is not None:
                yield problem
