"""eval/verify.py: a real run's claim is reproduced, from the weights alone too, and every change of it is found."""

import json
import shutil

import numpy as np
import pytest
import yaml
from PIL import Image

from eval import fid, verify
from lightning_modules.run.contents import MARKER
from tests.eval.claims.changes import changed, digit, word

ARMS = ["baseline", "speculative", "lossy", "baseline_reseeded"]
GUIDED = """
    --images_per_class 1 --batch_size 5 --threads 1 --accelerator cpu --metrics none --cfg 4 --sampling.cfg_until 2
    --strategy Speculative --strategy.gamma 2 --strategy own=Baseline --strategy.sampling.cfg 0,1,4,0
"""


@pytest.fixture
def claim_file(decoded, tmp_path):
    """The claim without its run."""
    return shutil.copy(decoded / "claim.json", tmp_path / "claim.json")


@pytest.fixture
def check(pair_files, capsys):
    """Runs the command with the pair's files: (exit status, what it says)."""

    def check(claim, *options, files=pair_files):
        line = [text for name, file in files.items() for text in (f"--{name}", str(file))]
        try:
            status = verify.main([str(claim), *line, *options])
        except SystemExit as stopped:
            error = capsys.readouterr().err
            assert stopped.code == 2 and error.startswith("eval/verify.py: error: ") and error.count("\n") == 1
            return 2, error
        return status, capsys.readouterr().out

    return check


def test_a_claim_beside_its_run_is_reproduced(decoded, check):
    status, said = check(decoded / "claim.json")
    assert status == 0, said
    assert [line for line in said.splitlines() if "reproduced" in line] == [
        f"{arm}: reproduced: 20 of 20 images" for arm in ARMS
    ]
    assert f"compared with the run in {decoded}" in said
    figures = json.loads((decoded / "claim.json").read_text())["arms"].values()
    count = sum(len(arm["figures"]) for arm in figures)
    assert "not checked" not in said and sum(map(int, numbers(said.splitlines()[-1]))) == count


def test_a_claim_without_its_run_is_reproduced_from_the_weights(claim_file, check):
    status, said = check(claim_file, "--images", "5", "--seed", "3", "--arms", "lossy,baseline_reseeded")
    assert status == 0, said
    assert said.splitlines()[1:3] == [f"{arm}: reproduced: 5 of 5 images" for arm in ("lossy", "baseline_reseeded")]
    assert "the claim alone" in said and "are not checked" in said


def test_guidance_by_scale_is_decoded_again(pair_line, tmp_path, check):
    """Of the run, and of an arm's own; other guidance is found."""
    out = tmp_path / "run"
    fid.main([*pair_line, *GUIDED.split(), "--out", str(out)])
    claim = out / "claim.json"
    status, said = check(claim)
    assert status == 0 and said.count("reproduced: 5 of 5 images") == 3, said
    status, said = check(changed(claim, ("sampling", "cfg_until"), None), "--run", "none")
    assert status == 1 and "own: reproduced" in said and "baseline: 5 of 5 images are not reproduced" in said, said


def numbers(text):
    return ["".join(filter(str.isdigit, part)) or "0" for part in text.split(",")]


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (
            ("arms", "lossy", "png"),
            word(7, digit),
            "image 7 (label 0, seed 7): its tokens are as claimed, its PNG is not",
        ),
        (
            ("arms", "lossy", "tokens"),
            word(7, lambda text: digit(text, 9)),
            "image 7 (label 0, seed 7), scale 2: tokens",
        ),
        (
            ("arms", "lossy", "target_calls"),
            word(7, lambda text: "9"),
            "the image is as claimed, target_calls is not: cl",
        ),
        (
            ("images", "label"),
            word(7, lambda text: "1"),
            "1 of 20 images are not reproduced; the first is image 7 (label",
        ),
        (
            ("images", "seed"),
            word(7, lambda text: "77"),
            "1 of 20 images are not reproduced; the first is image 7 (label",
        ),
        (("sampling", "cfg"), 4.0, "images are not reproduced"),
        (
            ("arms", "lossy", "strategy", "init_args", "acceptance", "init_args", "tau"),
            0.9,
            "images are not reproduced",
        ),
        (("arms", "lossy", "strategy", "init_args", "gamma"), 1, "images are not reproduced"),
    ],
)
@pytest.mark.one_in(2)
def test_what_a_claim_says_otherwise_is_found(claim_file, path, value, message, check):
    status, said = check(changed(claim_file, path, value), "--arms", "lossy")
    assert status == 1 and message in said, said


