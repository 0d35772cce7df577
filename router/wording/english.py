"""English as the guard reads it: which words are grammar, which wordings ask the same, which words set questions apart.

Plain tables, written for this project. A line of a table of phrases is `wording, wording > what it becomes`; the words
of a phrase are already in their common form (`is` is `be`, articles are gone). Words that begin with `?` are kinds of
question, with `~` moods and tenses.
"""

from __future__ import annotations

import re
import sys

from triton_router.wording import near, synonyms


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(text: str) -> dict[str, str]:
    """`one other > common` by line, each of the words before the sign becoming the one behind it."""
    lines = (line.split(">") for line in text.strip().splitlines())
    return {word: common.strip() for words, common in lines for word in words.split()}


class Phrases:
    """Wordings, and what they become."""

    def __init__(self, text: str) -> None:
        """``text``: `one wording, other wording > what it becomes` by line; `*` is each person that means anybody."""
        self._known: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._lengths: dict[str, list[int]] = {}
        for line in text.strip().splitlines():
            wordings, _, text_of_common = line.partition(">")
            # The same few words stand in thousands of phrases: one string each saves 8 MiB.
            becomes = tuple(map(sys.intern, text_of_common.split()))
            for wording in wordings.split(","):
                for person in ("i", "we", "one") if "*" in wording else ("",):
                    words = tuple(sys.intern(common(word)) for word in wording.replace("*", person).split())
                    self._known.setdefault(words, becomes)
        for words in sorted(self._known, key=len, reverse=True):
            lengths = self._lengths.setdefault(words[0], [])
            if len(words) not in lengths:
                lengths.append(len(words))

    def at(self, words: list[str], place: int) -> tuple[int, list[str]] | None:
        """How many words the longest phrase that begins at ``place`` has, and what it becomes."""
        for length in self._lengths.get(words[place], ()):
            becomes = self._known.get(tuple(words[place : place + length]))
            if becomes is not None:
                return length, list(becomes)
        return None


# --- telling English from other languages ----------------------------------------------------------------------------

MARKS_OF_ENGLISH = _words(
    """
    the a an in on at by as be not what which how why who whom where when is are was were does did do can could
    should would will have has had
    this that these those my your of for with and or from to explain tell write give list make show find best if it i
    plan name you between about into all any some no only than more most me one
    """
)
MARKS_OF_OTHERS = _words(
    """
    der die das und ist nicht ein eine einen dem den wie warum ich wir sie mit von auf für zu im el la los las una
    que qué por para con cómo como es son un unos le les des du de est sont une dans pour avec pas ne je vous nous
    comment pourquoi quel quelle quels il lo gli di che non per sono della del come perché não uma os dos em são het
    een van niet hoe wat waarom voor ik mijn jak co nie jest czy się na w z je bir ve bu için değil ne hur och
    att är inte det som hvad hvordan hvor hvorfor og er jeg på til av med apa yang untuk dan bagaimana saya ce este cum
    pentru și mi hogy egy és nem mikä miten ja ei là gì của ang ng sa ni ya kako je da li što koji qual quais cual
    cuál cuáles was im kann ich wer wo wann welche welcher kein keine ohne sind wird werden hat haben bei nach aus
    """
)

# --- words in their common form --------------------------------------------------------------------------------------

CONTRACTIONS = _table(
    """
    dont > don't
    doesnt > doesn't
    didnt > didn't
    cant cannot > can't
    isnt > isn't
    arent > aren't
    wont > won't
    wasnt > wasn't
    werent > weren't
    havent > haven't
    hasnt > hasn't
    shouldnt > shouldn't
    whats > what's
    thats > that's
    im > i'm
    ive > i've
    """
)
# A word before `'s` after which it is short for "is"; elsewhere it is a possessive.
SHORT_IS = _words("it that what who where how when why there here he she everything something this")
ENDINGS = {"re": "be", "m": "be", "ll": "will", "ve": "have", "d": "would"}

