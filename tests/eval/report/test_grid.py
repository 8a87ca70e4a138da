"""eval.report.grid: which images are shown, and how far they are from the baseline's."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from eval.report.grid import SHOWN_ARMS, amplification, choose, difference, differences, picture, section
from eval.report.run import load_run
from tests.eval.finished_run import arms, write_run


def opened(source):
    return Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2])))


def test_grid_shows_the_most_different_first_and_typical_ones_of_many_classes(reported):
    run = load_run(reported)
    context = section(run)
    assert [half["title"] for half in context["halves"]] == ["Largest differences", "Typical differences"]
    found = {index: {"a": float(index)} for index in range(40)}
    labels = {index: str(index // 10) for index in found}
    most, typical = choose(found, labels)
    assert most == [39, 38, 37, 36, 35, 34]
    assert {labels[index] for index in typical} == {"0", "1", "2", "3"}
    assert not set(most) & set(typical)


def test_grid_of_equal_images_has_typical_ones_only():
    most, typical = choose({index: {"a": 0.0} for index in range(20)}, dict.fromkeys(range(20), "0"))
    assert most == [] and len(typical) == 6


def test_images_with_other_seeds_or_missing_partners_are_left_out(reported):
    rows = {"seed": "0", "label": "0", "file": "000/000000.png", "tokens_equal_baseline": "1"}
    manifests = {"baseline": {0: rows, 1: rows, 2: rows}, "speculative": {0: rows, 1: rows | {"seed": "7"}}}
    assert differences(load_run(reported), ["speculative"], manifests) == {0: {"speculative": 0.0}}


def test_differences_are_amplified_by_the_factor_that_the_page_gives(reported):
    context = section(load_run(reported))
    factor, case = context["factor"], context["halves"][0]["cases"][0]
    assert factor in (1, 2, 4, 8, 16, 32)
    baseline, *others = case["cells"]
    assert baseline["difference"] is None
    mine = np.asarray(opened(baseline["source"]).convert("RGB"), int)
    for cell in others:
        theirs = np.asarray(opened(cell["source"]).convert("RGB"), int)
        shown = np.asarray(opened(cell["difference"]).convert("RGB"), int)
        assert np.array_equal(shown, np.minimum(abs(theirs - mine) * factor, 255)), cell["arm"]
    assert f"amplified {factor} times" in (reported / "report.html").read_text()


@pytest.mark.parametrize(("largest", "factor"), [(255.0, 1), (128.0, 1), (127.0, 2), (3.0, 32), (0.0, 1)])
def test_small_differences_are_amplified_more(largest, factor):
    assert amplification([np.full((4, 4, 3), -largest, np.float32), np.zeros((4, 4, 3), np.float32)]) == factor
    assert amplification([]) == 1


def test_large_images_are_compressed_for_the_page(tmp_path):
    rng = np.random.default_rng(0)
    ramp = np.add.outer(np.arange(256), np.arange(256)) // 2 * 0.9 + rng.integers(0, 20, (256, 256))
    ramp = ramp.astype(np.uint8)
    files = [tmp_path / f"{name}.png" for name in "ab"]
    for shift, file in enumerate(files):
        Image.fromarray(np.roll(ramp, 5 * shift, 0)).convert("RGB").save(file)
    for source in (picture(files[0]), difference(*files, 4)):
        assert source.startswith("data:image/webp;base64,") and len(source) < files[0].stat().st_size
        assert opened(source).size == (256, 256)
    near = abs(np.asarray(opened(picture(files[0])).convert("RGB"), int) - np.asarray(Image.open(files[0]), int))
    assert near.mean() < 8


def test_of_many_arms_those_on_the_frontier_are_shown(tmp_path):
    run = {name: arm for name, arm in arms().items() if name != "handoff"}
    for index in range(10):
        run[f"slow_{index}"] = run["lossy"] | {"speed_relative_to_baseline": 0.5, "images": 8}
    run |= {name: arm | {"images": 8} for name, arm in run.items()}
    context = section(load_run(write_run(tmp_path / "run", run)))
    shown = [cell["arm"] for cell in context["halves"][0]["cases"][0]["cells"]]
    assert len(shown) == 1 + SHOWN_ARMS and shown[:3] == ["baseline", "speculative", "lossy"]
    assert len(context["left_out"]) == 12 - SHOWN_ARMS