def test_the_schedule_of_an_exact_arm_is_told_by_its_calls(claim_file, check):
    """Its images are the baseline's, whatever it drafts."""
    file = changed(claim_file, ("arms", "speculative", "strategy", "init_args", "gamma"), 1)
    status, said = check(file, "--arms", "speculative")
    assert status == 1 and "the image is as claimed, " in said, said


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("target_calls_mean", 1.5, "lossy: target_calls_mean: claimed 1.5, its own digests and counts give"),
        ("identical_images", 19, "lossy: identical_images: claimed 19, its own digests and counts give"),
        ("images_differing_from_baseline", 0, "lossy: images_differing_from_baseline: claimed 0, its own digests"),
    ],
)
def test_a_figure_that_does_not_follow_is_found(claim_file, name, value, message, check):
    status, said = check(changed(claim_file, ("arms", "lossy", "figures", name), value), "--images", "1")
    assert status == 1 and message in said, said


def test_figures_beside_a_run_are_those_of_its_tables_and_of_its_metrics(copied_run, check):
    changed(copied_run / "claim.json", ("arms", "lossy", "figures", "images_per_second"), 1e6)
    changed(copied_run / "claim.json", ("arms", "lossy", "figures", "psnr_mean"), 99.0)
    status, said = check(copied_run / "claim.json", "--images", "1")
    assert status == 1, said
    assert "lossy: images_per_second: claimed 1e+06, the run's tables give" in said
    assert "lossy: psnr_mean: claimed 99, metrics.json has" in said


def test_a_changed_pixel_of_the_run_is_found(copied_run, check):
    file = copied_run / "lossy/000/000007.png"
    pixels = np.array(Image.open(file))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(file)
    status, said = check(copied_run / "claim.json", "--arms", "lossy")
    assert status == 1 and f"1 of 20 files are not those of the manifest; the first is {file}" in said
    assert "reproduced: 20 of 20 images" in said


def test_changed_tokens_of_the_run_are_found_and_the_first_one_named(copied_run, check):
    """As someone would who makes all digests anew: the run agrees with its claim, and not with the weights."""
    from eval.claims.write import write_claim
    from lightning_modules.run.finished import read_run

    run = read_run(copied_run)
    table = run.folder.batches("lossy")
    rows = table.read()
    tokens = run.folder.read_tokens("lossy", 1, (6, 30), rows[1]["tokens_sha256"]).copy()
    tokens[1, 9] = (tokens[1, 9] + 1) % 24  # image 7, scale 2, token 4
    rows[1]["tokens_sha256"] = run.folder.write_tokens("lossy", 1, tokens)
    table.replace(rows)
    status, said = check(copied_run / "claim.json", "--arms", "lossy")
    assert status == 1 and "the run's manifest is not the claimed one" in said
    assert "; first at image 7: tokens claimed " in said
    write_claim(run, json.loads((copied_run / "metrics.json").read_text()))
    status, said = check(copied_run / "claim.json", "--arms", "lossy")
    assert status == 1 and "1 of 20 images are not reproduced; the first is image 7 (label 0, seed 7), scale 2" in said
    assert f"scale 2, token 4 of 9 ({tokens[1, 9]} in the run, " in said


def test_a_difference_on_another_machine_is_told_as_such(claim_file, check):
    changed(claim_file, ("environment", "versions", "torch"), "1.0")
    changed(claim_file, ("environment", "processor"), "abacus")
    status, said = check(claim_file, "--arms", "lossy", "--images", "2")
    assert status == 0 and "another machine" not in said
    changed(claim_file, ("arms", "lossy", "png"), word(7, digit))
    status, said = check(claim_file, "--arms", "lossy")
    assert (
        status == 1 and "this is another machine than the claim's, which can be why: processor 'abacus' there, " in said
    )
    assert "torch '1.0' there, " in said


def test_other_weights_are_refused(claim_file, pair_files, tmp_path, check):
    other = tmp_path / "other.safetensors"
    other.write_bytes(pair_files["target"].read_bytes() + b" ")
    status, said = check(claim_file, files=pair_files | {"target": other})
    assert status == 2 and "target: the claim's is 'target.safetensors' with the SHA-256 " in said
    assert f", which {other} has not" in said
    status, said = check(claim_file, files={})
    assert status == 2 and said.rstrip().endswith("give it by --draft FILE")


