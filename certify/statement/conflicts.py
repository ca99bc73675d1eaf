"""One statement against others: forks, claims on the same devices, machines in two places, what was used twice.

`conflicts` is a pure function of two claims (`certify.statement.claim`); `compare` reads the others. Which of two
statements is false cannot be seen from them, so that what excludes one by the other is said against both
(docs/lifecycle.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from bench.errors import RefusedError
from certify.documents.statement import CapacityStatement
from certify.policy.lines import line
from certify.policy.policies import Policy
from certify.policy.reasons import Effect, effect_of
from certify.statement.age import check_age, late_text
from certify.statement.claim import Claim, DeviceIndex, chain_text, read_claim
from certify.trust.dating import not_read_in
from certify.trust.opening import Verifier


class Conflict(NamedTuple):
    """What two statements cannot both be right about (refuse), or what a reader should know (note)."""

    code: str
    what: str

    @property
    def effect(self) -> Effect:
        """What it does to the statement, by the table of reason codes."""
        return effect_of(self.code)


@dataclass(frozen=True)
class Comparison:
    """What a statement's comparison with others gave."""

    refusal: RefusedError | None = None
    notes: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()  # all of them; the first that refuses is the refusal


Known = Mapping[str, Claim]  # by payload digest


def conflicts(claim: Claim, other: Claim, at: str, known: Known | None = None) -> list[Conflict]:
    """Return what another statement says against this one at a time, the gravest first.

    Args:
        claim: the statement that is asked about.
        other: one that is signed and trusted as well.
        at: the moment of the answer, in the form of `UtcTime`.
        known: all statements that are compared: through them one may replace another that it does not name itself.
    """
    if claim.payload_sha256 == other.payload_sha256:
        return []
    known = {**(known or {}), claim.payload_sha256: claim, other.payload_sha256: other}
    return [
        *_numbers(claim, other, at, known),
        *_campaigns(claim, other),
        *_devices(claim, other, at, known),
        *_machines(claim, other),
        *_samples(claim, other),
    ]


def _numbers(claim: Claim, other: Claim, at: str, known: Known) -> Iterator[Conflict]:
    number, other_number = claim.issue.sequence, other.issue.sequence
    named = other.payload_sha256 in (claim.issue.previous_sha256, *claim.issue.supersedes)
    same_chain = claim.chain == other.chain
    if named != (same_chain and other_number == number - 1):
        verb = "names as the one before it" if named else "does not name as the one before it"
        yield Conflict(
            "predecessor-differs", f"is number {number} of {chain_text(claim.chain)} and {verb} {other.name}"
        )
    if not same_chain:
        return
    if other_number == number:
        yield Conflict("sequence-forked", f"bears one number with {other.name}, which is another statement")
    elif other_number == number + 1 and other.issue.previous_sha256 != claim.payload_sha256:
        yield Conflict("sequence-forked", f"is number {number}, and {other.name} follows another number {number}")
    if other.issue.issued_at <= at and _replaces(other, claim, known):
        yield Conflict("superseded", f"was superseded at {other.issue.issued_at} by {other.name}")


def _campaigns(claim: Claim, other: Claim) -> Iterator[Conflict]:
    one, two = claim.statement, other.statement
    # A reissue is over the same campaign, and its challenge is used once.
    if one.campaign_sha256 == two.campaign_sha256:
        return
    if one.campaign.challenge == two.campaign.challenge:
        yield Conflict("challenge-reused", f"answers the challenge that {other.name} answers in another campaign")
    if (one.campaign.centre_id, one.campaign.campaign_id) == (two.campaign.centre_id, two.campaign.campaign_id):
        what = f"and {other.name} hold different campaigns of the name {one.campaign.campaign_id}"
        yield Conflict("campaign-forked", what)


