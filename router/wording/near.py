"""Words that may stand for each other where everything else in two questions is equal.

Unlike the groups of :mod:`.synonyms` these have other senses besides: to *get* is to receive, to become
or to fetch. Beside the same words it is hardly ever two of them that are meant. So no word becomes another one here;
two words of one group count as equal at one place of two questions, and only once or twice in them. A word may be in
several groups. Left out are opposites, kinds and what they are kinds of (a vehicle, a car), steps of a scale (warm,
hot), and whatever sets questions apart: names, numbers, units, dates, negations, comparisons, directions.
Left out too is what names are often made of (a road, a college), for names in lower case are not seen as such, and what
a trade tells apart although others do not: speed and velocity, to rent and to lease, a power and an energy.

Written from general knowledge of English, for this project.
"""

from __future__ import annotations

# Groups end with a semicolon. Behind `/` are words beside which a group does not count.
VERBS = """
    get, acquire; get, fetch, retrieve; get, obtain; get, gain / weight muscle; make, create / money profit love; make,
    generate; create, generate; make, produce / money movie film song album; make, build / money project; make,
    construct; build, construct; make, prepare; make, bake; make, brew; make, earn / bitcoin coin token car; create, set
    up; create, develop / film photo; create, write / file database table; create, build / project solution; produce,
    manufacture; build, develop; change, switch; change, replace / name password passport license card text string word
    column value habit; change, edit; change, adjust; change, convert; convert, transform; convert, turn / car van key
    page wheel table profit; adjust, adapt; customize, personalize; edit, modify; fix, solve, resolve; fix, correct;
    fix, troubleshoot; find, locate; find, calculate; find, determine; find, figure out; find, identify; find out,
    determine, figure out; find out, check; determine, establish; determine, calculate; tell if, tell whether, know if,
    know whether; detect, spot, identify; recognize, identify; remove, delete / drive disk card; delete, erase / drive
    disk card phone; remove, take off / plane flight rocket; remove, take out / loan mortgage insurance credit policy
    trash dog; remove, eliminate; remove, uninstall; clean, wash; clean, clean up, tidy; stop, quit; prevent, avoid /
    tax people; cure, heal; relieve, ease, soothe; raise, increase / money fund capital child; raise, bring up;
    increase, grow; grow, expand; grow, cultivate; rise, increase, go up; rise, grow; lower, reduce, decrease; lower,
    bring down / plane government website server; cut, reduce / hair tree wood onion; fall, drop; fall, go down; drop,
    go down; decline, drop / call offer; decline, decrease; limit, restrict; extend, prolong; extend, expand; use,
    apply; use, employ / worker people person staff; send, mail; send, transfer / number call; move, transfer; move,
    migrate; ship, deliver; ship, send; visit, travel to; visit, go to / jail prison college university school bed
    church court; go to, travel to; visit, see; watch, see, view; work, function, operate; run, execute; run, operate;
    run, jog / script program code water engine; run, manage; run, launch; launch, start; launch, release; open, launch;
    release, publish; establish, set up; start, found; start, launch; choose, pick / lock nose pocket cotton fight berry
    mushroom flower guitar; choose, decide on; learn, study; teach, instruct; speak, talk; say, state; discuss, talk
    about; contact, reach; reach, get to, arrive at; reach, achieve, attain; achieve, accomplish; answer, respond to,
    reply to; describe, explain; outline, describe; summarize, sum up; store, keep; save, store / money energy; keep,
    preserve; maintain, preserve; keep, retain; own, have; own, possess; have, possess; have, contain; contain, include;
    include, comprise; have, suffer from; have, experience; experience, suffer from; bring, pack; bring, take / pill
    medicine medication; end, finish; finish, complete; end, terminate; close, shut; harm, damage / law tort contract
    legal; harm, hurt; hurt, injure; hurt, damage; hurt, be bad for; destroy, ruin; ruin, spoil; beat, defeat; fight,
    combat; cut, chop; cut, trim; mix, combine; mix, blend; combine, merge; connect, link; connect, pair; connect,
    attach; split, divide; split, separate; divide, separate; install, set up; configure, set up; configure, set;
    enable, turn on; enable, activate; disable, turn off; disable, deactivate; type, enter, input; add, insert; add,
    include; add, put; put, place; put, insert; recover, retrieve, get back; sort, arrange; organize, arrange; organize,
    plan; plan, arrange; book, reserve / value price ratio; schedule, arrange; write, compose; write, draft; draft,
    compose; draft, prepare; draw, sketch; come up with, think of; suggest, come up with; suggest, recommend, propose;
    give, provide, offer; supply, provide; name, mention; happen, go on; trigger, set off; mean, signify; represent,
    symbolize; show, demonstrate; show, indicate; prove, demonstrate; believe, think; consider, regard; like, enjoy;
    love, adore; remember, recall; miss, long for; charge, recharge; calm down, relax; rest, relax; hire, recruit / many
    much; fire, dismiss, sack; resign from, quit, leave; rule, govern; protect, shield; secure, protect; travel, go;
    throw, toss, hurl; lift, pick up; push, press; press, click, tap; forbid, ban; expect, anticipate; predict,
    forecast; measure, gauge; evaluate, assess; analyze, examine; investigate, examine; research, study; research,
    investigate; obtain, acquire; support, help / child spousal price; encourage, motivate; motivate, inspire; persuade,
    convince; attract, draw in; promote, advertise, market; publish, post; announce, declare; reveal, disclose;
    apologize, say sorry; lead, manage; control, manage; control, regulate; supervise, oversee; heat, warm, heat up,
    warm up; heat, reheat; cool, cool down, chill; invent, create; invent, come up with; consist of, be made of; form,
    create; hack, break into; track, trace; track, monitor; match, go with; enlarge, expand; exit, quit, leave; annoy,
    bother, irritate; confuse, puzzle; admire, respect; sync, synchronize; implement, write; implement, build; define,
    specify; throw, raise; handle, manage; cope, manage; negotiate, bargain; gather, assemble; look, appear; seem,
    appear; survive, stay alive; host, hold; hold, keep; celebrate, observe; sign up, register, enroll; sign up,
    subscribe; apply for, request; pass, go by; succeed, do well; struggle, have trouble; lie down, go to bed; sleep, go
    to sleep; sweep, clean; polish, shine; sharpen, hone; carve, cut; decorate, adorn; unclog, unblock, clear; clog,
    block; flow, run; burn, catch fire; shine, glow; bloom, flower, blossom; harvest, pick, gather; plant, grow /
    nuclear; feed, fertilize / cat dog baby child bird fish; train, teach; train, educate; educate, teach; tutor, teach
"""
NOUNS = """
    symptom, sign / language; sign, indicator; cause, reason; reason, explanation; purpose, goal; purpose, aim; goal,
    aim, objective; target, goal; role, function / create sql python aws database; function, purpose; use, purpose; use,
    application; duty, responsibility; job, occupation, profession; job, position; job, role; career, profession; job,
    work; task, job; task, assignment; boss, manager; boss, supervisor; employer, boss; employee, worker; company, firm,
    business; corporation, company; client, customer; price, cost / marginal opportunity fixed variable sunk average
    total unit target; cost, fee; salary, pay; income, earnings; refund, reimbursement; apartment, flat / rate tire
    screen fee tax battery; garden, yard, backyard; lawn, grass; basement, cellar; closet, wardrobe; cupboard, cabinet;
    rug, carpet; lamp, light; stove, cooker; restroom, bathroom; washing machine, washer; vacuum, vacuum cleaner;
    garbage, trash / collection collector; waste, trash / nuclear collection; highway, motorway, freeway; trip, journey;
    trip, travel; vacation, holiday / public bank inn; plane, airplane / geometry equation coordinate; bike, bicycle;
    taxi, cab; engine, motor; tourist, visitor; attraction, sight; landmark, sight; place, spot; spot, location;
    location, position; area, region; area, neighborhood; district, neighborhood; country, nation; earth, world; space,
    outer space; person, individual; human, human being, people; adult, grown up; relative, family member; ancestor,
    forefather; rival, competitor; leader, head; leader, chief; ruler, leader; inhabitant, resident; soldier, troop;
    gun, firearm; punishment, penalty; rule, regulation; treaty, agreement; permission, authorization; solar energy,
    solar power; document, paper / work; article, piece; essay, paper; newspaper, paper; song, tune; melody, tune;
    lyric, word; image, picture; painting, picture; drawing, sketch; series, show; show, program; plot, story; plot,
    storyline; ending, end; phrase, expression; word, term / long short use service contract loan president; language,
    tongue; meaning, definition; meaning, significance; meaning, sense; summary, overview; summary, synopsis; overview,
    outline; introduction, intro; conclusion, ending; sample, example / blood urine statistic; idea, suggestion; idea,
    concept; concept, notion; tip, suggestion; tip, advice; tip, recommendation; tip, hint; tip, trick; hack, trick;
    advice, guidance; advice, recommendation; guide, tutorial; guide, instruction; manual, guide, handbook; stage, phase
    / cancer trial; step, instruction; process, way; procedure, way; technique, way; technique, approach; approach, way;
    strategy, approach; strategy, plan; strategy, way; tactic, strategy; tool, instrument; tool, utility; tool,
    software; device, gadget; device, machine; appliance, device; equipment, gear; app, application; app, program;
    software, program; software, app; computer, pc; laptop, notebook / jupyter paper python; computer, machine; screen,
    display; screen, monitor; cable, cord; cable, wire; folder, directory; website, site; link, url; setting, option;
    option, choice; alternative, option; alternative, substitute; replacement, substitute; bug, error; error, mistake;
    error, problem; problem, issue; trouble, problem; problem, difficulty; challenge, difficulty; challenge, problem;
    question, problem; script, program; script, code; element, item; item, thing; object, thing; stuff, thing; material,
    substance; ingredient, component; dish, meal; meal, food; dessert, sweet; soda, soft drink; candy, sweet; spice,
    seasoning; taste, flavor; smell, scent; scent, aroma, fragrance; stomach, belly; illness, disease; pain, ache;
    medicine, medication / study practice; pill, tablet; remedy, treatment; treatment, therapy; vaccine, vaccination;
    shot, injection; vaccine, shot; surgery, operation; exercise, workout; training, workout; training, practice;
    feeling, emotion; happiness, joy; habit, routine; behavior, conduct; trait, characteristic; quality, trait; quality,
    characteristic; feature, property; property, characteristic; feature, attribute; trait, feature; skill, ability;
    ability, capability; talent, gift; education, schooling; class, course; class, lesson; student, pupil; homework,
    assignment; test, exam; grade, mark; grade, score; mark, score; question, query; answer, response; answer, reply;
    answer, solution; fix, solution; result, outcome; outcome, consequence; consequence, effect; effect, impact,
    influence; effect, result; result, consequence; advantage, benefit, plus; benefit, perk; advantage, strength;
    benefit, upside; advantage, pro; disadvantage, con; weakness, disadvantage; risk, danger; danger, hazard; threat,
    danger; importance, significance; value, worth; origin, source; beginning, start; end, finish; event, incident;
    party, celebration; gift, present; game, match; team, squad; team, club; coach, trainer; hobby, pastime; hobby,
    interest; competition, contest; race, competition / human; tournament, championship; prize, award; champion, winner;
    animal, creature; bug, insect; size, dimension; dimension, measurement; height, elevation; speed, pace; duration,
    length; era, age; deadline, due date; shape, form; kind, category; kind, variety; category, class; category, genre;
    genre, kind; version, edition; brand, make; tradition, custom; religion, faith; government, administration; trade,
    commerce; industry, sector; note, message; message, text / book; invitation, invite; speech, talk; speech, address;
    presentation, talk; conversation, talk; conversation, chat; conversation, discussion; meeting, conference; call,
    phone call; slogan, tagline; biography, bio; similarity, resemblance; relationship, connection; relation,
    connection; link, connection; requirement, condition; requirement, criterion; need, requirement; limit, restriction;
    barrier, obstacle; obstacle, difficulty; opportunity, chance; probability, chance; chance, likelihood; opinion,
    view; view, perspective; topic, subject; subject, theme; topic, theme; field, area; field, subject; domain, field;
    method, technique; solution, remedy; container, box; sack, bag; cap, hat; coat, jacket; pants, trousers; sneaker,
    trainer, running shoe; outfit, clothes; ring tone, ringtone; dirt, soil; soil, ground; mud, dirt; stain, spot;
    stain, mark; scratch, mark; hole, gap; crack, gap; noise, sound; recipe, way; workplace, office; factory, plant;
    luggage, bag; suitcase, bag; newborn, baby; chore, task; cell, phone / blood stem biology plant animal nerve;
    mobile, phone / app
"""
ADJECTIVES = """
    good, great; good, nice; good, decent; great, excellent; excellent, outstanding; wonderful, great; fun, enjoyable;
    best, top; bad, poor / people country family; bad, harmful; harmful, unhealthy; bad, unhealthy; harmful, dangerous;
    dangerous, risky; terrible, awful, horrible; important, significant; important, essential; important, crucial;
    crucial, essential; vital, essential; essential, necessary; necessary, required, needed; key, main; key, important;
    main, primary / school key care color election; main, major; main, principal / school; main, important; major,
    important; basic, fundamental; basic, simple / solution acid salt; common, frequent; common, typical; typical,
    usual; usual, normal; normal, regular; popular, famous; popular, common / sense; new, recent; new, latest; latest,
    newest, most recent; current, present; modern, contemporary; old, ancient; outdated, old fashioned; former, ex;
    previous, former; upcoming, next; small, little; small, tiny; tall, high; short, brief; brief, concise; wide, broad;
    thin, slim; slim, skinny; fat, overweight; strong, powerful; wet, damp; clean, tidy; clear, obvious; hard, tough;
    challenging, hard; complicated, complex; complicated, hard; straightforward, easy; plain, simple; effective, good;
    useful, helpful; useful, good; helpful, good; useless, pointless; possible, feasible; likely, probable; certain,
    sure; true, correct; correct, right; correct, accurate; correct, proper; right, proper; right, appropriate;
    suitable, good; suitable, right; wrong, false; real, genuine; authentic, genuine; allowed, permitted, ok; safe,
    secure; healthy, nutritious; healthy, good for you; fit, in shape; tired, exhausted; sad, unhappy; happy, glad;
    angry, mad; angry, furious; nervous, anxious; worried, anxious; kind, friendly; kind, nice; mean, cruel; lazy, idle;
    smart, intelligent; smart, clever; clever, intelligent; stupid, dumb, foolish; crazy, insane; pretty, beautiful;
    attractive, good looking; handsome, good looking; attractive, handsome; interesting, fascinating; interesting,
    exciting; interesting, fun; boring, dull; unusual, strange; unusual, rare; unique, special; particular, specific;
    special, particular; different, distinct; different, various; similar, alike; same, identical; nearby, local;
    nearby, close; near, close; far, distant; foreign, overseas; global, international; global, worldwide; cheap,
    affordable; valuable, precious; free, complimentary; digital, electronic; automatic, automated; wireless, cordless;
    artificial, synthetic; responsible, in charge; single, unmarried; living, alive; asleep, sleeping; broken, damaged;
    broken, faulty; defective, faulty; damaged, faulty; frozen, stuck; blocked, clogged; complete, finished; ready,
    prepared; ready, done; done, cooked; done, finished; ripe, ready; fresh, new; empty, vacant; busy, crowded; quiet,
    silent; quiet, peaceful; loud, noisy; soft, gentle; mild, gentle; severe, serious; serious, grave; harsh, severe;
    strict, rigorous; rented, rental; remote, distant; famous, notable; well paid, high paying; high paying, lucrative;
    profitable, lucrative; comfortable, comfy; vegan, plant based; deep, profound; creative, original; professional,
    formal; casual, informal; catchy, memorable; amazing, incredible, astonishing; amazing, great; awesome, great; sore,
    painful; painful, hurting; swollen, puffy
"""
OTHERS = """
    well, properly; properly, correctly; correctly, right; properly, right; quickly, in a short time; safely, securely;
    effectively, well; permanently, forever, for good; originally, initially; recently, lately; really, truly; commonly,
    typically; typically, usually; mainly, primarily; in simple terms, in simple words, in easy words, simply, in plain
    english, in layman's terms; with, using, by using; with, by means of; because, since; because-of, thanks to; if,
    whether; if, in case; through, via; near, close to; next to, beside; besides, apart from; worldwide, globally;
    everywhere, all over; together with, along with
"""


def groups(text: str) -> list[tuple[list[str], frozenset[str]]]:
    """The members of each group, of one or more words in lower case, and the words beside which they do not count."""
    read = []
    for group in text.split(";"):
        members, _, beside = group.partition("/")
        read.append(([" ".join(member.split()) for member in members.split(",")], frozenset(beside.split())))
    return read
