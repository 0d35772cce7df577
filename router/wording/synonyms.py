"""Words and fixed phrases that may be exchanged in a question without changing what is asked.

Written from general knowledge of English, for this project. A word with a second common sense is listed only where
its partner cannot stand for that sense: nobody asks how to *quick* before a blood test. More general words (a vehicle
for a car), near ones (a salary, a wage), names, numbers, dates, negations, comparisons and directions are left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping

# Groups end with a semicolon; the first of a group is the common form.
VERBS = """
    buy, purchase; start, begin, commence; fix, repair, mend; use, utilize, make use of; choose, select, opt for; help,
    assist; allow, permit; respond, reply; try, attempt; build, construct; finish, complete; get, obtain; increase,
    boost; improve, enhance; solve, resolve; show, display; memorize, learn by heart; live, reside; die, pass away; eat,
    consume; need, require; happen, occur, take place; move, relocate; stay, remain; continue, carry on; seek, look for,
    search for; collect, gather; calculate, compute; affect, influence; cause, lead to, bring about, give rise to;
    modify, alter; hide, conceal; protect, safeguard; accelerate, speed up; decelerate, slow down; disappear, vanish, go
    away; relieve, alleviate; yell, shout; restart, reboot; hurt, ache; scare, frighten; vomit, throw up; urinate, pee;
    faint, pass out; defecate, poop, poo; pass gas, fart; sweat, perspire; defrost, thaw; exercise, work out, workout;
    lose weight, shed weight; build muscle, gain muscle; make money, earn money; participate in, take part in; take care
    of, look after; remove, get rid of; perform, carry out; ban, prohibit; discard, throw away, throw out, dispose of;
    postpone, put off; cancel, call off; quit, give up; turn off, switch off; turn on, switch on; fill out, fill in;
    submit, hand in; return, come back, go back; log in, sign in, log on, login; log out, sign out, log off; set up,
    setup; back up, backup; register for, sign up for; handle, deal with, cope with; overcome, get over; contact, get in
    touch with, reach out to; prepare for, get ready for; get pregnant, become pregnant; get sick, fall sick; get rich,
    become rich; kidnap, abduct; make fun of, mock, ridicule; reject, turn down; request, ask for; examine, inspect;
    distinguish between, differentiate between; depend on, rely on; focus on, concentrate on; look like, resemble;
    spoil, go bad; eat lunch, have lunch; eat dinner, have dinner; have trouble, have difficulty; decide, make a
    decision; ensure, make sure; talk to, speak to, talk with, speak with; repay, pay back; make up for, compensate for;
    learn to, learn how to; bet, wager; come from, originate from; recommend a, suggest a; recommend some, suggest some;
    take a trip, go on a trip; tremble, quiver
"""
NOUNS = """
    car, automobile; movie, film; picture, photo, photograph, pic; child, kid; way, method; cellphone, cell phone,
    mobile phone, mobile telephone; phone, telephone; tv, television; email, e mail, electronic mail; website, web site;
    webpage, web page; wifi, wi fi; sms, text message; flash drive, usb drive, pen drive; video game, videogame; hard
    drive, hard disk, hard disk drive; dataset, data set; todo list, to do list; touchscreen, touch screen; smartphone,
    smart phone; ai, artificial intelligence; gdp, gross domestic product; gpa, grade point average; bmi, body mass
    index; roi, return on investment; uv, ultraviolet; iot, internet of things; ocd, obsessive compulsive disorder;
    doctor, physician; lawyer, attorney; police officer, cop; firefighter, firemen; mailman, postman; coworker, co
    worker, colleague; resume, curriculum vitae; singer, vocalist; author, writer; buyer, purchaser; real estate agent,
    realtor; flight attendant, air hostess; supermarket, grocery store; bookstore, bookshop; mall, shopping mall;
    gasoline, petrol; gas station, petrol station, filling station; airplane, aeroplane; truck, lorry; motorcycle,
    motorbike; train station, railway station, railroad station; parking lot, car park; driving license, driver's
    license, driver license; windshield, windscreen; car insurance, auto insurance; subway station, metro station; sofa,
    couch; faucet, tap; fridge, refrigerator; microwave, microwave oven; trash, rubbish; dustbin, garbage can, rubbish
    bin; baby, infant; teenager, teen; mother, mom, mum, mommy; father, dad, daddy; grandmother, grandma; grandfather,
    grandpa, granddad, grandad; grandchild, grandkid, grandchildren; roommate, flatmate; girlfriend, girl friend;
    birthday gift, birthday present; old people, elderly people; eggplant, aubergine; zucchini, courgette; beet,
    beetroot; baking soda, sodium bicarbonate; corn, maize; yogurt, yoghurt; bbq, barbecue; drink, beverage; puppy, pup;
    rabbit, bunny; cockroach, roach; hippopotamus, hippo; chimpanzee, chimp; orca, killer whale; reindeer, caribou;
    kitten, kitty; belly, tummy; pimple, zit; flu, influenza; stomachache, stomach ache; high blood pressure,
    hypertension; high blood sugar, hyperglycemia; low blood sugar, hypoglycemia; chickenpox, chicken pox; emergency
    room, emergency department; acetaminophen, paracetamol; kneecap, patella; voice box, larynx; uterus, womb; side
    effect, adverse effect; hair loss, alopecia; white blood cell, leukocyte; nearsightedness, myopia; stock market,
    share market; stock price, share price; health care, healthcare; lifespan, life span; ping pong, table tennis;
    clothes, clothing, apparel; lawn mower, lawnmower; light bulb, lightbulb; smoke detector, smoke alarm; birth date,
    date of birth; surname, last name, family name; zip code, postcode; illness, sickness; smell, odor, stench;
    disadvantage, drawback, downside; recommendation, suggestion; place, location; amount, quantity; schedule,
    timetable; frying pan, skillet; power plant, power station; nuclear power, nuclear energy; science fiction, sci fi;
    tv show, tv series, tv program; marijuana, cannabis; exam, examination; quote, quotation; story, tale; sunset,
    sundown; hot dog, hotdog; roller coaster, rollercoaster; advantage of, benefit of; effect of, impact of;
    disadvantage of, con of; advantage and disadvantage, pro and con; problem with, issue with; importance of,
    significance of; feature of, characteristic of; kind of, type of, sort of; difference between, distinction between;
    mold, mould; ax, axe; artifact, artefact; judgment, judgement; sulfur, sulphur; traveler, traveller; counselor,
    counsellor; disk, disc; cafe, café; cliche, cliché; fiance, fiancé; pajama, pyjama
