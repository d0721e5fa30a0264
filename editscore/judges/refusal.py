"""Does a text say that the model will not judge? Numbers that follow a refusal mean nothing, so it is a failure of its own."""

from __future__ import annotations

import re

_CANNOT = r"(?:can(?:no|['’])t|can not|am (?:unable|not able)|['’]m (?:unable|not able)|wo(?:n['’]t)|will not|must decline|have to decline)"
_WORK = (
    # "I cannot rate this edit highly" and "I cannot help but notice" are verdicts.
    r"(?:(?:judge|evaluate|assess|grade|rate|score)\b(?![^.!?]{0,40}\b(?:high\w*|more|above|better|full\w*|top|well)\b)|"
    r"assist|help(?! but)|comply|fulfil+|process|continue|answer|"
    r"(?:provide|give|offer) (?:a |an |any |the |you )?(?:score|rating|grade|evaluation|assessment|judg\w+|answer|opinion)|"
    r"(?:see|view|access|open|display) (?:the |this |these |any |either |your )?(?:image|picture|photo)s?\s*(?:[.,;!]|$))"
)
_PATTERNS = (
    rf"(?:(?:i['’]m|i am) (?:very |so |really )?sorry|sorry|my apologies|apologies|i apologi[sz]e)\b[^.!?{{\[]{{0,80}}?"
    rf"{_CANNOT}\s+(?:to )?{_WORK}",
    rf"(?:unfortunately,? )?i\s?{_CANNOT} (?:to )?{_WORK}",
    r"as an ai(?: language)?(?: model| assistant)?,? i (?:can(?:not|['’]t)|am not|do not|don['’]t|must)\b",
    r"(?:(?:非常|很)?抱歉|对不起)[,，。]?\s*(?:我)?(?:无法|不能)",
    r"我(?:无法|不能)(?:提供|协助|帮助|评价|评估|判断|评分|打分)",
)
_REFUSAL = re.compile(rf"[\s\"'“*]*(?:{'|'.join(_PATTERNS)})", re.IGNORECASE)


def is_refusal(text: str) -> bool:
    """True when the text begins by saying that it will not or cannot judge. A report such as `I cannot see the cat any more` is none."""
    return _REFUSAL.match(text) is not None
