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
    assist; allow, permit; respond, reply; try, attempt; build, construct; finish, complete; get, obtain; reduce, cut
    down on, cut back on; increase, boost; improve, enhance; solve, resolve; show, display; understand, comprehend,
    make sense of; memorize, learn by heart, commit to memory; live, reside; die, pass away; eat, consume; need,
    require; happen, occur, take place; move, relocate; stay, remain; continue, carry on; seek, look for, search for;
    collect, gather; calculate, compute; affect, influence; cause, lead to, bring about, give rise to; modify, alter;
    hide, conceal; protect, safeguard; accelerate, speed up; decelerate, slow down; disappear, vanish, go away;
    relieve, alleviate; yell, shout; restart, reboot; hurt, ache; scare, frighten; vomit, throw up, puke; urinate, pee;
    faint, pass out; defecate, poop, poo; pass gas, fart, pass wind; sweat, perspire; fall asleep, get to sleep;
    defrost, thaw; exercise, work out, workout; lose weight, shed weight, slim down; gain weight, put on weight; build
    muscle, gain muscle, put on muscle; make money, earn money; participate in, take part in; take care of, look after;
    remove, get rid of; perform, carry out; ban, prohibit; discard, throw away, throw out, dispose of, toss out;
    postpone, put off; cancel, call off; quit, give up; turn off, switch off, shut off, power off; turn on, switch on,
    power on; fill out, fill in; submit, hand in; return, come back, go back; log in, sign in, log on, login; log out,
    sign out, log off, logout; set up, setup; back up, backup; register for, sign up for; handle, deal with, cope with;
    overcome, get over; contact, get in touch with, reach out to; prepare for, get ready for; get pregnant, become
    pregnant, fall pregnant; get sick, become sick, fall sick; get rich, become rich; catch a cold, get a cold; get a
    refund, get my money back, get your money back; break up with, split up with; kidnap, abduct; imitate, mimic; make
    fun of, mock, ridicule; write down, jot down, note down; reject, turn down; request, ask for; examine, inspect;
    distinguish between, differentiate between; depend on, rely on; focus on, concentrate on; tolerate, put up with;
    look like, resemble; spoil, go bad; take a shower, have a shower; take a bath, have a bath; take a nap, have a nap;
    take a break, have a break; look at, take a look at, have a look at; eat breakfast, have breakfast; eat lunch, have
    lunch; eat dinner, have dinner; have sex, have intercourse, have sexual intercourse; have trouble, have difficulty;
    decide, make a decision, take a decision; ensure, make sure; make an appointment, book an appointment, schedule an
    appointment; book a table, reserve a table; give a speech, make a speech, deliver a speech; study for, revise for;
    talk to, speak to, talk with, speak with; repay, pay back; extinguish, put out; make up for, compensate for; get
    along with, get on with; learn to, learn how to; start a business, set up a business; bet, wager; come from,
    originate from; breastfeed, breast feed; potty train, toilet train; enroll, enrol; fulfill, fulfil; come to a
    conclusion, reach a conclusion; recommend a, suggest a; recommend some, suggest some; keep in mind, bear in mind;
    take a walk, go for a walk, have a walk; take a trip, go on a trip; take a test, sit a test; take an exam, sit an
    exam; set fire to, set on fire; suffocate, asphyxiate; tremble, quiver; widen, broaden
