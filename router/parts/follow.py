"""Turns that say nothing by themselves: confirmations, corrections, "why?", "now make it stable".

By closed classes of words only: what a language says with pronouns, conjunctions and the like, and how people talk
about an answer (shorter, an example, step two). No list of subjects is needed, and none could be complete.
"""

from __future__ import annotations

import re
from itertools import dropwhile

from triton_router.dialects.request import names

# A longer turn says something by itself, whatever words it begins with.
LONGEST, MOST_WORDS = 160, 14
LONGEST_CJK = 20
# So many words of its own has a turn that begins like the continuation of another, one that points back, and one that
# shares words with what was said before it.
GOING_ON, POINTING_BACK, SHARING = 3, 2, 4
# Shorter words say little, wherever they come again.
SHARED = 4

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W\d_]+)?")
_SENTENCE = re.compile(r"[.!?]\s+")
_FORMULA = re.compile(r"[=^%*/+\u221a\u222b]|\d[^\w.,]+\d")
# Here the word stands for nothing.
_EXPLETIVE = re.compile(
    r"\b(?:time|day|date) is it\b|\bit (?:mean|like|feel) to\b|\bis it (?:\w+ ){0,3}(?:to|that)\b|\bit takes? to\b"
    r"|\beach other\b|\bone another\b"
)
_CONDITIONS = (["what", "about"], ["how", "about"], ["what", "if"])
_CJK = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")


