"""Planted faults are flagged at the number of images that docs/evaluation.md states, and sound decoders are not."""

import re

import pytest

from tests.paths import ROOT
from tests.sdvar.audit.faults import ENUMERATED, FAULTS, LEVEL, SOUND, images_needed

QUICK = 100  # images
BUNDLED_PAIR = {
    "rejected tokens drawn from the target, not from the residual": 25,
    "bonus scale from the draft": 25,
    "top-k drops ties (all tokens in equal pairs)": 25,
    "acceptance by the noise that picked the draft": 25,
    "temperature 0.9 forgotten at every scale": 25,
    "temperature 0.9 forgotten at the last scale": 25,
    "logits of rejected drafts kept (stale)": 25,
    "guidance one scale late": 200,
    "one token favoured by 0.5 nats": 400,
    "Match(0.5), lossy by design": 25,
    "Handoff(3), lossy by design": 200,
}
IN_ITS_OWN_SETTING = list(BUNDLED_PAIR)[:3]  # the other rows have one in common
ENUMERATED_PYRAMID = {
    "acceptance by the noise that picked the draft": 50,
    "temperature 0.9 forgotten at every scale": 100,
    "logits of rejected drafts kept (stale)": 1600,
    "guidance one scale late": 3200,
    "rejected tokens drawn from the target, not from the residual": 100,
    "bonus scale from the draft": 1600,
    "one token favoured by 0.5 nats": 100,
    "top-k drops ties (all tokens in equal pairs)": 100,
}


@pytest.mark.parametrize(
    "name",
    [name if name in IN_ITS_OWN_SETTING else pytest.param(name, marks=pytest.mark.proof) for name in BUNDLED_PAIR],
)
def test_a_fault_is_flagged(name):
    needed, scores = images_needed(FAULTS[name], BUNDLED_PAIR[name])
    assert needed == BUNDLED_PAIR[name], scores.smallest_p_value


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if count <= QUICK else pytest.mark.proof)
        for name, count in ENUMERATED_PYRAMID.items()
    ],
)
def test_a_fault_is_flagged_on_an_enumerated_pyramid(name):
    assert ENUMERATED_PYRAMID.keys() == ENUMERATED.keys()
    needed, scores = images_needed(ENUMERATED[name], ENUMERATED_PYRAMID[name])
    assert needed == ENUMERATED_PYRAMID[name], scores.smallest_p_value


@pytest.mark.proof
@pytest.mark.parametrize("name", SOUND)
def test_a_sound_decoder_is_not(name):
    _, scores = images_needed(SOUND[name], 200)
    assert scores.smallest_p_value > LEVEL


def test_the_documented_numbers_are_these():
    table = (ROOT / "docs" / "evaluation.md").read_text().partition("**Images needed to see it.**")[2]
    lines = re.findall(r"^\| (.*) \|$", table.partition("\n\nWhat is")[0], re.MULTILINE)
    rows = [line.split(" | ") for line in lines[2:]]
    for column, needed in ((2, BUNDLED_PAIR), (4, ENUMERATED_PYRAMID)):
        stated = [int(row[column].replace(",", "")) for row in rows if row[column][:1].isdigit()]
        assert sorted(stated) == sorted(needed.values())
    assert sum(len(row[1]) > 1 for row in rows) == len(IN_ITS_OWN_SETTING)
    assert set(ENUMERATED_PYRAMID) <= set(BUNDLED_PAIR)  # all of them are seen on both
