"""The semantic cache: what was answered before, to those who may see it, for questions that mean the same."""
