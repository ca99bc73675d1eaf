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
from certify.policy.policies import Policy
from certify.policy.reasons import Effect, effect_of
from certify.statement.age import check_age, late_text
from certify.statement.build import CapacityStatement
from certify.statement.claim import Claim, Holdings, chain_text, read_claim
from certify.trust.trusted_set import TrustedSet


class Conflict(NamedTuple):
    """What two statements cannot both be right about (refuse), or what a reader should know (note)."""

    code: str
    what: str

    @property
    def effect(self) -> Effect:
        """What it does to the statement, by the table of reason codes."""
        return effect_of(self.code)


@dataclass(frozen=True)
class Outcome:
    """What a statement's comparison with others gave."""

    refusal: RefusedError | None = None
    notes: tuple[str, ...] = ()
    not_checked: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()  # all of them; the first that refuses is the refusal


Known = Mapping[str, Claim]  # by payload digest


def conflicts(mine: Claim, other: Claim, at: str, known: Known | None = None) -> list[Conflict]:
    """Return what another statement says against this one at a time, the gravest first.

    Args:
        mine: the statement that is asked about.
        other: one that is signed and trusted as well.
        at: the moment of the answer, in the form of `UtcTime`.
        known: all statements that are compared: through them one may replace another that it does not name itself.
    """
    if mine.payload_sha256 == other.payload_sha256:
        return []
    known = {**(known or {}), mine.payload_sha256: mine, other.payload_sha256: other}
    return [
        *_numbers(mine, other, at, known),
        *_campaigns(mine, other),
        *_devices(mine, other, at, known),
        *_machines(mine, other),
        *_samples(mine, other),
    ]


def _numbers(mine: Claim, other: Claim, at: str, known: Known) -> Iterator[Conflict]:
    number, others = mine.issue.sequence, other.issue.sequence
    named = other.payload_sha256 in (mine.issue.previous_sha256, *mine.issue.supersedes)
    same_chain = mine.chain == other.chain
    if named != (same_chain and others == number - 1):
        verb = "names as the one before it" if named else "does not name as the one before it"
        yield Conflict("predecessor-differs", f"is number {number} of {chain_text(mine.chain)} and {verb} {other.name}")
    if not same_chain:
        return
    if others == number:
        yield Conflict("sequence-forked", f"bears one number with {other.name}, which is another statement")
    elif others == number + 1 and other.issue.previous_sha256 != mine.payload_sha256:
        yield Conflict("sequence-forked", f"is number {number}, and {other.name} follows another number {number}")
    if other.issue.issued_at <= at and _replaces(other, mine, known):
        yield Conflict("superseded", f"was superseded at {other.issue.issued_at} by {other.name}")


def _campaigns(mine: Claim, other: Claim) -> Iterator[Conflict]:
    one, two = mine.statement, other.statement
    if one.campaign_sha256 == two.campaign_sha256:
        return
    if one.campaign.challenge == two.campaign.challenge:
        yield Conflict("challenge-reused", f"answers the challenge that {other.name} answers in another campaign")
    if (one.campaign.centre_id, one.campaign.campaign_id) == (two.campaign.centre_id, two.campaign.campaign_id):
        what = f"and {other.name} hold different campaigns of the name {one.campaign.campaign_id}"
        yield Conflict("campaign-forked", what)