"""
NOUNS = """
    car, automobile, motorcar; movie, film, motion picture; picture, photo, photograph, pic; child, kid; way, method;
    cellphone, cell phone, mobile phone, mobile telephone; phone, telephone; tv, television, telly; email, e mail,
    electronic mail; website, web site; webpage, web page; homepage, home page; wifi, wi fi; username, user name, login
    name; screenshot, screen shot, screen capture; sms, text message; flash drive, usb stick, usb drive, usb flash
    drive, thumb drive, pen drive, memory stick; graphics card, graphic card, video card; video game, videogame;
    motherboard, mainboard; hard drive, hard disk, hard disk drive; dataset, data set; database, data base; filename,
    file name; todo list, to do list; voicemail, voice mail; touchscreen, touch screen; smartphone, smart phone; ai,
    artificial intelligence; gdp, gross domestic product; gpa, grade point average; ceo, chief executive officer; vpn,
    virtual private network; bmi, body mass index; seo, search engine optimization; roi, return on investment; uv,
    ultraviolet; gps, global positioning system; uti, urinary tract infection; iot, internet of things; adhd, attention
    deficit hyperactivity disorder; ptsd, post traumatic stress disorder; iq, intelligence quotient; ocd, obsessive
    compulsive disorder; ibs, irritable bowel syndrome; ipo, initial public offering; doctor, physician; lawyer,
    attorney; police officer, policeman, policemen, cop; firefighter, fireman, firemen; mailman, postman, mail carrier;
    coworker, co worker, colleague, workmate; resume, curriculum vitae; singer, vocalist; author, writer; buyer,
    purchaser; real estate agent, realtor, estate agent; flight attendant, air hostess; supermarket, grocery store;
    pharmacy, drugstore; bookstore, bookshop; restaurant, eatery; mall, shopping mall, shopping center; gasoline,
    petrol; gas station, petrol station, filling station; airplane, aeroplane; airplane ticket, plane ticket; airplane
    crash, plane crash; truck, lorry; motorcycle, motorbike; train station, railway station, railroad station; railway,
    railroad; traffic light, traffic signal; parking lot, car park; license plate, number plate; driving license,
    driver's license, driver license; windshield, windscreen; car insurance, auto insurance; car repair, auto repair;
    car loan, auto loan; luggage, baggage; subway station, metro station; sofa, couch, settee; faucet, tap; fridge,
    refrigerator; microwave, microwave oven; trash, rubbish; dustbin, trash can, garbage can, rubbish bin; diaper,
    nappy; stroller, pushchair; baby, infant; teenager, teen; mother, mom, mum, mommy; father, dad, daddy; grandmother,
    grandma, granny; grandfather, grandpa, granddad, grandad; grandchild, grandkid, grandchildren; friend, pal;
    roommate, flatmate; babysitter, baby sitter; boyfriend, boy friend; girlfriend, girl friend; birthday gift,
    birthday present; wedding gift, wedding present; old people, elderly people; eggplant, aubergine; zucchini,
    courgette; bell pepper, capsicum; chickpea, garbanzo bean, garbanzo; scallion, green onion, spring onion; beet,
    beetroot; ground beef, minced beef, beef mince; powdered sugar, icing sugar; baking soda, bicarbonate of soda,
    sodium bicarbonate; corn, maize; peanut, groundnut; ketchup, catsup; yogurt, yoghurt; donut, doughnut; bbq,
    barbecue, barbeque; dinner, supper; drink, beverage; candy floss, cotton candy; puppy, pup; rabbit, bunny; ladybug,
    ladybird; cockroach, roach; hippopotamus, hippo; rhinoceros, rhino; chimpanzee, chimp; orca, killer whale;
    reindeer, caribou; kitten, kitty; belly, tummy; belly button, navel; pimple, zit; flu, influenza; stomachache,
    stomach ache, tummy ache, bellyache; heart attack, myocardial infarction; high blood pressure, hypertension; low
    blood pressure, hypotension; high blood sugar, hyperglycemia; low blood sugar, hypoglycemia; chickenpox, chicken
    pox, varicella; whooping cough, pertussis; nosebleed, nose bleed; birth control, contraception; cesarean, c
    section, cesarean section; emergency room, emergency department; painkiller, pain killer, pain reliever;
    acetaminophen, paracetamol; adrenaline, epinephrine; medication, meds; kneecap, patella; collarbone, clavicle;
    shinbone, tibia; thighbone, femur; breastbone, sternum; tailbone, coccyx; shoulder blade, scapula; windpipe,
    trachea; eardrum, tympanic membrane; voice box, larynx; uterus, womb; side effect, adverse effect; kidney stone,
    renal stone; bad breath, halitosis; hair loss, alopecia; shingle, herpes zoster; red blood cell, erythrocyte; white
    blood cell, leukocyte; vitamin c, ascorbic acid; nearsightedness, myopia; farsightedness, hyperopia; mortgage, home
    loan; stock market, share market; stock price, share price; health care, healthcare; childcare, child care;
    daycare, day care; lifespan, life span; ping pong, table tennis; gym, fitness center; pushup, push up, press up;
    swimsuit, bathing suit, swimming costume; sweater, pullover; clothes, clothing, apparel; nail polish, nail varnish;
    lawn mower, lawnmower; wrench, spanner; light bulb, lightbulb; power outlet, electrical outlet, power socket, wall
    socket; extension cord, extension lead; smoke detector, smoke alarm; identity card, identification card;
    birthplace, place of birth; birth date, date of birth; surname, last name, family name; zip code, postal code,
    postcode; illness, sickness; smell, odor, stench; disadvantage, drawback, downside; recommendation, suggestion;
    place, location; amount, quantity; schedule, timetable; nightmare, bad dream; bucket, pail; frying pan, skillet;
    cutlery, silverware, flatware; plastic wrap, cling film, saran wrap; aluminum foil, tin foil, tinfoil; napkin,
    serviette; dish towel, tea towel; dish soap, dishwashing liquid; cemetery, graveyard; power plant, power station;
    nuclear power, nuclear energy; power outage, power cut, power failure; lottery, lotto; science fiction, sci fi; tv
    show, tv series, tv program; living room, sitting room; marijuana, cannabis; cover letter, covering letter; exam,
    examination; quote, quotation; story, tale; sunrise, sunup; sunset, sundown; ice cream, icecream; hot dog, hotdog;
    roller coaster, rollercoaster; bathtub, bath tub; cupcake, cup cake; cheesecake, cheese cake; advantage of, benefit
    of; effect of, impact of; disadvantage of, con of; advantage and disadvantage, pro and con, benefit and
    disadvantage; problem with, issue with; importance of, significance of; feature of, characteristic of; kind of,
    type of, sort of; difference between, distinction between; mold, mould; mustache, moustache; plow, plough; ax, axe;
    artifact, artefact; judgment, judgement; sulfur, sulphur; installment, instalment; traveler, traveller; counselor,
    counsellor; omelet, omelette; inquiry, enquiry; encyclopedia, encyclopaedia; maneuver, manoeuvre; mollusk, mollusc;
    disk, disc; chili, chilli; lasagna, lasagne; hummus, houmous; cafe, café; jalapeno, jalapeño; crepe, crêpe; puree,
    purée; cliche, cliché; fiance, fiancé; curb, kerb; gynecologist, gynaecologist; orthopedist, orthopaedist; pajama,
    pyjama