# Point back at something.
_BACK = names(
    """it its it's that that's those these this they them their theirs he him his she her hers itself same other others
    former latter previous above earlier before instead dies diese dieses dieser davon damit dafür daran daraus dazu
    darauf darüber dabei ihn ihm ihr ihnen ça cela celui celle ceux lui leur eso esa esto esta este ello questo
    quello ciò isso
    isto ele ela это этот эта то его её их hier"""
)
# Begin a turn that goes on from the last.
_GOING_ON = names(
    """y e и а and but or so then now also ok okay yes yeah yep sure no nope not wait hmm hm well right correct wrong
    actually plus except only just again next because still even too great good perfect nice thanks thank cool
    alright und aber oder dann jetzt nun ja nein doch gut danke noch et mais ou alors maintenant oui non donc merci
    encore pero entonces ahora sí si gracias ma allora adesso grazie mas então agora sim não но или тогда теперь да
    нет спасибо ещё evet hayır ve peki şimdi why's nah lol haha sounds ah oh don't avoid wow vale"""
)
# Orders to change an answer.
_CHANGE = names("add remove include drop skip use keep put turn apply replace leave fix try")
# Fragments: what an answer should be changed in, for, or with.
_FRAGMENT = names(
    """in with without for as using to from like at by on under over per mit ohne für als auf zu bei avec sans pour
    comme sur con sin para por como sem com senza per в на с без для"""
)
_GRAMMAR = names(
    """last a an the of off up down out about into than i i'm me my mine you your yours we us our who what what's which
    how when where whom whose is isn't are aren't was wasn't were be been being am do does don't did didn't doesn't
    done have has had can can't could couldn't will won't would wouldn't should shall may might must there here any
    some all both each every more most less least much many few one ones two three first second third very really
    quite please if while let let's get got go going want need know think mean means meant say said see try use used
    der die den dem des ein eine einen einem kein keine nicht ich du mir mich wie wer wo wann ist sind war kann
    kannst mach machen mehr weniger bitte un une je tu moi il elle nous vous est sont peux peut fais faire plus moins
    que qui quoi comment una el de del al yo te se es son puedes puede haz hacer más menos qué cómo cuál uno gli di
    che non è sono puoi fai fare più meno cosa como o os as um uma mais fazer faça é я ты мне что как кто где когда
    until till while during come comes back down often always never usually ever through slowly quickly day days
    old isn't geht gehen immer nie schlecht gut oft simplement
    todavía siempre sempre toujours souvent
    не ли можно можешь сделай больше меньше пожалуйста why warum wieso pourquoi perché почему neden le la les lo en y
    los las das e и а take takes took dame welche welcher welches geht gibt besides also sie c'est s'il plaît four five
    six seven eight nine ten otra vez pas ne так это already schon déjà ya still"""
)
# Talk about an answer and its form.
_ANSWER = names(
    """make made give show tell explain elaborate expand continue proceed go stop repeat redo retry rewrite rephrase
    change fix improve simplify shorten try again answer answers response reply question example examples instance
    detail details detailed step steps part parts point points bullet bullets list table line lines word words
    sentence paragraph paragraphs summary version option options way ways reason reasons source sources proof link
    thing things case cases difference simple simpler simply short shorter long longer brief briefly formal casual
    concise clear clearer easy easier better worse fast faster slow slower stable big bigger small smaller different
    differently exactly sense sure true false right wrong correct incorrect mistake error work works working finish
    finished end start begin possible impossible enough kind sort number numbers result results idea lost understand
    understood follow got confused unclear wondering happens happen happened next rest whole full half beispiel
    beispiele kürzer länger einfacher genauer ausführlicher bisschen
    erklär erkläre weiter nochmal anders falsch richtig exemple exemples
    court longue explique encore ejemplo ejemplos corto largo sencillo continúa sigue explica esempio esempi breve
    continua spiega exemplo exemplos curto пример примеры короче проще подробнее дальше продолжай объясни everywhere
    anywhere draw diagram chart graph sketch picture walk everyday exception exceptions deeper higher lower
    important common wirklich really funny funnier cheaper approach method methods general check checks
    double verify comment comments precise exact add remove include asked asking said put apply antwort antworten
    différence vitesse despacio rápido lento respuesta réponse format formula logic code output input bedeutet
    bedeuten heißt vereinfachen reformuler reformule explicarlo explicar mejor mieux détails detalhes names tone"""
)
# A turn that begins with these says how an answer should be, or what the person has to do with it.
_STARTING = names(
    """i i'm i've my mine we we're our ours there is are do does did can could will would isn't aren't doesn't don't
    shorter longer simpler easier cheaper better more less go give show ich mir wir ist sind geht kann kannst je tu
    est sont explique explica es son puedes"""
)
_ASKING_ALONE = names("why how when where warum wieso wie pourquoi comment cómo perché")
_SHAPING = names("shorter longer simpler easier cheaper better more less lighter")
_ACKNOWLEDGED = re.compile(
    r"(?:(?:ok|okay|alright|thanks|thank you|great|perfect|cool|nice|danke|merci|gracias|grazie)\b[,.!\s]*)+(?=\w)",
    re.IGNORECASE,
)
# With one word of its own a turn that has one of these speaks of an answer: "could you be more precise?".
_AGAIN = names("you your more less too instead if")
# A whole question behind these has a subject of its own.
_OPENINGS = names("and now ok okay alright well thanks thank great perfect cool also und et y e")
_QUESTION = names(
    "what why how who whom whose when where which is are does do did can could was wie was warum wer wo wann"
)
_EXPLAINING = names("explain define describe translate summarize summarise erkläre explique explica spiega")
_POSSESSIVE = names("mine yours already meins schon déjà ya")
# Words of any subject, which do not tie two turns to each other.
_ANY_SUBJECT = names(
    """about after also always another around because best better call called cause causes come comes cost could day
    days different doing effect effects ever every everything example find form general given good great happen have
    help high important kind know large like long look made make makes making many matter mean means might more most
    much name need needs needed never new number often only other people person place possible price problem question
    reason same should show simple small some someone something still stuff take tell than thing things think through
    time times today type types under until usually very want well what when where which while whole with without word
    words work works working world would write year years your following likely describe describes described statement
    statements information according correct between another however therefore whether against provide provides
    provided including several currently company service customer customers"""
)
_ASKING_WHAT = names("what who where when which define was qué que qu'est")
_NOTHING = _GRAMMAR | _GOING_ON | _ANSWER | _BACK | _FRAGMENT
# For text in small letters with a space in front, as the engine finds what stands before a word faster than its edge.
_OTHER_SUBJECT = re.compile(
    r"\W(?:(?:new|different|another|unrelated|other|separate)\s+(?:topic|subject|question|thing|matter|note)|unrelated"
    r"|something (?:else|different|about)|(?:chang|switch)(?:e|ing) (?:of )?(?:the )?(?:topics?|subjects?|gears)"
    r"|by the way|btw|andere[rs]? (?:frage|thema)|übrigens|autre (?:question|sujet)|au fait"
    r"|otr[ao] (?:pregunta|tema|cosa)|cambiando de tema|другой вопрос|кстати)\b"
)
_OTHER_SUBJECT_CJK = re.compile(r"换个?(?:话题|问题)|另(?:一个|外一个)?问题|顺便(?:问|说)|話題を変え|別の質問|ところで")
_CJK_BACK = re.compile(
    r"它|这(?!么)|那(?!么)|他|她|其中|上面|前面|刚才|刚刚|之前|第[一二三四五六七八九十\d]+(?:个|步|点|行|段)?|这样|这里|那里"
    r"|それ|これ|あれ|その|この|さっき|그것|그거|이것|그럼"
)
_CJK_GOING_ON = re.compile(
    r"^(?:好|行|可以|嗯|对|是|不|没|错|谢|继续|再|还|然后|那|但|而且|所以|现在|(?:为什么|为何|为啥)(?!.{8})|怎么会|真的|换成|改成|改"
    r"|用|换|太|有没有|能用|可以用|能不能|能?(?:再)?(?:详细|具体|简单|简短)|请?(?:继续|再|详细|具体|简单|简短|举)|如果|除了|更|也|只|能不能|可以再|はい|いいえ|なぜ|どうして|もっと|もう|続けて"
    r"|ありがとう|네|아니|왜|계속|더)"
)
_CJK_HOW = re.compile(r"^(?:怎么|如何|多少|多久|哪|在哪|谁)")
_CJK_NEW = re.compile(r"什么是|是什么|谁是|是谁|介绍|解释一下|计算|求|证明|翻译|写一|哪一?年|とは|について|무엇")


