"""A rehearsal: the verdicts of a campaign as they would read, were its devices real. It proves nothing, and says so.

It is no document: nobody signs it, it has no payload type, and no verifier or registry takes it. Everything that a
statement would be refused for is refused here too; only what `lifted` names is set aside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec

from bench.errors import InputError, one_line
from bench.language import Language, text_in
from bench.record import GRADES, Document, Grade, Name, Positive, Sha256, Text, encode, refuse_existing, write_atomic
from bench.terminal.summary import Part, fixed, whole_part
from certify.policy.centre import Bilingual
from certify.policy.missing import Lack, missing, missing_text
from certify.policy.policies import Policy
from certify.policy.thresholds import BaselineMatch, ClassEvidence, PolicyEvidence, Unrecorded, writable
from certify.policy.verdict_lines import describe_verdict, meaning_lines
from certify.policy.verdicts import Verdict, evaluate
from certify.statement.build import evidence_of
from certify.statement.issue import Computed, IssueRequest, compute
from certify.statement.paper.page import page_environment
from certify.statement.paper.verdict_rows import policy_rows
from certify.statement.summary import missing_part, threshold_parts

WATERMARK = Bilingual(zh="演练，不构成任何证明", en="REHEARSAL - proves nothing")
MARK = f"{WATERMARK.en} / {WATERMARK.zh}"
FILES = ("rehearsal.json", "rehearsal.html")
MOST_TIMES = 100_000
AS_IF = {
    "simulated": Bilingual(zh="假设设备为真实设备", en="as if the devices were real ones"),
    "grade-too-low": Bilingual(
        zh="假设以政策要求的级别测量", en="as if it had been measured at the grade that the policies demand"
    ),
    "times": Bilingual(zh="假设每个节点代表 {} 个同样的节点", en="as if each node stood for {} nodes like it"),
}


class Lifted(Document, frozen=True, kw_only=True):
    """Something that keeps a real verdict from being given, and was set aside here."""

    code: Literal["simulated", "grade-too-low", "times"]
    text: Bilingual


class Rehearsal(Document, frozen=True, kw_only=True):
    """What a campaign would come to. Not a statement: it is never signed, and its fields bear other names."""

    not_a_statement: Literal[True]
    rehearsal: Bilingual  # the watermark
    centre_id: Name
    centre_name: Bilingual
    project_id: Text | None
    campaign_id: Name
    starts_at: Text
    grade_measured: Grade | None
    lifted: tuple[Lifted, ...]
    times: Positive
    policies: dict[Name, Sha256]
    rehearsed: tuple[Verdict, ...]


class Rehearsed(NamedTuple):
    """A rehearsal that was written, for the command line to show."""

    rehearsal: Rehearsal
    missing: tuple[Lack, ...]
    out: Path

    def as_json(self) -> dict[str, Any]:
        """Return the result as the JSON value of ``--json``."""
        return {
            "rehearsal": msgspec.to_builtins(self.rehearsal),
            "missing": [one._asdict() for one in self.missing],
            "files": [str(self.out / name) for name in FILES],
        }

    def lines(self, lang: Language = "en") -> list[str]:
        """Return the rehearsal as printed lines, none of which reads like one of a statement."""
        lines = [*self._head(lang)]
        for verdict in self.rehearsal.rehearsed:
            lines += describe_verdict(verdict, lang)
        lines += meaning_lines(self.rehearsal.rehearsed, lang)
        lines += [missing_text(one, lang) for one in self.missing]
        return [MARK, *_marked(lines, lang), self._written(lang), MARK]

    def summary(self, lang: Language) -> list[Part]:
        """Return the parts of the rehearsal's summary, of which no line reads like one of a statement."""
        verdicts = threshold_parts(self.rehearsal.rehearsed, lang)
        whole = whole_part(len(self.lines(lang)), lang)
        parts = [fixed(*self._head(lang)), *verdicts, missing_part(self.missing, lang), whole]
        marked = [replace(part, forms=tuple(_marked(form, lang) for form in part.forms)) for part in parts]
        return [fixed(MARK), *marked, fixed(self._written(lang), is_copied=True), fixed(MARK)]

    def _head(self, lang: Language) -> list[str]:
        """Return of which campaign it is, and what it sets aside."""
        result = self.rehearsal
        name, campaign = result.centre_name, result.campaign_id
        of = text_in(lang, "rehearsal", "of", centre=result.centre_id, zh=name.zh, en=name.en, campaign=campaign)
        lifted = [one.text.zh if lang == "zh" else one.text.en for one in result.lifted]
        codes = [one.code for one in result.lifted]
        return [one_line(of), *(f"{text} ({code})" for text, code in zip(lifted, codes, strict=True))]

    def _written(self, lang: Language) -> str:
        files = text_in(lang, "rehearsal", "and").join(str(self.out / name) for name in FILES)
        return text_in(lang, "rehearsal", "written", files=files)


def _marked(lines: Iterable[str], lang: Language) -> tuple[str, ...]:
    return tuple(text_in(lang, "rehearsal", "line", line=line) for line in lines)