COMMON = _table(
    """
    is are am been being was were > be
    does did > do
    has had having > have
    could > can
    shall ought > should
    might > may
    an the > a
    whom whoever > who
    me > i
    us > we
    yourself yourselves > your
    myself mine > my
    ourselves ours > our
    everybody > everyone
    somebody > someone
    anybody > anyone
    noone > nobody
    frequently > often
    normally generally > usually
    nearly > almost
    just merely solely > only
    entire > whole
    larger > bigger
    largest > biggest
    nearest > closest
    farther > further
    farthest > furthest
    children > child
    people persons > people
    men > man
    women > woman
    feet > foot
    teeth > tooth
    mice > mouse
    lives > life
    bacteria > bacterium
    criteria > criterion
    phenomena > phenomenon
    fungi > fungus
    cacti > cactus
    nuclei > nucleus
    wolves > wolf
    knives > knife
    wives > wife
    shelves > shelf
    loaves > loaf
    thieves > thief
    geese > goose
    autumnal > autumn
    till > until
    upon onto > on
    into > to
    within during > in
    toward towards > to
    versus v > vs
    okay alright > ok
    & > and
    colour > color
    favourite > favorite
    flavour > flavor
    neighbour > neighbor
    behaviour > behavior
    labour > labor
    honour > honor
    humour > humor
    centre > center
    theatre > theater
    metre > meter
    litre > liter
    fibre > fiber
    kilometre > kilometer
    centimetre > centimeter
    millimetre > millimeter
    millilitre > milliliter
    kilogramme > kilogram
    gramme > gram
    tyre > tire
    mt > mount
    grey > gray
    catalogue > catalog
    dialogue > dialog
    programme > program
    organise > organize
    summarise > summarize
    analyse > analyze
    recognise > recognize
    realise > realize
    optimise > optimize
    apologise > apologize
    customise > customize
    oneself > my
    minimise > minimize
    maximise > maximize
    memorise > memorize
    prioritise > prioritize
    practise > practice
    defence > defense
    licence > license
    travelling > traveling
    cancelled > canceled
    cancelling > canceling
    learnt > learned
    aluminium > aluminum
    cheque > check
    pyjamas > pajamas
    cosy > cozy
    jewellery > jewelry
    maths > math
    usa > us-country
    uk > uk-country
    """
)
PAST_AUXILIARIES = _words("was were did had")
# Past and participle by verb. Left out: forms that are words of their own (found, left, saw, rose, lay, ground).
_IRREGULAR = """
    be been
    become became
    begin began begun
    break broke broken
    bring brought
    build built
    buy bought
    catch caught
    choose chose chosen
    come came
    deal dealt
    die died
    draw drew drawn
    drink drank
    drive drove driven
    eat ate eaten
    fall fell fallen
    fight fought
    fly flew flown
    forget forgot forgotten
    get got gotten
    give gave given
    go went gone
    grow grew grown
    hear heard
    hide hid hidden
    hold held
    keep kept
    know knew known
    lead led
    learn learnt
    lend lent
    lose lost
    make made
    mean meant
    meet met
    overcome overcame
    pay paid
    run ran
    say said
    seek sought
    sell sold
    send sent
    sing sang sung
    sit sat
    sleep slept
    speak spoke spoken
    spend spent
    stand stood
    steal stole stolen
    swim swam swum
    take took taken
    teach taught
    tell told
    think thought
    throw threw thrown
    understand understood
    wear wore worn
    win won
    see seen
    rise risen
    shake shook shaken
    freeze froze frozen
    tear tore torn
    blow blew blown
    ride rode ridden
    swear swore sworn
    feel felt
    feed fed
    bend bent
    bleed bled
    bite bitten
    sweep swept
    forgive forgave forgiven
    write wrote written
"""
LEMMAS = {form: verb for verb, *forms in map(str.split, _IRREGULAR.strip().splitlines()) for form in forms}
VERBS = frozenset(LEMMAS.values()) | _words("put cut set hit read found sent shut cast")
NOT_PARTICIPLES = _words(
    "bed red deed reed heed sled shred sacred need seed speed feed shed hundred breed weed embed bleed exceed proceed"
)
NOT_PLURAL = _words(
    """
    customs goods savings odds premises
    always sometimes news series species physics mathematics economics politics ethics athletics electronics gas
    perhaps besides towards windows this lens mars texas bias atlas christmas kansas
    """
)
NOT_SUPERLATIVES = _words("forest harvest honest interest request protest modest arrest invest suggest digest contest")
NOT_GERUNDS = _words(
    """
    thing king ring spring string morning evening during ceiling wedding building meaning sting wing sling nothing
    something anything everything being sibling pudding
    """
)