"""
ADJECTIVES = """
    big, large; fast, quick, quickly, rapid, rapidly; huge, enormous, immense; hard, difficult; easy, simple; wrong,
    incorrect; expensive, costly; cheap, inexpensive; rich, wealthy; sick, ill; sleepy, drowsy; funny, humorous;
    strange, weird, bizarre; brave, courageous; famous, well known, renowned; slow, slowly; loud, noisy; toxic,
    poisonous; deadly, lethal, fatal; dangerous, hazardous; legal, lawful; illegal, against the law; rude, impolite;
    dead, deceased; smelly, stinky; suitable, appropriate; raw, uncooked; color blind, colorblind; scared, afraid;
    advisable, a good idea; skeptical, sceptical; aging, ageing; called, known as; open source, opensource; worried
    about, concerned about
"""
OTHERS = """
    leave, depart; immediately, right away, straight away; soon, shortly; maybe, perhaps; approximately, roughly;
    exactly, precisely; completely, totally, entirely; especially, particularly; suddenly, all of a sudden;
    accidentally, by accident, unintentionally; intentionally, on purpose, deliberately, purposely; manually, by hand;
    online, on the internet; abroad, overseas; simultaneously, at the same time; in advance, beforehand; in total,
    altogether; worldwide, all over the world, across the world; constantly, all the time; instead of, in place of;
    despite, in spite of; different from, different than; compared to, compared with; made of, composed of, made up of;
    nowadays, these days; afterwards, afterward; currently, at the moment, presently, at present; among, amongst; while,
    whilst
"""
_UNCHANGED = frozenset(("quit", "hurt", "bet", "set"))
_CLIPPED = re.compile(r"[^aeiou]*[aeiou][bdgklmnprt]")


def groups(text: str) -> list[list[str]]:
    """The members of each group, of one or more words in lower case."""
    return [[" ".join(member.split()) for member in group.split(",")] for group in text.split(";")]


def exchanges(lemmas: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each word and phrase in each of its forms, and the common form for it; without -s, which is taken off beforehand.

    The first of a group is among them: as a phrase it keeps a shorter one ("estate agent") from being seen in it.

    ``lemmas``: the verb for each irregular past form.
    """
    irregular = frozenset(lemmas.values())
    for group in groups(VERBS):
        common = group[0]
        past = _on_first(common, lambda verb: verb if verb in irregular else _past(verb))
        for member in group:
            yield member, common
            yield _on_first(member, _gerund), _on_first(common, _gerund)
            for form in [form for form, verb in lemmas.items() if verb == member] or [_on_first(member, _past)]:
                if form != member:
                    yield form, past
    for group in groups(ADJECTIVES):
        common = group[0]
        for member in group:
            yield member, common
            if _short(member) and _short(common):
                for ending in ("er", "est"):
                    yield _compared(member, ending), _compared(common, ending)
    for group in groups(NOUNS) + groups(OTHERS):
        for member in group:
            yield member, group[0]


def _on_first(phrase: str, form: Callable[[str], str]) -> str:
    verb, space, rest = phrase.partition(" ")
    return form(verb) + space + rest


def _gerund(verb: str) -> str:
    if verb.endswith("ie"):
        return verb[:-2] + "ying"
    if verb.endswith("e") and not verb.endswith(("ee", "oe", "ye")):
        return verb[:-1] + "ing"
    return _doubled(verb) + "ing"


def _past(verb: str) -> str:
    if verb in _UNCHANGED:
        return verb
    if verb.endswith("y") and verb[-2:-1] not in tuple("aeiou"):
        return verb[:-1] + "ied"
    return verb + "d" if verb.endswith("e") else _doubled(verb) + "ed"


def _doubled(verb: str) -> str:
    # The stress is not written: these are the verbs of two syllables that have it on the last.
    stressed = verb in ("begin", "occur", "permit", "submit", "commit", "kidnap", "unplug")
    return verb + verb[-1] if stressed or _CLIPPED.fullmatch(verb) else verb


def _short(adjective: str) -> bool:
    if " " in adjective or adjective.endswith("ly"):
        return False
    return len(re.findall("[aeiouy]+", adjective.removesuffix("e"))) == 1 or adjective[-1] == "y"


def _compared(adjective: str, ending: str) -> str:
    if adjective.endswith("y"):
        return adjective[:-1] + "i" + ending
    return _doubled(adjective.removesuffix("e")) + ending