def _devices(mine: Claim, other: Claim, at: str, known: Known) -> Iterator[Conflict]:
    if mine.holdings is None or other.holdings is None:
        return
    same = list(_shared(mine.holdings, other.holdings))
    one, two = mine.holdings.parents, other.holdings.parents
    parts = [(one[key], two[key]) for key in one.keys() & two.keys()]  # of one card
    shared = dict(same)
    refused = False
    if shared and _at_once(mine, other):
        refused = True
        what = f"measured {_some(shared)} while {other.name} measured the same"
        yield Conflict("device-in-two-windows", what)
    # A card that is cut anew has slices with new identities: what cannot be told apart is not counted twice.
    twice, cut = (
        {a: b for a, b in pairs if a in mine.holdings.claimed and b in other.holdings.claimed}
        for pairs in (same, parts)
    )
    if (twice or cut) and _both_hold(mine, other, at, known):
        refused = True
        what = f"{_some(twice)} that" if twice else f"parts of {_some(cut, 'card')}, parts of which"
        yield Conflict("device-claimed-twice", f"claims {what} {other.name} claims in the same time")
    if (moved := shared or dict(parts)) and not refused and mine.chain[0] != other.chain[0]:
        yield Conflict("device-moved", f"{_some(moved)} stood in another centre too: {other.name}")


def _machines(mine: Claim, other: Claim) -> Iterator[Conflict]:
    if mine.holdings is None or other.holdings is None:
        return
    one, two = mine.holdings.machines, other.holdings.machines
    both = one.keys() & two.keys()
    if both and _at_once(mine, other):
        places = {one[keyid]: two[keyid] for keyid in both}
        what = f"has records of {_some(places, 'machine')}, whose keys signed for {other.name} in the same time"
        yield Conflict("machine-in-two-windows", what)
        return
    elsewhere = mine.chain[0] != other.chain[0]
    if moved := {one[keyid]: two[keyid] for keyid in both if elsewhere or one[keyid] != two[keyid]}:
        yield Conflict("machine-moved", f"{_some(moved, 'machine')} signed elsewhere too: {other.name}")


def _samples(mine: Claim, other: Claim) -> Iterator[Conflict]:
    if mine.holdings is None or other.holdings is None:
        return
    one, two = mine.holdings.samples, other.holdings.samples
    if copied := [sha for sha in one.keys() & two.keys() if one[sha].isdisjoint(two[sha])]:
        what = f"has {len(copied)} record(s) on the samples of other records in {other.name}: one of them is a copy"
        yield Conflict("samples-reused", what)


def _shared(mine: Holdings, other: Holdings) -> Iterator[tuple[str, str]]:
    """Yield (my place, the other's place) of every device in both, and of every part beside its whole."""
    for one, two in ((mine.devices, other.devices), (mine.devices, other.parents), (mine.parents, other.devices)):
        for key in one.keys() & two.keys():
            yield one[key], two[key]


def _at_once(mine: Claim, other: Claim) -> bool:
    """Return whether both measured at one time, and not the same measurement; windows that touch do not overlap."""
    if mine.measurement == other.measurement:
        return False
    (from_ns, until_ns), (others_from_ns, others_until_ns) = mine.window_ns, other.window_ns
    return from_ns < others_until_ns and others_from_ns < until_ns


def _both_hold(mine: Claim, other: Claim, at: str, known: Known) -> bool:
    """Return whether two statements hold beside each other at some time, as far as was issued by the time asked for."""
    one, two = mine.issue, other.issue
    if two.issued_at > at or one.issued_at >= two.valid_until or two.issued_at >= one.valid_until:
        return False
    if _replaces(mine, other, known) or _replaces(other, mine, known):
        return False
    # An earlier one may be replaced by way of statements that are not here; `compare` says that they are missing.
    return not (mine.chain == other.chain and one.sequence > two.sequence and _gap(mine, other, known))


def _replaces(later: Claim, earlier: Claim, known: Known) -> bool:
    """Return whether a statement supersedes an earlier one of its chain, itself or by way of those between."""
    if later.chain != earlier.chain or later.issue.sequence <= earlier.issue.sequence:
        return False
    found: set[str] = set()
    ahead = list(later.issue.supersedes)
    while ahead:
        payload_sha256 = ahead.pop()
        if payload_sha256 not in found:
            found.add(payload_sha256)
            between = known.get(payload_sha256)
            if between is not None and between.chain == later.chain:
                ahead += between.issue.supersedes
    return earlier.payload_sha256 in found


