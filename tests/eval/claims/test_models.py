"""Models of a claim are found by what they contain."""

from types import SimpleNamespace

from eval.claims.models import MODELS, _find
from lightning_modules import pair_source
from sdvar import checkpoints


def test_what_comes_with_the_project_needs_not_be_given():
    """The default run's claim has an arm with a draft of its own, which is bundled."""
    weights = {name: pair_source.digest(str(file)) for name, file in checkpoints.bundled_files("tiny").items()}
    claim = SimpleNamespace(pair="tiny", weights=weights, names={}, draft=None, file="claim.json")
    found = _find(claim, dict.fromkeys(MODELS, ()))
    assert found[pair_source.digest("tiny-tail")] == str(checkpoints.local_file("tiny-tail"))
    assert set(MODELS) <= set(found)
