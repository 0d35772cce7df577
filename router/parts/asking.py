"""Whether a piece of text asks or instructs, by its first words and its marks."""

from __future__ import annotations

import re

from triton_router.dialects.request import names

_FIRST = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
# Verbs whose object is a text: what that text is about does not say what is asked for.
_ON_TEXT = names(
    """translate summarise summarize proofread rewrite rephrase paraphrase shorten condense edit correct polish reformat
    format classify extract transcribe spellcheck outline reword simplify punctuate übersetze übersetz fasse korrigiere
    traduis traduisez résume résumez corrige traduce traducir resume resumir traduci riassumi traduza resuma переведи
    переведите сократи"""
)
ORDERS = _ON_TEXT | names(
    """explain describe write give tell list show compare analyse analyze calculate compute find solve prove derive
    evaluate discuss define create make generate design implement fix debug review refactor improve convert help please
    suppose assume consider suggest recommend draft plan identify name state determine estimate answer given think
    continue add remove change replace check optimise optimize let provide complete erkläre schreibe nenne bitte
    explique explica expliquez écris escribe dime spiega scrivi escreva объясни напиши"""
)
ASKING = ORDERS | names(
    """what why how who whom whose when where which can could would will should shall do does did is are was were am
    may might has have based using read let's i was warum wie wer wann wo welche welcher kannst können que qué
    pourquoi por cómo comment quand cuándo quién qui où dónde cosa perché come quando chi porque quem что почему как кто
    когда где"""
)
_ASKING_CJK = re.compile(
    r"[?？]|^(?:请|請|帮|幫|什么|什麼|为什么|為什麼|怎么|怎麼|如何|谁|誰|哪|解释|翻译|总结|写|给|列出|比较|计算|证明|分析)"
    r"|(?:吗|呢|嗎|ですか|ますか|か。|ください|주세요|까요|나요)[。.!]?$"
)

_TEXTS = (
    r"(?:text|article|sentence|e-?mail|review|code|document|dialogue|stor(?:y|ie)|paper|report|conversation|poem|lyric"
    r"|speech|description|letter|snippet|scenario|abstract|post|fact)s?"
)
_DATA = r"(?:information|data|message|source|table|list|note|content|context|reference|input|graph|chart|map|image)s?"
# For text in small letters with a space in front: the engine finds what stands before a word faster than its edge.
_POINTING = re.compile(
    rf"\W(?:(?:this|these|that|my|(?:the )?(?:given|provided|attached|reference))(?: [\w-]+)? (?:{_TEXTS}|{_DATA})\b"
    rf"|(?:{_TEXTS}|{_DATA}|statements?) (?:above|below|provided|given)\b"
    rf"|(?:the|your)(?: (?!of\b)[\w-]+)? {_TEXTS}\b"
    r"|(?:passage|excerpt|quotation|extract|paragraph)s?\b|(?:described|mentioned|shown|listed) (?:above|below)\b"
    r"|the (?:above|given|provided)\b|given (?:a|an|the|to|by|below|above)\b"
    r"|(?<!of the )following\b(?![^.?!]{0,60}: \S)"
    r"|(?:this|these|those) \w+[.:]?$)"
)


def asks(text: str) -> bool:
    """Whether ``text`` has a question mark at an end of a sentence, or begins with a word that asks or instructs."""
    return asks_clearly(text) or begins_asking(text)


def asks_clearly(text: str) -> bool:
    """Whether ``text`` has a question mark at an end of a sentence, or asks in a language without such words."""
    stripped = text.strip()
    if not stripped.isascii() and _ASKING_CJK.search(stripped[:600]):
        return True
    return "?" in stripped and (stripped.endswith("?") or "? " in stripped or "?\n" in stripped)


def begins_asking(text: str) -> bool:
    """Whether the first word of ``text`` asks or instructs."""
    first = _FIRST.search(text[:80])
    # "i)" is a number
    return first is not None and first[0].casefold() in ASKING and text[first.end() : first.end() + 1] != ")"


def works_on_text(text: str) -> bool:
    """Whether ``text`` instructs to do something to a text."""
    words = [word.casefold() for word in _FIRST.findall(text[:200])[:8]]
    return any(word in _ON_TEXT for word in words) or text.lstrip().startswith(
        ("翻译", "请翻译", "总结", "请总结", "润色")
    )


def points_at_text(text: str) -> bool:
    """Whether ``text`` speaks of a text that stands next to it."""
    return _POINTING.search(f" {text.casefold()}") is not None
