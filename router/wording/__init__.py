"""What a question says, without how it says it: English questions in one common wording."""

from router.wording.question import Wording, plain, read

__all__ = ["Wording", "plain", "read"]
