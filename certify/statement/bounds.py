"""What bounds a figure, in words: the steps of evidence and the limits of R12, in both languages.

Nothing is computed here; which step and limit a figure has is `certify.judge.ceilings`'s to say.
"""

from __future__ import annotations

from bench.language import Language, text_in
from bench.units import rate_text
from certify.judge.ceilings import LimitName, Step

STEP_NAMES: dict[Step, str] = {"measured": "旁测", "silicon": "芯片", "rating": "标称", "none": "无上限"}
STEPS_MEAN: dict[Step, dict[str, str]] = {
    "measured": {
        "zh": "以公开的芯片参数为上限，并以旁测的指令发射率为上限。",
        "en": "Bounded by what the published silicon can do, and by the rate of issue that was measured beside it.",
    },
    "silicon": {
        "zh": "以公开的芯片参数（计算单元、每时钟运算量、最高频率）为上限；处理器以指令集、核数和频率为上限。",
        "en": "Bounded by what the published silicon can do (units, FLOP per clock, highest clock); of a processor by"
        " its instruction set, cores and clock.",
    },
    "rating": {
        "zh": "以厂商的稠密标称值为据：该型号没有可信的公开芯片参数，因此只排除明显高于标称值或公开最佳实测值的结果，"
        "低于此限的虚高无法仅凭数字识别，只有见证或抽查才能发现。",
        "en": "Rests on the vendor's dense rating: no certain silicon of the model is published. A figure well above"
        " the rating, or above the best published measurement, is excluded; one that is inflated below that limit"
        " cannot be told by its numbers, only by a witness or a spot check.",
    },
    "none": {
        "zh": "没有可用的上限：仅因政策接受而计入，任何平台都不据此调度。",
        "en": "Nothing known bounds it: it counts only because the policy accepts that, and no platform schedules it.",
    },
}
LIMITS: dict[LimitName, dict[str, str]] = {
    "silicon": {"zh": "芯片最高频率", "en": "the silicon at its highest clock"},
    "observed-clock": {"zh": "芯片实测最高频率", "en": "the silicon at the highest observed clock"},
    "mean-clock": {"zh": "芯片平均实测频率", "en": "the silicon at the mean observed clock"},
    "issue-rate": {"zh": "旁测指令发射率", "en": "the rate of issue measured beside it"},
    "rating": {"zh": "稠密标称值", "en": "the rating"},
    "best-known": {"zh": "公开最佳实测值", "en": "the best published measurement"},
    "highest-rating": {"zh": "表中最高标称值", "en": "the highest rating of any accelerator"},
    "cpu": {"zh": "指令集、核数与频率", "en": "the instruction set, cores and clock"},
}


# The clocks of each figure make these limits, so that those of several figures differ; a statement has the lowest.
OF_EACH_FIGURE = ("observed-clock", "mean-clock", "issue-rate")


def bounds_text(step: str, limit: str | None, least_mflop_s: int | None, figures: int, lang: Language = "en") -> str:
    """Return what binds several figures as a text: where their limits differ, the lowest of them, and called so."""
    if figures < 2 or least_mflop_s is None or limit not in OF_EACH_FIGURE:
        return bound_text(step, limit, least_mflop_s, lang)
    name: str = {str(key): each[lang] for key, each in LIMITS.items()}[limit]
    return text_in(lang, "statement_lines", "bounded-each", limit=name, rate=rate_text(least_mflop_s), step=step)


def bound_text(step: str, limit: str | None, limit_mflop_s: int | None, lang: Language = "en") -> str:
    """Return the step of evidence of a figure and the limit that binds it as a text; an unknown limit by its name."""
    words = {str(name): each[lang] for name, each in LIMITS.items()}
    if limit is None or limit_mflop_s is None:
        return text_in(lang, "statement_lines", "unbounded", step=step)
    limited, rate = words.get(limit, limit), rate_text(limit_mflop_s)
    return text_in(lang, "statement_lines", "bounded", limit=limited, rate=rate, step=step)
