"""Regular expressions in a configuration are RE2's: they take time in proportion to the text, whatever they say."""

from __future__ import annotations

import re2

# A budget, not an allocation: a set of expressions that outgrows it would find nothing.
MEMORY = 256 * 1024 * 1024


def options(case_sensitive: bool = True) -> re2.Options:
    """How expressions are compiled; errors are raised, not printed."""
    chosen = re2.Options()
    chosen.case_sensitive = case_sensitive
    chosen.log_errors = False
    chosen.max_mem = MEMORY
    return chosen


def refused(expression: str) -> str | None:
    """Why RE2 does not take ``expression``, or ``None``: it does."""
    try:
        re2.compile(expression, options())
    except UnicodeEncodeError:
        return "it holds half a surrogate pair"
    except re2.error as error:
        reason = error.args[0] if error.args else "not understood"
        return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
    return None
