"""Claims from strangers: what is damaged, foreign, newer or hostile is one error, and names nothing that is loaded."""

import json
import os
import random

import pytest

from eval import verify
from eval.claims.read import read_claim
from tests.eval.claims.changes import changed, digit
from tests.security.test_records import REMOVED, VALUES, outcome, places
from tests.security.test_records import changed as with_value


@pytest.fixture
def claim_file(decoded, tmp_path):
    file = tmp_path / "claim.json"
    file.write_bytes((decoded / "claim.json").read_bytes())
    return file


def test_a_claim_is_read(claim_file):
    claim = read_claim(claim_file)
    assert claim.pair is None and claim.engine.threads == 1 and len(claim.labels) == 20
    arm = claim.arms["baseline_reseeded"]
    assert arm.seeds[3] - claim.seeds[3] == arm.seeds[0] - claim.seeds[0] > 0 and arm.strategy.keys() == {
        "class_path",
        "init_args",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be read"),
        ("{", "cannot be read"),
        pytest.param("[" * 100_000, "cannot be read", id="deep"),
        ("[]", "is none that this project wrote"),
        ("{}", "is none that this project wrote"),
        ('{"sdvar_claim": "1"}', "is none that this project wrote"),
        ('{"sdvar_claim": 2}', "has version 2 of the format, this sdvar reads 1"),
        ('{"sdvar_claim": 1}', "is damaged: models: expected a mapping, got nothing"),
        ('{"sdvar_claim": NaN}', "expected text, numbers of 64 bits"),
    ],
)
def test_what_is_no_claim_is_named(text, message, tmp_path):
    file = tmp_path / "claim.json"
    file.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_claim(file)


def test_a_claim_of_a_terabyte_is_refused(tmp_path):
    file = tmp_path / "claim.json"
    file.touch()
    os.truncate(file, 2**40)
    with pytest.raises(ValueError, match="expected at most 100,000,000 bytes"):
        read_claim(file)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere.json", "no such file"),
        ("claim.yaml", r"expected a \.json file"),
        ("", r"expected a \.json file, got the folder .*; give .*/claim\.json"),
    ],
)
def test_another_file_is_named(name, message, tmp_path):
    (tmp_path / "claim.yaml").write_text("sdvar_claim: 1")
    with pytest.raises(ValueError, match=message):
        read_claim(tmp_path / name)


ARM = ("arms", "lossy")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("patch_nums",), [1] * 101, "patch_nums: expected 1 to 100 sides"),
        (("patch_nums",), [1, 10**9], "patch_nums: expected 1 to 100 sides of 1 to 1024"),
        (("precision",), "8-true", "precision: expected one of"),
        (("device",), "tpu", "device: expected one of cpu, cuda"),
        (("batch_size",), 0, "batch_size: expected an int >= 1"),
        (("engine", "threads"), 10**9, "threads: expected 1 to 1024"),
        (("engine", "colour"), "red", "colour"),
        (("sampling", "cfg"), "high", "cfg: expected a finite number"),
        (("models", "target"), None, "models: target: expected the SHA-256 of its weights"),
        (("models", "target", "sha256"), "weights.pth", "expected a SHA-256 of 64 hexadecimal digits"),
        (("images", "sha256"), digit, "the SHA-256 of index, label and seed is not the one that it states"),
        (("images", "index"), "0-999999999", "labels"),
        (("images", "index"), "x", "images: index: expected ranges"),
        (("images", "count"), 10**9, "images: count: expected 1 to 1,000,000"),
        (("images", "label"), "0 1", "images: label: expected 20 values, one for each image, got 2"),
        (("arms",), {}, "arms: expected one or more"),
        (("arms",), {"../up": {}}, "cannot name an arm"),
        ((*ARM, "png"), "0 1", "png: expected 20 values"),
        ((*ARM, "tokens"), lambda text: text.replace(" ", "\n"), "tokens: expected 20 values"),
        ((*ARM, "target_calls"), lambda text: text.replace("3", "1000000"), "target_calls: expected"),
        ((*ARM, "seed_offset"), 2**63, "seed_offset: expected"),
        ((*ARM, "strategy", "sampling"), 3, "sampling: expected a mapping or nothing, got 3"),
        ((*ARM, "manifest_sha256"), None, "manifest_sha256: expected text, got nothing"),
    ],
)
def test_a_damaged_value_is_named(claim_file, path, value, message):
    try:
        file = changed(claim_file, path, value)
    except ValueError:  # of the digest that goes with it
        pytest.fail("the change itself")
    with pytest.raises(ValueError, match=f"claim.json is damaged: .*{message}"):
        read_claim(file)


@pytest.mark.parametrize("count", [40, pytest.param(2000, marks=pytest.mark.proof)])
def test_a_changed_value_is_no_crash(claim_file, count, capsys):
    """Whatever it is, the command ends with one line: at the latest for want of the weights."""
    record = json.loads(claim_file.read_text())
    for arm in record["arms"].values():
        arm["figures"] = dict(list(arm["figures"].items())[:3])
    changes = [(path, value) for path in places(record) for value in (*VALUES, REMOVED)]
    for path, value in random.Random(0).sample(changes, min(count, len(changes))):
        claim_file.write_text(json.dumps(with_value(record, path, value)))
        assert outcome(verify.main, capsys, claim_file), (path, value)