"""
ADJECTIVES = """
    big, large; fast, quick, quickly, rapid, rapidly, speedy; huge, enormous, gigantic, immense; hard, difficult; easy,
    simple; wrong, incorrect; expensive, costly, pricey; cheap, inexpensive; rich, wealthy, affluent; sick, ill,
    unwell; sleepy, drowsy; beautiful, gorgeous; funny, humorous, amusing; strange, weird, bizarre; brave, courageous;
    famous, well known, renowned; slow, slowly; loud, noisy; toxic, poisonous; deadly, lethal, fatal; dangerous,
    hazardous; legal, lawful; illegal, unlawful, against the law; rude, impolite; polite, courteous; dead, deceased;
    disabled, handicapped; shy, timid; selfish, self centered; jealous, envious; stubborn, obstinate; honest, truthful;
    delicious, tasty, yummy; messy, untidy; smelly, stinky; rare, uncommon; fake, counterfeit, phony; suitable,
    appropriate; raw, uncooked; unemployed, jobless, out of work; nearsighted, shortsighted, myopic; farsighted,
    longsighted; color blind, colorblind; outdated, out of date; scared, afraid; advisable, a good idea; skeptical,
    sceptical; skillful, skilful; marvelous, marvellous; woolen, woollen; aging, ageing; naive, naïve; analog,
    analogue; called, known as; grateful, thankful; part time, parttime; full time, fulltime; long term, longterm;
    short term, shortterm; real time, realtime; open source, opensource; worried about, concerned about; tasteless,
    flavorless; odorless, scentless
"""
OTHERS = """
    leave, depart; immediately, right away, straight away; soon, shortly; maybe, perhaps; approximately, roughly;
    exactly, precisely; completely, totally, entirely; especially, particularly, in particular; suddenly, all of a
    sudden; secretly, in secret; accidentally, by accident, by mistake, unintentionally; intentionally, on purpose,
    deliberately, purposely; manually, by hand; online, on the internet, over the internet; abroad, overseas; for free,
    free of charge; simultaneously, at the same time; in advance, beforehand, ahead of time; as soon as possible, asap;
    for example, for instance; in person, face to face; in total, altogether; worldwide, all over the world, across the
    world, throughout the world; constantly, all the time; instead of, in place of, in lieu of; despite, in spite of;
    different from, different than, different to; compared to, compared with; made of, composed of, made up of;
    nowadays, these days; afterwards, afterward; currently, at the moment, presently, at present; amid, amidst; among,
    amongst; while, whilst
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
