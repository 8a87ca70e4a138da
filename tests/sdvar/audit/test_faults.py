"""Planted faults are flagged at the number of images that docs/evaluation.md states, and sound decoders are not."""

import re

import pytest

from tests.paths import ROOT
from tests.sdvar.audit.faults import FAULTS, LEVEL, SOUND, images_needed

pytestmark = pytest.mark.proof
NEEDED = {
    "acceptance by the noise that picked the draft": 25,
    "temperature 0.9 forgotten at every scale": 25,
    "temperature 0.9 forgotten at the last scale": 25,
    "guidance one scale late": 200,
}


@pytest.mark.parametrize("name", NEEDED)
def test_a_fault_is_flagged(name):
    needed, scores = images_needed(FAULTS[name], NEEDED[name])
    assert needed == NEEDED[name], scores.smallest_p_value


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_decoder_is_not(name):
    _, scores = images_needed(SOUND[name], 200)
    assert scores.smallest_p_value > LEVEL


def test_the_documented_numbers_are_these():
    table = (ROOT / "docs" / "evaluation.md").read_text().partition("**Images needed to see it.**")[2]
    stated = [int(number) for number in re.findall(r"^\| [^|]+ \| (\d+) \| [0-9.]+ \(", table, re.MULTILINE)]
    assert sorted(stated) == sorted(NEEDED.values())
