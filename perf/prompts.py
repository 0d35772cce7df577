"""Prompts of mixed length, as people write them."""

PROMPTS = [
    "What is the derivative of x^3 + 2x?",
    "My kettle trips the breaker whenever the oven is on. Is the circuit overloaded or is the kettle broken?",
    "Summarise the causes of the French Revolution in five bullet points.",
    "write a short toast for my brother's wedding, funny but not mean",
    "Why is my Postgres query slow although there is an index on the column? EXPLAIN shows a sequential scan over two "
    "million rows, the filter matches about a third of them, and the table was vacuumed last night.",
    "can my employer make me work on a public holiday without extra pay",
    "Compare the elasticity of demand for bread and for restaurant meals.",
    "I have had a dull headache behind one eye for three days, it gets worse when I bend over, and I had a cold last "
    "week. What could it be, what can I do at home, and when should I see a doctor about it?",
    "Is it rational to fear death?",
    "Balance C3H8 + O2 -> CO2 + H2O and tell me how much oxygen a 5 kg bottle of propane needs.",
    "Draft an email to a supplier who is late for the second time; polite but firm.",
    "How do vaccines train the immune system?",
    "A ladder of 4 m leans at 60 degrees against a smooth wall. Where does it slip if a person of 80 kg climbs?",
    "plan a rainy weekend in Lisbon with two kids",
    "Explain gradient descent to someone who knows calculus but has never programmed anything.",
    "What makes people keep promises that no longer benefit them?",
    "Our start-up sells a subscription at 29 euros a month, churn is 6 percent, acquisition costs 140 euros each. "
    "Should we raise the price, invest into retention, or buy more advertising, and what should we measure first?",
    "thanks!",
    "How thick must an aluminium plate be to carry a 200 kg machine on four feet?",
    "Which rivers flow through Budapest, Vienna and Belgrade?",
    "Rewrite this more friendly: your request was denied because the form was incomplete.",
    "What is the difference between a tort and a crime?",
]

# Questions of a line: none has more than 20 tokens.
SHORT = [
    "What is the derivative of x^3 + 2x?",
    "Is it rational to fear death?",
    "How do vaccines train the immune system?",
    "plan a rainy weekend in Lisbon with two kids",
    "thanks!",
    "Which rivers flow through Budapest, Vienna and Belgrade?",
    "What is the difference between a tort and a crime?",
    "Why does bread rise?",
    "Who signed the Treaty of Westphalia?",
    "How hot is the core of the sun?",
    "convert 350 fahrenheit to celsius",
    "What does a central bank do?",
    "Why is my loop slower in Python than in C?",
    "Can I deduct a home office?",
    "How much load does an M8 bolt carry?",
    "Name three symptoms of anaemia.",
    "What is the pH of vinegar?",
    "Why do people procrastinate?",
    "say hello in Portuguese",
    "How do I undo my last git commit?",
]

_SITUATIONS = [
    "I run a small bakery in a town of about nine thousand people, with two employees and one oven that is "
    "twelve years old, and since last winter the electricity bill has almost doubled although we bake the same "
    "amount of bread.",
    "Our team keeps a web service in Python that answers around forty requests a second, it reads from one "
    "database and writes to a queue, and every evening between six and eight a few answers take longer than ten"
    " seconds.",
    "My mother is seventy four, she takes a tablet against high blood pressure and one for her thyroid, and for"
    " about two weeks she has felt dizzy when she gets up, mostly in the morning before she has eaten anything.",
    "I rent a flat on the third floor of an old house, the contract says that pets are allowed, and now the new"
    " owner has sent a letter that asks me to give away my dog within a month or to look for another place.",
    "In our laboratory course we heated copper sulphate until it turned white, weighed it before and after, and"
    " the difference was clearly smaller than the one that our teacher had calculated from the formula on the "
    "blackboard.",
    "For a history paper I compare how two port cities changed between 1850 and 1914, I have old maps, lists of"
    " ships and a handful of letters by merchants, and I am not sure which of these sources deserves the most "
    "trust.",
    "We want to hang a swing from a wooden beam in the garden, the beam is twelve centimetres wide and three "
    "metres long and rests on two posts, and sometimes two children of thirty kilograms each will use it "
    "together.",
    "A friend has not answered my messages for a month, after an argument about money that I thought was "
    "settled, and people we both know say that everything is fine whenever I ask them about it.",
]
_QUESTIONS = [
    "Please tell me first what you think the most likely cause is, then how I can check that myself without "
    "spending much, and at what point I should ask somebody who does this for a living.",
    "Give me three ways to go on from here with what speaks for and against each of them, say which one you "
    "would choose, and name the one thing that would make you change your mind.",
    "What are the facts that I still have to find out before I decide anything, in which order would you look "
    "for them, and what do people in this position usually overlook?",
    "Write down a short plan for the next two weeks, with a step for every second day, and explain in plain "
    "words why each step comes before the one that follows it.",
    "Explain to me what happens here as you would to a curious person without training, use one comparison from"
    " everyday life, and finish with the two numbers that matter most.",
]
_MANNERS = [
    "Keep it under three hundred words, use no headings and no tables, and if something is only a guess of "
    "yours then say so in the same sentence.",
    "I read this on a phone in a loud room, so short sentences please, and leave out everything that I could "
    "have looked up in a minute by myself.",
    "Write it so that I can forward it to my sister, who knows a good deal more about these things than I do "
    "but has very little time today.",
]
# Of 100 to 120 tokens each, and no two alike.
LONG = [
    f"{situation} {question} {_MANNERS[number % len(_MANNERS)]}"
    for number, (question, situation) in enumerate((asked, told) for asked in _QUESTIONS for told in _SITUATIONS)
]


def distinct(prompts: list[str], count: int, first: int = 0) -> list[str]:
    """``count`` prompts of which no two are alike to a cache: each has a number of its own, from ``first`` on."""
    return [f"{prompts[number % len(prompts)]} (case {number})" for number in range(first, first + count)]