def _devices(claim: Claim, other: Claim, at: str, known: Known) -> Iterator[Conflict]:
    if claim.device_index is None or other.device_index is None:
        return
    same = list(_shared(claim.device_index, other.device_index))
    one, two = claim.device_index.parents, other.device_index.parents
    parts = [(one[key], two[key]) for key in one.keys() & two.keys()]  # of one card
    shared = dict(same)
    refused = False
    if shared and _at_once(claim, other):
        refused = True
        what = f"measured {_shortened(shared)} while {other.name} measured the same"
        yield Conflict("device-in-two-windows", what)
    # A card that is cut anew has slices with new identities: what cannot be told apart is not counted twice.
    twice, cut = (
        {a: b for a, b in pairs if a in claim.device_index.claimed and b in other.device_index.claimed}
        for pairs in (same, parts)
    )
    if (twice or cut) and _both_hold(claim, other, at, known):
        refused = True
        what = f"{_shortened(twice)} that" if twice else f"parts of {_shortened(cut, 'card')}, parts of which"
        yield Conflict("device-claimed-twice", f"claims {what} {other.name} claims in the same time")
    if (moved := shared or dict(parts)) and not refused and claim.chain[0] != other.chain[0]:
        yield Conflict("device-moved", f"{_shortened(moved)} stood in another centre too: {other.name}")


def _machines(claim: Claim, other: Claim) -> Iterator[Conflict]:
    if claim.device_index is None or other.device_index is None:
        return
    one, two = claim.device_index, other.device_index
    elsewhere, at_once = claim.chain[0] != other.chain[0], _at_once(claim, other)
    with_devices = {(here.partition("/")[0], there.partition("/")[0]) for here, there in _shared(one, two)}
    twice: dict[str, str] = {}
    moved: dict[str, str] = {}
    shared: dict[str, str] = {}
    # a key of several nodes of one statement tells no machine, which is said of that statement itself
    machines, others = one.machines, two.machines
    for keyid in machines.keys() & others.keys():
        here, there = machines[keyid], others[keyid]
        renamed = elsewhere or here != there
        if not at_once:
            moved |= {here: there} if renamed else {}
        # under two names at one time it is one machine, or the key of an image that was cloned: devices tell which
        elif renamed and (here, there) not in with_devices:
            shared[here] = there
        else:
            twice[here] = there
    if twice:
        what = f"has records of {_shortened(twice, 'machine')}, whose keys signed for {other.name} in the same time"
        yield Conflict("machine-in-two-windows", what)
    if moved:
        yield Conflict("machine-moved", f"{_shortened(moved, 'machine')} signed elsewhere too: {other.name}")
    if shared:
        what = f"shares the key of {_shortened(shared, 'node')} with {other.name}, so that it tells no machine"
        yield Conflict("node-key-shared", what)


def _samples(claim: Claim, other: Claim) -> Iterator[Conflict]:
    if claim.device_index is None or other.device_index is None:
        return
    one, two = claim.device_index.samples, other.device_index.samples
    if copied := [sha for sha in one.keys() & two.keys() if one[sha].isdisjoint(two[sha])]:
        what = f"has {len(copied)} record(s) on the samples of other records in {other.name}: one of them is a copy"
        yield Conflict("samples-reused", what)


def _shared(claim: DeviceIndex, other: DeviceIndex) -> Iterator[tuple[str, str]]:
    """Yield the two places of each device that both show, and of each part that one shows and whose whole the other."""
    for one, two in ((claim.devices, other.devices), (claim.devices, other.parents), (claim.parents, other.devices)):
        for key in one.keys() & two.keys():
            yield one[key], two[key]


def _at_once(claim: Claim, other: Claim) -> bool:
    """Return whether both measured at one time, and not the same measurement; windows that touch do not overlap."""
    if claim.measurement == other.measurement:
        return False
    (from_ns, until_ns), (other_from_ns, other_until_ns) = claim.window_ns, other.window_ns
    return from_ns < other_until_ns and other_from_ns < until_ns


def _both_hold(claim: Claim, other: Claim, at: str, known: Known) -> bool:
    """Return whether two statements hold at one time, as far as was issued by the time asked for."""
    one, two = claim.issue, other.issue
    if two.issued_at > at or one.issued_at >= two.valid_until or two.issued_at >= one.valid_until:
        return False
    if _replaces(claim, other, known) or _replaces(other, claim, known):
        return False
    # An earlier one may be replaced by way of statements that are not here; `compare` says that they are missing.
    return not (claim.chain == other.chain and one.sequence > two.sequence and _gap(claim, other, known))


