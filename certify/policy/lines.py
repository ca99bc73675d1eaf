"""What a verification says beside its answer: what it did not check, and what must be known.

Each line has a code, which ``petaseal explain`` leads to its section of docs/verification.md, and ends with it; the
texts stand in ``configs/messages/line.yaml``. What is said with a code of the rules or of a refusal (a
conflict, an issue of samples) has that code and stands in no table.
"""

from __future__ import annotations

import re

from bench.language import Language, messages_of, said_in, text_in, values_of
from certify.policy.reasons import reasons

_CODED = re.compile(r"(.*) \[([a-z0-9-]+)\]", re.DOTALL)


def line(code: str, **values: object) -> str:
    """Return the line of a reason code in English, as reports and documents have it, with the code at its end."""
    return f"{text_in('en', 'line', code, **values)} [{code}]"


def line_in(lang: Language, printed: str) -> str:
    """Return a line in a language, from the English one that a report has."""
    coded = _CODED.fullmatch(printed)
    if lang == "en" or coded is None:
        return printed
    what, code = coded.groups()
    message = messages_of("line").get(code)
    if message is not None and (values := values_of(message, what)) is not None:
        said = {  # a value may be a sentence itself
            name: said_in(lang, "page_unverified", said_in(lang, "samples", value)) for name, value in values.items()
        }
        return f"{message.in_language(lang).format(**said)} [{code}]"
    reason = reasons().get(code)
    if reason is None:
        return printed
    return f"{text_in(lang, 'statement_lines', 'original', meaning=reason.zh.rstrip('。'), what=what)} [{code}]"


def code_of(printed: str) -> str:
    """Return the code at the end of a line; the line itself where it has none."""
    coded = _CODED.fullmatch(printed)
    return printed if coded is None else coded[2]
