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