def rehearse(request: IssueRequest, times: int, progress: Callable[[int], None] = lambda records: None) -> Rehearsed:
    """Judge the records as ``certify`` does, set aside what a rehearsal sets aside, and write what the verdicts become.

    Args:
        request: as for the statement; its keys open the campaign and the baseline, and sign nothing.
        times: how many nodes each node stands for.
        progress: called with the number of records done so far.

    Raises:
        InputError, RefusedError: with the code of the first fault; nothing is then written.
    """
    if not 1 <= times <= MOST_TIMES:
        raise InputError("usage", f"is a whole number from 1 to {MOST_TIMES}", where="--times")
    for name in FILES:
        refuse_existing(request.out / name, "choose another folder")
    computed = compute(request, progress)
    evidence = evidence_of(computed.examined.tally, computed.basis)
    rehearsal = rehearsal_of(computed, evidence, times)
    lacks = missing(computed.centre, computed.policies, rehearsal.rehearsed)
    write_atomic(request.out / FILES[0], encode(rehearsal) + b"\n")
    write_atomic(request.out / FILES[1], render(rehearsal, computed.policies).encode())
    return Rehearsed(rehearsal, lacks, request.out)


def rehearsal_of(computed: Computed, evidence: PolicyEvidence, times: int) -> Rehearsal:
    """Return the rehearsal of a computed statement: its sums and verdicts as if it were real. Pure."""
    statement, policies = computed.statement, computed.policies
    lifted, setting = as_if(evidence, policies, times)
    return Rehearsal(
        not_a_statement=True,
        rehearsal=WATERMARK,
        centre_id=statement.centre.centre_id,
        centre_name=statement.centre.name,
        project_id=statement.centre.project_id,
        campaign_id=statement.campaign.campaign_id,
        starts_at=statement.starts_at,
        grade_measured=evidence.grade,
        lifted=lifted,
        times=times,
        policies={ref.policy: ref.sha256 for ref in statement.policies},
        rehearsed=tuple(verdict for policy in policies for verdict in evaluate(policy, setting)),
    )


def as_if(
    evidence: PolicyEvidence, policies: Sequence[Policy], times: int
) -> tuple[tuple[Lifted, ...], PolicyEvidence]:
    """Return what was set aside of the evidence, and the evidence without it. Pure.

    Holds, voids, missing nodes and everything that the centre declares stay as they are: they are what is rehearsed.
    """
    codes: list[Literal["simulated", "grade-too-low", "times"]] = ["simulated"] if evidence.simulated else []
    demanded = max((policy.minimum_grade for policy in policies), key=GRADES.index)
    grade = evidence.grade
    if grade is not None and GRADES.index(grade) < GRADES.index(demanded):
        codes.append("grade-too-low")
        grade = demanded
    if times > 1:
        codes.append("times")
    texts = {code: AS_IF[code] for code in codes}
    lifted = tuple(
        Lifted(code=code, text=Bilingual(zh=text.zh.format(f"{times:,}"), en=text.en.format(f"{times:,}")))
        for code, text in texts.items()
    )
    base = evidence.baseline
    return lifted, evidence._replace(
        simulated=False,
        grade=grade,
        classes={name: scaled(of_class, times) for name, of_class in evidence.classes.items()},
        newly_added={name: scaled(of_class, times) for name, of_class in evidence.newly_added.items()},
        vendors={
            name: {vendor: sums * times for vendor, sums in of_class.items()}
            for name, of_class in evidence.vendors.items()
        },
        baseline=None if base is None else _of_more_nodes(base, times),
    )


def scaled(of_class: ClassEvidence, times: int) -> ClassEvidence:
    """Return the evidence of a class over so many times as many nodes; what is unknown stays unknown."""
    return ClassEvidence(
        clean=of_class.clean * times,
        on_hold=of_class.on_hold * times,
        untested=of_class.untested * times,
        unrecorded=_more_unrecorded(of_class.unrecorded, times),
    )


def _more_unrecorded(nodes: Unrecorded, times: int) -> Unrecorded:
    at_most = nodes.at_most_mflop_s
    return nodes._replace(
        unnamed=nodes.unnamed * times,
        each=nodes.each * times,
        at_most_mflop_s=None if at_most is None else writable(at_most * times),
    )


def _of_more_nodes(base: BaselineMatch, times: int) -> BaselineMatch:
    """Return how a baseline stands to more nodes: what it lists on a node is on each that the node stands for."""
    present = base.still_present * times
    return base._replace(
        devices=base.devices - base.still_present + present,
        still_present=present,
        new_devices=base.new_devices * times,
        certified_mflop_s=None if base.devices else 0,
    )


def render(rehearsal: Rehearsal, policies: Sequence[Policy]) -> str:
    """Return the page of a rehearsal, with the watermark across all of it."""
    template = page_environment(Path(__file__).parent).get_template("rehearsal.html.j2")
    return template.render(r=rehearsal, policies=[policy_rows(policy, rehearsal.rehearsed) for policy in policies])