# British spelling in the American one. Applied to whatever ends so, which is no harm: both questions are read alike.
SPELLINGS = (
    (re.compile(r"(?<=\w{3})is(?=(?:e|es|ed|ing|er|ers|ation|ations)$)"), "iz"),
    (re.compile(r"(?<=\w\w)our(?=(?:s|ed|ing|ful|ite|able|al|ly)?$)"), "or"),
    (re.compile(r"(?<=an)aem|(?<=h)aem|(?<=uk)aem"), "em"),
    (re.compile(r"^(?:p)aed"), "ped"),
    (re.compile(r"^oe(?=st|d|so)"), "e"),
    (re.compile(r"rrhoea"), "rrhea"),
    (re.compile(r"^foet"), "fet"),
)
_VOWEL = re.compile("[aeiouy\u00e0-\u024f]")
_EXCHANGES = dict(synonyms.exchanges(LEMMAS))


def _spelled(word: str) -> str:
    for expression, replacement in SPELLINGS:
        word = expression.sub(replacement, word)
    return word


# One word for another; phrases among them are read later, with the other ones.
EXCHANGES = {
    _spelled(word): _spelled(becomes)
    for word, becomes in _EXCHANGES.items()
    if " " not in word + becomes and _spelled(word) != _spelled(becomes)
}


def common(word: str) -> str:
    """The common form of one lower-case word: spelling, auxiliaries, irregular verbs, singular."""
    word = _spelled(word)
    word = EXCHANGES.get(word) or EXCHANGES.get(singular(word), word)
    for form in (word, singular(word)):
        if form in COMMON:
            return singular(COMMON[form])
        if form in LEMMAS:
            return LEMMAS[form]
    return singular(word)


def singular(word: str) -> str:
    """``word`` without the s of the plural or of a verb; two words become one only if they differ in that."""
    if len(word) > 4 and word.endswith("ie"):
        # As "movies" becomes "movy".
        return word[:-2] + "y"
    if (
        len(word) < 4
        or not word.endswith("s")
        or word in NOT_PLURAL
        or word.endswith(("ss", "us", "is"))
        or not _VOWEL.search(word[:-1])
    ):
        return word
    if word.endswith("ies"):
        return word[:-3] + "y"
    if word.endswith("oes") and word not in ("shoes", "toes", "canoes"):
        return word[:-2]
    if word.endswith(("ches", "shes", "sses", "xes", "zzes")):
        return word[:-2]
    return word[:-1]


def gerund(form: str) -> bool:
    return len(form) > 4 and form.endswith("ing") and form not in NOT_GERUNDS


def agent(form: str) -> bool:
    """Whether what follows "by" can be the one who does it."""
    return not (gerund(form) or form.startswith("#") or form in DATES)


def superlative(form: str) -> bool:
    return form in ("best", "worst") or (len(form) > 5 and form.endswith("est") and form not in NOT_SUPERLATIVES)


def grammatical(word: str) -> bool:
    """Whether a lower-case word can be dropped or become another."""
    form = common(word)
    return form in SILENT or form in FILLERS or form in MOODS or word in MARKS_OF_ENGLISH or form != singular(word)


def participle(form: str) -> bool:
    """Whether a common form can be that of a past participle."""
    return form in VERBS or (len(form) > 3 and form.endswith("ed") and form not in NOT_PARTICIPLES)


# --- numbers, units, dates -------------------------------------------------------------------------------------------

_SMALL = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen
    eighteen nineteen
""".split()  # noqa: SIM905
TENS = {
    word: number * 10
    for number, word in enumerate("twenty thirty forty fifty sixty seventy eighty ninety".split(), 2)  # noqa: SIM905
}
SMALL = {word: number for number, word in enumerate(_SMALL)}
POWERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9}
_ORDINALS = """
    zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth
    fifteenth sixteenth seventeenth eighteenth nineteenth twentieth
