"""Keywords that are also found inside of words: `api` in "capital"."""

from __future__ import annotations

from triton_router.config.schema import Config, Decision, leaves
from triton_router.config.signals import KeywordSignal

# A longer keyword seldom stands inside another word by chance.
SHORT = 4
# So many are named.
EXAMPLES = 3

_COMMON = """
about above accept account across action actually address advice after again against agree already also always among
amount animal another answer anyone anything apartment appear apple application approach area argument around article
assume attack attention audience author available average award aware away back balance bank basic beautiful because
become before behavior behind believe benefit best better between beyond birthday blood board body book both bottle
brain branch bread break breath brief bring brother budget build building business button calculate campaign canada
cancel cancer candidate capital capture card care career careful carry catalog category cause cell center central
certain challenge chance change character charge chart cheap check choice choose church citizen city class clean clear
client close coffee cold collect college color common community company compare complain complete computer concern
condition consider contact contain content contest context continue contract control copy correct cost could country
couple course court cover crash create credit crime culture current customer damage dance danger data daughter debate
decade decide decision deep defense degree deliver demand describe design despite detail develop device difference
different difficult digital dinner direct disease discover discuss distance district doctor document door draft drama
draw dream drive during early earth easily economy edge education effect effort either election email employee
encourage energy engine enjoy enough entire environment especially essay establish evening event ever every evidence
exactly example excellent except exercise exist expect expensive experience expert explain explanation express face
fact fail fair faith fall familiar family farm fashion fast father favorite fear feature feel fence field fight figure
file fill film final finance find finger finish fire first fish flat flight flower focus follow food force foreign
forget form formal former forward found fragment frame framework free freedom friend front function funny future game
garden general generate gift girl give glad glass goal goes good government graduate grammar grass great green ground
group grow growth guess guide hair half hand happen happy hard have health hear heart heat heavy help herself high
himself history hold holiday home hope hospital hotel hour house however huge human hundred husband idea identify
image imagine impact important improve include income increase indeed indicate individual industry influence
information inside instead institution insurance interest interview into investment invite island issue item itself
join journey judge jump just keep kind kitchen know knowledge land language large last late later latest laugh launch
lawn lead leader learn least leave left legal legitimate length less letter level library life light like likely limit
line list listen little live local long look lose loss love lunch machine main maintain major make manage manager many
market marriage material matter maybe mean measure media medical meeting member memory mention message method middle
might million mind minute miss mission model modern moment money month morning mother mountain move movement movie much
music must myself name nation natural nature near nearly necessary need network never news next night none north note
nothing notice number observation occur offer office often once only onto open operation opinion opportunity option
orange order organization other outside over owner page paint paper paragraph parent part participant particular
partner party pass past path patient pattern payment peace people perform perhaps period person phone photography
phrase physical picture piece place plan planet plant plastic play please point police policy political poor popular
population position positive possible power practice prepare present president pressure pretty prevent price print
private probably problem process produce product professional program project promise properly property protect prove
provide public pull purpose push quality question quick quickly quiet quite race raise range rapid rate rather reach
reaction read ready real reality realize really reason receive recent recipe recognize record reduce region relate
relationship remain remember remove repeat replace report represent require research resource respond response
responsible rest restaurant result return reveal review rice right rise risk road role room rule safe said same save
scale scarf scene schedule school science score screen search season second secret section security seem select sense
sentence separate series serious serve service several shake share sharp ship shirt short should shoulder show side
sign significant similar simple simply since single sister situation size skill sleep small smart social society
software some someone something sometimes song soon sort sound source south space spain speak special specific speech
spend sport spring staff stage stand standard star start state statement station stay step still stop storage store
story straight strategy street strong structure student study style subject success such sudden suggest summary summer
support sure surface surprise syntax system table take talk task taste taxi teach teacher team technology tell term
test than thank that theater their them themselves theory therapist there these they thing think third this those
though thought thousand three through throughout time tissue title today together tomorrow tonight topic total touch
tough toward town track trade traditional training transfer transport trash travel treat treatment tree trial trip
trouble true trust truth turn tutorial type under understand unit university unless until urban upon usually valley
value various vegetable very victim video view village visit voice vote wait walk wall want warm warn wash watch water
weather website week weight well west what whatever when where whether which while white whole whose wide wife will
window winter wish with within without woman wonder wood word work worker world worry would write writer wrong yard
year yellow yesterday young your yourself
"""
WORDS = tuple(_COMMON.split())


def holding(keyword: str) -> list[str]:
    """Common words that have ``keyword``, a short one, inside of them; a few, the shortest first."""
    sought = keyword.strip().casefold()
    if not sought.isalpha() or len(sought) > SHORT:
        return []
    holders = [word for word in WORDS if (sought in word and not word.startswith(sought)) or _goes_on(sought, word)]
    return sorted(holders, key=len)[:EXAMPLES]


def _goes_on(keyword: str, word: str) -> bool:
    """Whether ``word`` begins with ``keyword`` and is not one of its own forms: `art` in "article", not "arts"."""
    return word.startswith(keyword) and len(word) > len(keyword) + 2


def inside_words(config: Config) -> list[str]:
    """The keyword signals whose keywords also match inside words, with the decisions that use them, a sentence each."""
    sentences = []
    for signal in config.routing.signals.of(KeywordSignal.TYPE):
        if isinstance(signal, KeywordSignal) and signal.match == "substring":
            users = [each.name for each in config.routing.decisions if _names(each, signal)]
            examples = [f"`{word}` in {' and '.join(words)}" for word in signal.keywords if (words := holding(word))]
            sentences.append(
                f"keyword signal `{signal.name}` (decisions: {', '.join(users) or 'none'})"
                + (f" also matches {'; '.join(examples)}" if examples else "")
            )
    return sentences


def _names(decision: Decision, signal: KeywordSignal) -> bool:
    return any((str(rule.type), rule.name) in signal.keys for rule in leaves(decision))
