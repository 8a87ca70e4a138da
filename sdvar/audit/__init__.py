"""The likelihood audit: are tokens, whoever decoded them, draws from the target?

One teacher-forced pass of the target over an image's tokens gives at every position the distribution p that the
baseline would have picked from (guided, tempered, filtered). `score` makes of it sums per image and scale, `Scores`,
whose properties are the tests. They need no feature network, no reference, no images and not the baseline's tokens.
"""

from sdvar.audit.scores import Scores
from sdvar.audit.scoring import score

__all__ = ["Scores", "score"]