def _gap(later: Claim, earlier: Claim, known: Known) -> bool:
    """Return whether a number between two of one chain is not here."""
    numbers = {one.issue.sequence for one in known.values() if one.chain == later.chain}
    between = sum(earlier.issue.sequence < number < later.issue.sequence for number in numbers)
    return between < later.issue.sequence - earlier.issue.sequence - 1


def _some(places: Mapping[str, str], noun: str = "device") -> str:
    """Return how many there are and the first: here, and there."""
    first = min(places)
    return f"{len(places)} {noun}(s), the first {first} (there {places[first]})"


def compare(
    mine: Claim,
    paths: Iterable[Path],
    trust: TrustedSet,
    at: str,
    accept_simulated: bool = False,
    policies: Sequence[Policy] = (),
) -> Outcome:
    """Return what other statements say against one.

    The others are not verified whole: their signatures, trust and revocation are, and that their records are those that
    they bind. One that is refused so far says nothing against anybody; it is listed as not compared.

    Args:
        mine: with its holdings where its records were read.
        paths: of the others (see `read_claim`).
        trust: the verifier's keys.
        at: the moment of the answer, in the form of `UtcTime`.
        accept_simulated: compare with simulated statements too, whose devices do not exist.
        policies: of the statement, which say how late it may be (`certify.statement.age`).

    Raises:
        InputError: a file of another statement cannot be read.
        RefusedError: the statements before it do not excuse that it comes late.
    """
    known: dict[str, Claim] = {}
    not_checked: list[str] = []
    for path in paths:
        try:
            other = read_claim(path, trust, at)
        except RefusedError as error:
            not_checked.append(f"{path}: it is refused itself, and so says nothing: {error}")
            continue
        if other.statement.simulated and not accept_simulated:
            not_checked.append(f"{path}: its devices are simulated and claim nothing")
        elif other.payload_sha256 not in known or known[other.payload_sha256].holdings is None:
            known[other.payload_sha256] = other
    known.pop(mine.payload_sha256, None)
    unknown = check_age(mine.statement, lambda sha256: _statement(known.get(sha256)), policies, mine.where)
    found = [conflict for other in known.values() for conflict in conflicts(mine, other, at, known)]
    first = next((conflict for conflict in found if conflict.effect == "refuse"), None)
    return Outcome(
        refusal=None if first is None else RefusedError(first.code, first.what, where=mine.where),
        notes=tuple(f"{one.what} [{one.code}]" for one in found if one.effect == "note"),
        not_checked=(
            f"cross-centre duplicates: only against the {len(known)} statement(s) that were given and hold",
            *not_checked,
            *late_text(unknown),
            *_unseen(mine, list(known.values())),
        ),
        conflicts=tuple(found),
    )


def _statement(claim: Claim | None) -> CapacityStatement | None:
    return None if claim is None else claim.statement


def _unseen(mine: Claim, others: Sequence[Claim]) -> Iterator[str]:
    """Yield what the comparison could not see: without records, under shared keys, in a chain with holes."""
    everybody = [mine, *others]
    if mine.holdings is None:
        yield f"devices, machines and samples against other statements: {mine.unread}"
    for one in others:
        if one.holdings is None:
            yield f"{one.where}: devices, machines and samples: {one.unread}"
    for one in everybody:
        if one.holdings is not None and (shared := one.holdings.shared_keys):
            yield f"{one.where}: machines under {shared} key(s) that signed for several nodes"
    numbers = sorted({one.issue.sequence for one in everybody if one.chain == mine.chain})
    holes = [(a + 1, b - 1) for a, b in zip([0, *numbers], numbers, strict=False) if b - a > 1]
    if holes:
        text = ", ".join(str(a) if a == b else f"{a} to {b}" for a, b in holes)
        yield f"number {text} of {chain_text(mine.chain)}: not given, so who replaces whom is not wholly known"
    yield f"whether there is a later statement of {chain_text(mine.chain)} than number {numbers[-1]}: none was given"