""".split()  # noqa: SIM905
ORDINALS = {word: number for number, word in enumerate(_ORDINALS)}

MONTHS = _words(
    """
    january february march april may june july august september october november december
    """
)
SHORT_MONTHS = _table(
    """
    jan > january
    feb > february
    mar > march
    apr > april
    jun > june
    jul > july
    aug > august
    sep sept > september
    oct > october
    nov > november
    dec > december
    """
)
DATES = MONTHS | _words(
    """
    monday tuesday wednesday thursday friday saturday sunday today tomorrow yesterday tonight morning evening noon
    midnight afternoon night week weekend month year decade century spring summer autumn winter now am pm ad bc
    quarter season easter christmas ago
    """
)
# What follows "in", "this" or a number where "may" is a month.
BEFORE_MONTH = _words("in of on by since until this next last from to for before after every late early mid")

# Short and long forms of units; the short ones count only after a number or another unit.
UNITS = _table(
    """
    kg kilo kilos kilogram > kilogram
    g gr gram > gram
    mg milligram > milligram
    lb lbs pound > pound
    oz ounce > ounce
    t ton tonne > ton
    km kilometer > kilometer
    m meter > meter
    cm centimeter > centimeter
    mm millimeter > millimeter
    mi mile > mile
    ft foot > foot
    inch > inch
    yd yard > yard
    l liter > liter
    ml milliliter > milliliter
    gal gallon > gallon
    tsp teaspoon > teaspoon
    tbsp tablespoon > tablespoon
    c celsius centigrade > celsius
    f fahrenheit > fahrenheit
    k kelvin > k
    ° degree > degree
    w watt > watt
    kw kilowatt > kilowatt
    kwh > kilowatt-hour
    mwh > megawatt-hour
    v volt > volt
    kv kilovolt > kilovolt
    amp ampere > ampere
    db decibel > decibel
    hz hertz > hertz
    khz kilohertz > kilohertz
    mhz megahertz > megahertz
    ghz gigahertz > gigahertz
    s sec second > second
    ms millisecond > millisecond
    min minute > minute
    h hr hrs hour > hour
    kb kilobyte > kilobyte
    mb megabyte > megabyte
    gb gigabyte > gigabyte
    tb terabyte > terabyte
    mbps > megabit per-second
    gbps > gigabit per-second
    kmh kph > kilometer per-hour
    mph > mile per-hour
    $ usd dollar buck > dollar
    € eur euro > euro
    £ gbp > pound-sterling
    ¥ jpy yen > yen
    % percent > percent
    yr yrs year > year
    """
)
# Before a number: more or less than it.
BOUNDS = {"over": "more", "above": "more", "under": "less", "below": "less"}
PERIODS = _words("minute hour day night week month year")
# Where the case of a letter tells units apart, as it is written.
CASED_UNITS = {
    "Mb": "megabit", "Gb": "gigabit", "Kb": "kilobit", "kb": "kilobit", "Tb": "terabit", "Mbit": "megabit",
    "Gbit": "gigabit", "MBps": "megabyte per-second", "GBps": "gigabyte per-second", "mW": "milliwatt",
    "MW": "megawatt", "MHz": "megahertz", "mHz": "millihertz", "mA": "milliampere", "MA": "megaampere",
    "Mg": "megagram", "Pa": "pascal", "mm": "millimeter", "Mm": "megameter", "ms": "millisecond", "Ms": "megasecond",
    "mL": "milliliter", "ML": "megaliter", "mV": "millivolt", "MV": "megavolt", "mC": "millicoulomb",
    "Cal": "kilocalorie", "mM": "millimolar", "nm": "nanometer", "NM": "nautical-mile", "nM": "nanomolar",
}  # fmt: skip
UNIT_WORDS = (
    _words(" ".join(UNITS.values()))
    | _words(" ".join(CASED_UNITS.values()))
    | _words(
        """
        kilogram gram cup glass bottle pint acre hectare psi bar knot cent point calorie joule degree day yuan rupee
        franc byte bit second minute hour dollar euro per slice dozen megabyte
        """
    )
)

# --- wordings that ask the same --------------------------------------------------------------------------------------


def token(phrase: str) -> str:
    """The one word that a phrase of `triton_router.wording.near` is read as."""
    return "-".join(map(common, phrase.split()))


_NEAR_GROUPS = [group for text in (near.VERBS, near.NOUNS, near.ADJECTIVES, near.OTHERS) for group in near.groups(text)]
_PHRASES = {member for members, _ in _NEAR_GROUPS for member in members if " " in member} | {
    group[0]
    for group in synonyms.groups(synonyms.VERBS)
    if group[0].count(" ") == 1 and group[0].split()[1] in ("off", "on", "out", "up", "down", "away", "back", "over")
}
_TOKENS = {" ".join(map(common, phrase.split())): token(phrase) for phrase in _PHRASES}


def _becomes(phrase: str) -> str:
    """``phrase`` in its common form, as one word if it is one of `triton_router.wording.near`."""
    form = " ".join(map(common, phrase.split()))
    return _TOKENS.get(form, form)


_EXCHANGED = "\n".join(
    f"{wording} > {_becomes(becomes)}".replace("'s", " 's")
    for wording, becomes in _EXCHANGES.items()
    if " " in wording + becomes
)
_JOINED = "\n".join(f"{phrase} > {word}".replace("'s", " 's") for phrase, word in _TOKENS.items())
# Anywhere in a sentence.
PHRASES = Phrases(
    """
    a lot of, lots of, plenty of, a great many, a large number of > many
    a few > several-few
    a little > a-little
    a bit > a-little
    no one > nobody
    all of, all a > all
    both of > both
    each of > each
    any of > any
    every one of > every
    some of > some
    most of > most
    any good > good
    any better > better
    majority of > most
    a majority of > most
    half of, #1 half of, #1 half > half
    no longer, not any longer, not any more, not anymore > no-longer
    more than, greater than > more than
    at least > at-least
    at most > at-most
    no more than > at-most
    no less than > at-least
    as well as > and
    as well > also
    have got > have
    able to > can
    be allowed to, be permitted to > can
    have to, need to, be required to, have got to > must
    be going to > will
    in order to, so as to > to
    in front of > in-front-of
    north of, to north of, to a north of > north-of
    south of, to south of, to a south of > south-of
    east of, to east of, to a east of > east-of
    west of, to west of, to a west of > west-of
    this fall > this autumn
    next fall > next autumn
    last fall > last autumn
    united states of america > us-country
    united states > us-country
    united kingdom > uk-country
    in a fall > in autumn
    in fall > in autumn
    new york > new-york
    what will happen, what would happen > what happen
    due to, because of, owing to > because-of
    with regard to, in regard to, regarding, concerning > about
    per cent > percent
    with no > without
    go to a doctor, go see a doctor, go to see a doctor, visit a doctor, consult a doctor > see a doctor
    fit into > fit in
    that say, that say that, saying that, which say that > that
    more than half > more than half
    over half > more than half
    mount everest, mt everest > everest
    mount kilimanjaro, mt kilimanjaro > kilimanjaro
    mount fuji, mt fuji > fuji
    capital city > capital
    right now > currently
    """
    + _EXCHANGED
    + "\n"
    + _JOINED
)
# Where a sentence begins, over and over until none fits.
POLITE = Phrases(
    """
    please >
    hi >
    hello >
    hey >
    hi there, hello there, hey there >
    good morning, good afternoon, good evening >
    thanks, thank you, thank you very much, many thanks, thanks in advance, cheers >
    i have a question, i have a quick question, a quick question, quick question >
    i would like to know, i want to know, i need to know, i must know, i wonder, i be wondering >
    i be curious, i be interested in knowing, i be trying to find out >
    do you know, can you tell i, can you please tell i, can you kindly tell i, will you tell i, would you tell i >
    can anyone tell i, can someone tell i, do anyone know, do someone know, does anyone know >
    would you mind telling i, do you mind telling i, will you please tell i >
    would you please tell i, please tell i, could you tell i >
    i would like you to, i want you to, i need you to >
    i would like to ask, i want to ask, may i ask, can i ask >
    can you help i understand, help i understand, help i to understand, i want to understand >
    """
)


def _ways() -> str:
    """How a way of doing something is asked for: "what are some easy ways to", "is there any way of"."""
    adjectives = (
        "", "best", "right", "correct", "proper", "good", "easy", "easiest", "effective", "most effective",
        "most efficient",
    )  # fmt: skip
    ends = ("to", "of", "for", "for * to", "* can", "that * can")
    wordings = (
        f"{start} {article} {adjective} way {end}"
        for start in ("what be", "which be", "be there", "")
        for article in ("", "a", "some", "any")
        for adjective in adjectives
        for end in ends
    )
    return f"{', '.join(wordings)} > ?howto"


# "I want to do it. How do I do that?"
WISHES = [
    ["i", *want.split(), "to"]
    for want in ("would like", "want", "need", "wish", "be try", "be trying", "be looking", "have", "must")
]
ASKED_HOW = [
    ["how", mood, person, "do", what]
    for mood in ("do", "can", "would", "should")
    for person in ("i", "you")
    for what in ("that", "this", "it", "so")
]


# Then, once, the kind of question.
FRAMES = Phrases(
    _ways()
    + """
    how do *, how can *, how should *, how would *, how may *, how to, how may * > ?howto
    how will *, how * > ?howto
    how do you, how can you, how would you > ?howto-you
    what be a step to, what be step to > ?howto
    what can * do to, what should * do to, what do * do to, what must * do to > ?howto
    what be a step for, give i a step to > ?howto
    what step should * take to, show i a step to > ?howto
    what can be done to, what should be done to, what do it take to > ?howto
    what be a procedure for, what be a procedure to, what be a process for, what be a process to > ?howto
    what be a process of, what be a key to > ?howto
    how do * go about, how should * go about, how would * go about > ?howto
    how be it possible to > ?howto
    be there anything * can do to > ?howto
    i need help with, help i with > ?helpwith
    what make, what cause > ?cause
    why be there, why there be > ?cause
    why do * get, why do * have, why be * getting > ?cause
    what be a cause of, what be cause of, what be some cause of > ?cause
    what be a main cause of, what be behind > ?cause
    what would cause, what can cause, what could cause, what may cause > ?cause
    what be a purpose of, what be a point of, what be a use of > ?what-for
    what be a function of, what be a role of > ?what-for
    what kind of, which kind of > ?which
    what be a name of > ?what
    what be a age of > ?how old
    what be a height of > ?how tall
    what be a length of > ?how long
    what be a weight of > ?how heavy
    what be a depth of > ?how deep
    what be a width of > ?how wide
    what be a size of > ?how big
    what be a speed of > ?how fast
    what be a distance between > ?how far between
    what be a population of > ?population
    what be a temperature of > ?how hot
    what be a date of > ?when
    in what way do > ?how
    by what mean be, in what way be > ?how
    how be it that, how come, why be it that, why be it, what be a reason why, what be reason why > ?why
    what be a reason that, what be a reason for, what be a reason > ?why
    how many > ?how-many
    what be a number of > ?how-many
    how much money > ?how-much
    how much do, how much > ?how-much
    what be a price of, what be a cost of > ?how-much
    how > ?how
    why > ?why
    what can * do, what should * do, what do * do, what shall * do > ?what-do
    where do you, where can you, where could you > ?where-you
    where to > ?where
    what time do > ?when
    how much time > ?how long
    what be reason to, what be a reason to > ?what reason to
    for how long > ?how long
    do you need > ?is i need
    where can *, where do *, where should * > ?where
    where > ?where
    in what year, in which year, what year > ?when
    when, at what time, on what day > ?when
    who > ?who
    what be, what be some, which be, which be some > ?what
    what be meaning of, what be a meaning of > ?meaning
    what be a meaning of a word, what be meant by > ?meaning
    do you think, do you believe, do you think that, do you believe that > ?is
    what be definition of, what be a definition of > ?what
    what be some example of, what be example of > ?what example of
    what, which, which one > ?which
    which of these, which of those, which one of these, which of a following > ?which-one
    how long would it take to, how long will it take to > ?how long take to
    what be some good, what be some great, what be some nice > ?what
    give i some good, suggest some good, recommend some good, show i some good > ?list
    what would be a good, what would be a great, what would be a nice > ?what good
    give i a summary of, provide a summary of, what be a summary of > summarize
    when be a best time to > ?what best time to
    what be a best time of year to > ?what best time to
    tell i > ?what
    tell i about, tell about > ?explain
    explain, explain to i, describe, describe to i > ?explain
    define > ?explain
    list, name, give i, show i, show, give, provide, give i some, name some, list some > ?list
    give i a list of, give a list of, make a list of, a list of, provide a list of > ?list
    be it fine to, be it alright to > ?can
    be it possible for * to, would it be possible for * to > ?can
    be it possible to, be it ok to, be it possible for i to, be it ok if i > ?can
    can *, may *, be * allowed to, be * permitted to, be it allowed to > ?can
    be there a way that i can > ?can
    should *, shall * > ?should
    be it advisable to, be it recommended to, be it wise to > ?should
    be it compulsory to, do * must, be it necessary to > ?must
    be there any, be there some, be there > ?is-there
    """
)
# Requests, after which "can you" asks for nothing but the thing.
REQUESTS = _words(
    """
    tell explain describe define give show list name write make draft create generate plan translate summarize rewrite
    recommend suggest find help convert compare fix solve calculate compute set provide simplify check correct review
    draw design build outline count divide subtract add return delete delete remove set play recite roll turn bake
    send read analyze classify extract prove derive
    """
)
# Requests of which the one who asks is a part.
TELLING = _words("tell explain describe give show help send teach")
STARTERS = _words(
    """
    be
    what which how why who whom whose where when is are was were am do does did can could will would should shall may
    must have has had please tell explain describe give show list name write by on in
    """
)

# What asks for an explanation, before a question word.
EXPLAINING = Phrases(
    """
    explain, explain to i, describe, describe to i, tell i, tell, show i, show, teach i, say, clarify >
    can you explain, can you explain to i, can you please explain, can you describe, can you show i, can you teach i >
    """
)
ASKING = _words("what how why who whom where when which whether if")
WEEKDAYS = _words("monday tuesday wednesday thursday friday saturday sunday")
# --- words and what they do ------------------------------------------------------------------------------------------

SILENT = _words("a be do please kindly really actually such its so currently")
# Silent beside an auxiliary only: there are IT jobs, and one can get there.
FILLERS = _words("it there")
AUXILIARIES = _words("be do can will would should must may not have")
MOODS = {"can": "~can", "will": "~will", "would": "~would", "should": "~should", "must": "~must", "may": "~may"}
# Of what the mood of such a question says nothing more.
MOODLESS = _words("?howto ?what-do ?where ?can ?should ?must ?how-many")
OWN = _words("my your our")
# Verbs that ask for the listener's own mind or doings: "how do you feel" is not how one feels.
MIND = _words(
    """
    feel think know like see believe remember understand say mean work learn love hate want decide handle rate view
    compare differ sleep spend define do be live cope respond react answer deal imagine dream
    """
)

PREPOSITIONS = _words(
    """
    in on at of for from to with without by about between among against over under above below after before
    through across around near behind beside into until since via as than like north-of south-of east-of west-of
    in-front-of because-of
    """
)
MOVABLE = _words("in on at of for from to with about by between near across around through via because-of")
CLAUSES = _words("if when while because although though unless whether where as until since after before once")
# What is said of a doing: "is it safe to swim" is "is swimming safe".
JUDGEMENTS = _words(
    """
    safe unsafe legal illegal ok fine harmful dangerous possible impossible healthy unhealthy bad good normal hard easy
    difficult worth necessary allowed permitted forbidden expensive useful useless common rude wrong right better
    worse fun profitable risky
    healthier safer easier harder cheaper
    """
)
# Vessels: a cup of tea is no tea cup.
VESSELS = _words(
    """
    cup glass bottle box bag can bowl plate pack packet jar jug piece slice kind type sort lot number pair set group
    part rest list loss lack fear love picture story book case can carton tin pot tank basket crate house case
    """
)
# What a name or an answer belongs to anyway: "which city is the capital", "Mount Everest".
CATEGORIES = _words(
    """
    city country town place person company team language year day date river mountain planet mount state animal number
    """
)
# Verbs with "of": what is expected of teachers is no teachers' expectation.
OF_VERBS = _words("expect expected think thought hear heard know known dream consist approve die talk beware dispose")
# What is for something as it is of something: "the price for bread", "bread prices".
RELATIONAL = _words(
    """
    limit price cost recipe word term name symbol formula cure remedy treatment penalty fine deadline requirement
    password abbreviation synonym code tip exercise idea technique solution
    """
)
FREQUENCIES = _words("always usually often sometimes rarely seldom")
# Beside these, the place of a "not" matters.
SCOPES = _words(
    """
    and or but who which that than all some any every each most few many both several only half no nobody nothing even
    either neither
    """
)
# Where "when it rains" is "if it rains".
CONDITIONAL = _words("?what ?which ?what-do ?should")
JOINTS = PREPOSITIONS | CLAUSES
JOINTS |= {"which-of"}
QUESTION_WORDS = _words(
    """
    what which how why who whom whose where when is are was were am do does did can could will would should shall may
    must
    """
)
# Words whose place says what they apply to.
BINDING = _words(
    """
    not no never nobody nothing none neither nor without than but only even except unless or rather instead then before
    after until while hardly barely scarcely also first last no-longer all some any every each most few both either as
    """
)

NEGATIONS = _words(
    """
    not no never none nothing nobody without neither nor except unless lack hardly barely scarcely no-longer fail
    refuse stop avoid
    """
)
QUANTITIES = _words(
    """
    all some any every each most few many both several only half everyone someone anyone whole part either always
    usually often sometimes rarely seldom almost several-few a-little enough majority minority also
    """
)
COMPARISONS = _words(
    """
    more less fewer least best worst better worse larger smaller bigger greater higher lower faster slower cheaper
    pricier older newer longer shorter taller younger stronger weaker heavier lighter earlier later max min maximum
    minimum than at-least at-most biggest smallest highest lowest fastest slowest oldest newest longest shortest
    tallest youngest strongest weakest closest furthest richest poorest upper lower warmer colder simpler above below
    over under
    """
)
DIRECTIONS = _words(
    """
    from to before after vs between via by against left right up down in out on off north south east west north-of
    import export forward backward over under through across
    """
)


def _nearly() -> dict[str, dict[str, frozenset[str]]]:
    found: dict[str, dict[str, frozenset[str]]] = {}
    for members, beside in _NEAR_GROUPS:
        forms = {token(member) for member in members}
        for form in forms:
            for other in forms - {form}:
                known = found.setdefault(form, {})
                known[other] = known.get(other, frozenset()) | frozenset(map(common, beside))
    return found


# By word, those that may stand for it where all else is equal, each with words beside which it may not.
NEARLY = _nearly()
# Verbs that are put together with a particle, which may as well stand behind their object.
PARTICLES = _words("off on out up down away in back over")
_VERBS = (token(member) for group in synonyms.groups(synonyms.VERBS) for member in group)
PHRASAL = frozenset(
    word for word in (*_TOKENS.values(), *_VERBS) if word.count("-") == 1 and word.split("-")[1] in PARTICLES
)
# Pairs that differ in form and hardly in what an answer to them says.
NEAR = frozenset(
    frozenset(pair.split())
    for pair in (
        "?what ?explain",
        "?what ?list",
        "?what ?which",
        "?what ?meaning",
        "?explain ?meaning",
        "~should ~must",
        "in at",
        "?list ?which",
        "all every",
        "?cause ?why",
        "people they",
        "people you",
        "people one",
        "each every",
    )
)
# Texts about wording itself, in which no word is mere grammar.
WORDING = _words(
    """
    translate rewrite rephrase paraphrase proofread spell pronounce conjugate grammar grammatical grammatically
    synonym synonyms antonym rhyme rhymes sentence phrase plural idiom
    """
)

# Words that are a name in capitals and something else without, and that people do write without where they mean that.
CAPITONYMS = _words(
    """
    act aids apple bath baker bush chase china cook cork country crown excel express frank gap grace guinea hunter
    ice it jack jersey job lent lima line mark meta miller mint mustang nice notion orange pages palm patch pin polish
    prime reading sage sat scotch shell slack smith square stripe sun surface swift target taylor teams turkey us wave
    who will windows word zoom
    """
)
