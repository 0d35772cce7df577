"""What a question says, without how it says it: English questions in one common wording."""

from triton_router.wording.question import Wording, plain, read
from triton_router.wording.words import LONGEST

__all__ = ["LONGEST", "Wording", "plain", "read"]
