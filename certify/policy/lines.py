"""The one table of what a verification says beside its answer: what it did not check, and what must be known.

Each line has a code, which ``petaseal explain`` leads to its section of docs/verification.md, and ends with it. What is
said with a code of the rules or of a refusal (a conflict, an issue of samples) has that code and stands in no table.
"""

from __future__ import annotations

LINES = {
    # of the keys
    "key-given": "trust: the key was given by --public-key; its role, centre and validity are yours",
    "revocations-not-given": "what was revoked since {since}: give --revocations",
    "rollback-not-remembered": "a rollback of the trust root: the state folder cannot be written, so it is not"
    " remembered",
    "rollback-not-locked": "a rollback by another process at the same time: the state folder has no locks",
    "signed-before-revocation": "key {keyid} was revoked at {revoked_at} ({reason}): accepted only because somebody who"
    " is trusted saw the statement before, at {seen_at}",
    # of who attests it
    "witness-skipped": "the witness document {name}, which lies there: {reason}",
    "receipt-skipped": "the receipt {name}, which lies there: {reason}",
    "witnesses-cut": "{count} witness document(s) beyond the first {most} by name: {names}",
    "receipts-cut": "{count} receipt(s) beyond the first {most} by name: {names}",
    # of the campaign, where nobody but the operator knows
    "challenge-self-chosen": "the challenge: nobody but the operator chose it",
    "challenge-unproven": "the challenge: that a {source} gave it is the operator's word",
    "campaign-unbound": "for which centre file and policies the campaign was opened: they may have been chosen"
    " afterwards",
    "attempts-unproven": "attempts before this one ({count} named): that there were no others",
    "absences-unproven": "why {count} expected node(s) have no record: that is the operator's word",
    # of records and samples
    "records-not-given": "records, rules, sums and verdicts: give --records",
    "self-asserted": "records under keys that nobody enrolled: {count}",
    "table-given": "{name} is none of petaseal's: you gave it, and what it says is yours to judge",
    "samples-not-given": "samples: give --samples",
    "samples-blind": "operands made anew (R2), the number of launches, trends of the warm-up (R6): samples do not show"
    " them",
    "samples-partly": "{what} ({count})",
    "notes-shortened": "only the first {most} of {count} notes on samples are listed",
    # of other statements
    "first-issue-not-given": "that the first statement over this measurement was issued in time: {sha256}… was not"
    " given (--others)",
    "others-not-given": "cross-centre duplicates: no other statement was given, and no registry asked",
    "others-few": "cross-centre duplicates: only against the {count} statement(s) that were given and hold",
    "predecessor-not-given": "the statement before: only its digest is known",
    "other-refused": "{where}: it is refused itself, and so says nothing: {error}",
    "other-simulated": "{where}: its devices are simulated and claim nothing",
    "records-not-compared": "devices, machines and samples against other statements: {why}",
    "other-records-not-compared": "{where}: devices, machines and samples: {why}",
    "keys-shared": "{where}: machines under {count} key(s) that signed for several nodes",
    "numbers-missing": "number {numbers} of {chain}: not given, so who replaces whom is not wholly known",
    "later-unknown": "whether there is a later statement of {chain} than number {number}: none was given",
}


def line(code: str, **values: object) -> str:
    """Return the printed line of a reason code, with the code at its end."""
    return f"{LINES[code].format(**values)} [{code}]"
