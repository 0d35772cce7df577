"""Words that set questions apart, by kind."""

from triton_router.wording import english

KEPT_APART = {
    "negations": english.NEGATIONS,
    "quantities": english.QUANTITIES,
    "comparisons": english.COMPARISONS,
    "directions": english.DIRECTIONS,
    "units": english.UNIT_WORDS | english.UNITS.keys(),
    "dates": english.DATES | english.SHORT_MONTHS.keys(),
    "numbers": english.SMALL.keys() | english.TENS.keys() | english.POWERS.keys() | english.ORDINALS.keys(),
}