def elliptical(text: str) -> bool:
    """Whether a turn says what it is about only together with those before it."""
    text = text.strip()
    if not text or len(text) > LONGEST:
        return not text
    goes_on = _elliptical_cjk if _is_cjk(text) else _goes_on
    return goes_on(text) and not _changes_subject(text)


def shares_words(text: str, before: str) -> bool:
    """Whether a short turn speaks of something that ``before``, the turns just before it, speak of."""
    if len(text) > LONGEST or _is_cjk(text):
        return False
    words = _words(text)
    if len(words) > MOST_WORDS:
        return False
    own = _telling(words)
    if not 0 < len(own) <= SHARING:
        return False
    before = before.casefold()
    shared = any(len(word) >= SHARED and word not in _ANY_SUBJECT and _stem(word) in before for word in own)
    return shared and text.casefold() not in before and not _changes_subject(text)  # not asked again


def _stem(word: str) -> str:
    """``word`` without what plurals and cases add; it is looked for at any place of a word."""
    ending = 2 if word.endswith(("es", "en", "ed")) else 1 if word.endswith(("s", "e")) else 0
    return word[: max(SHARED, len(word) - ending)]


def _goes_on(text: str) -> bool:
    words = _words(text)
    if not words or len(words) > MOST_WORDS:
        return not words and not _FORMULA.search(text)
    own = _own(text, words)
    if own == 0:
        return True
    if (thanks := _ACKNOWLEDGED.match(text)) and words[0] not in _words(rest := text[thanks.end() :])[:1]:
        return _goes_on(rest)
    if own == 1 and words[0] in _STARTING and len(words) > 2 and not _EXPLETIVE.search(text.casefold()):
        return True
    if own <= GOING_ON and (words[0] in _SHAPING or (words[-1] in _ASKING_ALONE and len(words) > 1)):
        return True
    if own == 1 and "the" in words[1:3] and len(words) <= 4 and text.split()[-1][0].islower():
        return True  # "what's the intercept"
    if own > 1 and words[0] in _OPENINGS and _asks_anew(words):
        return False
    if words[0] in ("it", "they", "he", "she") and own <= GOING_ON and len(words) <= 8:
        return True
    if own <= GOING_ON and (_POSSESSIVE.intersection(words) or "one" in (words[-1], *words[1:2])):
        return True
    if words[0] in _GOING_ON or words[:2] in _CONDITIONS or (words[-1] == "then" and len(words) > 1):
        return own <= GOING_ON
    first, *others = _SENTENCE.split(text)
    if others and _own(first, _words(first)) and not elliptical(first):
        return False  # it points back at its own beginning
    back = any(word in _BACK for word in words) and not _EXPLETIVE.search(text.casefold())
    if back or (words[0] == "which" and _says_nothing(words[1])):
        return own <= POINTING_BACK
    if words[0] == "the" and not text.endswith("?"):
        return own <= GOING_ON and len(words) <= 8
    if words[0] in ("make", *_CHANGE) and words[1:2] in (["the"], ["your"]):
        return own <= GOING_ON
    if own == 1 and (words[0] in _CHANGE or (_AGAIN.intersection(words) and words[0] not in _ASKING_WHAT)):
        return True
    if words[0] in _FRAGMENT:
        return own <= GOING_ON and len(words) <= 8
    if own > 1 or text.endswith("?") or words[0] in _EXPLAINING:
        return False
    return len(words) <= 2 or (len(words) <= 4 and not _ANSWER.isdisjoint(words))