def _replaces(later: Claim, earlier: Claim, known: Known) -> bool:
    """Return whether a statement supersedes an earlier one of its chain, itself or by way of those between."""
    if later.chain != earlier.chain or later.issue.sequence <= earlier.issue.sequence:
        return False
    seen: set[str] = set()
    ahead = list(later.issue.supersedes)
    while ahead:
        payload_sha256 = ahead.pop()
        if payload_sha256 not in seen:
            seen.add(payload_sha256)
            between = known.get(payload_sha256)
            if between is not None and between.chain == later.chain:
                ahead += between.issue.supersedes
    return earlier.payload_sha256 in seen


def _gap(later: Claim, earlier: Claim, known: Known) -> bool:
    """Return whether a number between two of one chain is not here."""
    numbers = {one.issue.sequence for one in known.values() if one.chain == later.chain}
    between = sum(earlier.issue.sequence < number < later.issue.sequence for number in numbers)
    return between < later.issue.sequence - earlier.issue.sequence - 1


def _shortened(places: Mapping[str, str], noun: str = "device") -> str:
    """Return how many there are and the first: here, and there."""
    first = min(places)
    return f"{len(places)} {noun}(s), the first {first} (there {places[first]})"


def compare(
    claim: Claim,
    paths: Iterable[Path],
    verifier: Verifier,
    accept_simulated: bool = False,
    policies: Sequence[Policy] = (),
) -> Comparison:
    """Return the conflicts of a statement with others.

    The others are not verified whole: their signatures, trust and revocation are, and that their records are those that
    they bind. One that is refused there conflicts with nothing; it is listed as not compared.

    Args:
        claim: with its device index where its records were read.
        paths: of the others (see `read_claim`).
        verifier: whose keys count; its time is the moment of the answer.
        accept_simulated: compare with simulated statements too, whose devices do not exist.
        policies: of the statement, which say how late it may be (`certify.statement.age`).

    Raises:
        InputError: a file of another statement cannot be read.
        RefusedError: the statements before it do not excuse that it comes late.
    """
    known: dict[str, Claim] = {}
    not_checked: list[str] = []
    for path in paths:
        not_checked += (f"{path}: {what}" for what in not_read_in(path if path.is_dir() else path.parent))
        try:
            other = read_claim(path, verifier)
        except RefusedError as error:
            not_checked.append(line("other-refused", where=path, error=error))
            continue
        if other.statement.simulated and not accept_simulated:
            not_checked.append(line("other-simulated", where=path))
        elif other.payload_sha256 not in known or known[other.payload_sha256].device_index is None:
            known[other.payload_sha256] = other
    # The same statement may lie among the others; it is no rival of itself.
    known.pop(claim.payload_sha256, None)
    unknown = check_age(claim.statement, lambda sha256: _statement(known.get(sha256)), policies, claim.where)
    conflicting = [conflict for other in known.values() for conflict in conflicts(claim, other, verifier.at, known)]
    first = next((conflict for conflict in conflicting if conflict.effect == "refuse"), None)
    return Comparison(
        refusal=None if first is None else RefusedError(first.code, first.what, where=claim.where),
        notes=tuple(f"{one.what} [{one.code}]" for one in conflicting if one.effect == "note"),
        not_checked=(
            line("others-few", count=len(known)),
            *not_checked,
            *late_text(unknown),
            *_unseen(claim, list(known.values())),
        ),
        conflicts=tuple(conflicting),
    )


def _statement(claim: Claim | None) -> CapacityStatement | None:
    return None if claim is None else claim.statement


def _unseen(claim: Claim, other_claims: Sequence[Claim]) -> Iterator[str]:
    """Yield what the comparison could not see: without records, under shared keys, in a chain with holes."""
    all_claims = [claim, *other_claims]
    if claim.device_index is None:
        yield line("records-not-compared", why=claim.unread)
    for one in other_claims:
        if one.device_index is None:
            yield line("other-records-not-compared", where=one.where, why=one.unread)
    for one in all_claims:
        if one.device_index is not None and (shared := one.device_index.shared_keys):
            yield line("keys-shared", where=one.where, count=shared)
    numbers = sorted({one.issue.sequence for one in all_claims if one.chain == claim.chain})
    holes = [(a + 1, b - 1) for a, b in zip([0, *numbers], numbers, strict=False) if b - a > 1]
    if holes:
        text = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in holes)
        yield line("numbers-missing", numbers=text, chain=chain_text(claim.chain))
    yield line("later-unknown", chain=chain_text(claim.chain), number=numbers[-1])
