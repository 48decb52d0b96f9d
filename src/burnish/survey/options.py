"""What can be chosen when a study is made."""

from dataclasses import dataclass
from typing import Annotated

from burnish.documents import CONTROL
from burnish.errors import InputError
from burnish.schema import Range, check

MAX_LENGTH = 1000  # of a question
MAX_TRIALS = 100_000  # of all raters


@dataclass(frozen=True)
class SurveyOptions:
    """How many raters see how many pairs, in what words, and whose votes will count."""

    raters: Annotated[int, Range(1, 2000)] = 20
    """Places for raters."""
    pairs_per_rater: Annotated[int, Range(1, 500)] = 20
    """Pairs that each rater judges."""
    catch: Annotated[int, Range(0, 50)] = 4
    """Attention checks per rater: an image beside itself, noised or blurred."""
    practice: Annotated[int, Range(0, 20)] = 3
    """Pairs before the first that counts."""
    question: str = ""
    """What raters are asked, if not the question of the language."""
    language: str = "en"
    """en, de, or a YAML file of texts."""
    shown_side: Annotated[int, Range(16, 1024)] = 256
    """Pixels of the longer side up to which small images are enlarged, by a whole factor."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of pairs, sides and order."""
    min_catch_share: Annotated[float, Range(0, 1)] = 0.75
    """Raters who pass fewer of the attention checks do not count."""
    min_seconds: Annotated[float, Range(0, 60)] = 0.3
    """Raters whose median answer takes less do not count."""
    min_answered: Annotated[float, Range(0, 1)] = 0.5
    """Raters who answer a smaller share of their pairs do not count."""

    def __post_init__(self) -> None:
        check(self)
        if len(self.question) > MAX_LENGTH:
            raise InputError(f"the question has more than {MAX_LENGTH} characters")
        if CONTROL.search(self.question) or (self.question and not self.question.strip()):
            raise InputError(
                "the question is blank or holds control characters; ask in plain text"
            )
        trials = self.raters * (self.pairs_per_rater + self.catch + self.practice)
        if trials > MAX_TRIALS:
            raise InputError(
                f"{trials} trials in all; a study has at most {MAX_TRIALS}: ask for fewer raters "
                "or fewer pairs"
            )