def _asks_anew(words: list[str]) -> bool:
    """Whether a whole question stands behind words such as "thanks" or "and", and points at nothing."""
    rest = list(dropwhile(_OPENINGS.__contains__, words))
    asks = rest[:1] and (rest[0] in _QUESTION or rest[0] in _EXPLAINING)
    return bool(asks) and len(rest) > 2 and rest[1] not in _FRAGMENT and _BACK.isdisjoint(rest)


def says_nothing(text: str) -> bool:
    """Whether a turn adds nothing to those before it: "yes", "why?", "go on"."""
    text = text.strip()
    if len(text) > LONGEST:
        return False
    if _is_cjk(text):
        return len(text) <= 6 and elliptical(text)
    return all(map(_says_nothing, _words(text))) and not _FORMULA.search(text)


def adds(text: str) -> bool:
    """Whether a turn that goes on from others says enough to change what they are about."""
    if _is_cjk(text):
        return len(text) > LONGEST_CJK
    return len(text) > LONGEST or _own(text, _words(text)) > POINTING_BACK


def _is_cjk(text: str) -> bool:
    return not text.isascii() and len(_CJK.findall(text)) * 2 > len(text.replace(" ", ""))


def _changes_subject(text: str) -> bool:
    if not text.isascii() and _OTHER_SUBJECT_CJK.search(text):
        return True
    return _OTHER_SUBJECT.search(f" {text.casefold()}") is not None


def _words(text: str) -> list[str]:
    if text.isascii():
        return _WORD.findall(text.lower())
    return [word.casefold().replace("\u2019", "'") for word in _WORD.findall(text)]


def _own(text: str, words: list[str]) -> int:
    """The number of words that say something by themselves; a formula counts as two."""
    return len(_telling(words)) + 2 * bool(_FORMULA.search(text))


def _telling(words: list[str]) -> list[str]:
    """The words that say something by themselves."""
    return [word for word in words if word not in _NOTHING and len(word) > 1 and not word[0].isdecimal()]


def _says_nothing(word: str) -> bool:
    return word in _NOTHING or len(word) == 1 or word[0].isdecimal()


def _elliptical_cjk(text: str) -> bool:
    if _CJK_NEW.search(text) and not _CJK_BACK.match(text):
        return False
    if len(text) <= 2 or (len(text) <= 5 and _CJK_HOW.search(text)):
        return True
    if _CJK_GOING_ON.search(text):
        return len(text) <= LONGEST_CJK
    return (bool(_CJK_BACK.search(text)) and len(text) <= LONGEST_CJK) or (
        text.rstrip("?？").endswith("呢") and len(text) <= 16
    )