def test_an_arms_own_draft_is_found_by_its_digest(claim_file, pair_files, check):
    claim = json.loads(claim_file.read_text())
    own = {"draft": "elsewhere.pth", "draft_sha256": claim["models"]["draft"]["sha256"]}  # the same weights
    claim["arms"]["lossy"]["strategy"]["draft"] = own.pop("draft")
    claim["arms"]["lossy"] |= own
    claim_file.write_text(json.dumps(claim))
    assert check(claim_file, "--arms", "lossy", "--images", "2")[0] == 0
    changed(claim_file, ("arms", "lossy", "draft_sha256"), "0" * 64)
    status, said = check(claim_file, "--arms", "lossy")
    assert (
        status == 2 and f"strategy 'lossy': draft: the claim's is 'elsewhere.pth' with the SHA-256 {'0' * 64}" in said
    )
    changed(claim_file, ("arms", "lossy", "strategy", "draft"), "target:first=1")
    changed(claim_file, ("arms", "lossy", "draft_sha256"), None)
    status, said = check(claim_file, "--arms", "lossy")
    assert status == 1 and "images are not reproduced" in said


def test_a_claim_imports_nothing_that_the_user_does_not_name(claim_file, tmp_path, check, monkeypatch):
    source = "from dataclasses import dataclass\nimport sdvar\nprint('imported')\n"
    (tmp_path / "planted.py").write_text(f"{source}@dataclass(frozen=True)\nclass Rule(sdvar.Match):\n    pass\n")
    monkeypatch.chdir(tmp_path)
    place = ("arms", "lossy", "strategy", "init_args", "acceptance")
    for rule in ("planted.Rule", {"class_path": "planted.Rule"}):
        status, said = check(changed(claim_file, place, rule))
        assert status == 2 and "strategy 'lossy': " in said and "--allow module.Class" in said
        assert "imported" not in said
    status, said = check(claim_file, "--arms", "lossy", "--allow", "planted.Rule")
    assert status == 2 and "the file of planted.Rule is not the one that decoded" in said
    from sdvar.checkpoints import sha256

    changed(claim_file, ("arms", "lossy", "source_sha256"), {"planted.Rule": sha256(tmp_path / "planted.py")}, None)
    assert check(claim_file, "--arms", "lossy", "--allow", "planted.Rule", "--images", "2")[0] == 0


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("patch_nums",), [1, 2, 3, 5], "patch_nums: the models have [1, 2, 3, 4], got [1, 2, 3, 5]"),
        (("num_classes",), 7, "num_classes: the models have 5, got 7"),
        (("images", "label"), word(0, lambda text: "9"), "images: label: expected 0 to 5, got 9"),
        (("models", "draft"), {"name": "/etc/passwd"}, "names no draft that could be found"),
        (("models", "pair"), "../../up", "pair: expected a bundled pair"),
        (("arms", "lossy", "strategy", "draft"), "/etc/passwd", "it has no SHA-256 and cannot be found"),
        (("arms", "lossy", "strategy", "init_args", "gamma"), "auto", "expected the schedule that was chosen"),
        (("arms", "lossy", "strategy", "init_args", "verify_scales"), 9, "verify_scales: expected 0 to 4"),
        (("arms", "lossy", "strategy", "sampling"), {"cfg": "x"}, "strategy 'lossy': sampling: cfg: expected"),
    ],
)
def test_a_claim_that_cannot_be_used_is_one_error(claim_file, path, value, message, check):
    status, said = check(changed(claim_file, path, value))
    assert status == 2 and message in said, said


def test_options_and_folders_that_do_not_fit_are_named(decoded, claim_file, copied_run, tmp_path, check):
    assert "did you mean lossy?" in check(claim_file, "--arms", "losy")[1]
    assert "images: expected" in check(claim_file, "--images", "0")[1]
    assert "contains no run" in check(claim_file, "--run", str(tmp_path))[1]
    assert check(claim_file, "--run", str(decoded), "--images", "1", "--arms", "baseline")[0] == 0
    metrics = (copied_run / "metrics.json").read_text()
    (copied_run / "metrics.json").write_text(metrics[:-9])
    assert "measure the run again, or leave it out by --run none" in check(copied_run / "claim.json")[1]
    (copied_run / "metrics.json").write_text(metrics)
    settings = yaml.safe_load((copied_run / "settings.yaml").read_text())
    del settings["arms"]["lossy"]
    (copied_run / "settings.yaml").write_text(yaml.safe_dump(MARKER | settings, sort_keys=False))
    assert "lacks arms of the claim: lossy; --run none" in check(copied_run / "claim.json")[1]
