"""claim.json as a run writes it: complete, without paths, the same each time."""

import json

import pytest
import yaml

from eval.claims.schema import claim_schema
from eval.claims.write import portable, write_claim
from eval.metrics.registry import columns
from lightning_modules.run.contents import MARKER
from lightning_modules.run.finished import read_run
from tests.eval.metrics.json_schema import violations


def claim_of(out):
    return json.loads((out / "claim.json").read_text())


def test_a_claim_fits_its_schema(decoded):
    claim = claim_of(decoded)
    assert violations(claim, claim_schema()) == []
    claim["models"]["target"]["sha256"] = "none"
    claim["arms"]["lossy"]["figures"]["beauty"] = 1
    del claim["images"]["seed"]
    assert len(violations(claim, claim_schema())) == 3


def test_a_claim_has_the_figures_and_what_decoded(decoded):
    claim, metrics = claim_of(decoded), json.loads((decoded / "metrics.json").read_text())
    keys = {key for column in columns() for key in (column.key, column.interval_key)}
    for name, arm in metrics["arms"].items():
        figures = claim["arms"][name]["figures"]
        assert figures == {key: arm[key] for key in figures} and figures.keys() >= keys & arm.keys()
    arms = claim["arms"]
    assert arms["lossy"]["strategy"]["init_args"]["acceptance"]["init_args"] == {"tau": 0.5, "keep": "draft"}
    assert arms["baseline_reseeded"]["strategy"]["reseed"] and arms["baseline_reseeded"]["seed_offset"] > 0
    assert [claim["images"][name] for name in ("count", "index")] == [20, "0-19"]
    assert claim["models"]["draft"]["name"] == "draft.safetensors"
    assert claim["reference"]["name"] == "small.parquet" and len(claim["reference"]["sha256"]) == 64
    assert arms["speculative"]["png"] == arms["baseline"]["png"] != arms["lossy"]["png"]


def test_a_claim_names_no_path_and_is_the_same_each_time(decoded, copied_run):
    written = (decoded / "claim.json").read_text()
    assert str(decoded.parent) not in written and "/tmp" not in written
    metrics = json.loads((copied_run / "metrics.json").read_text())
    (copied_run / "claim.json").unlink()
    write_claim(read_run(copied_run), metrics)
    assert (copied_run / "claim.json").read_text() == written


def test_a_schedule_that_was_chosen_stands_for_auto(copied_run):
    settings = yaml.safe_load((copied_run / "settings.yaml").read_text())
    arm = settings["arms"]["lossy"]
    arm["resolved"] = {"class_path": arm["class_path"], "init_args": dict(arm["init_args"])}
    arm["init_args"] = {"gamma": "auto"}
    (copied_run / "settings.yaml").write_text(yaml.safe_dump(MARKER | settings, sort_keys=False))
    write_claim(read_run(copied_run), json.loads((copied_run / "metrics.json").read_text()))
    strategy = claim_of(copied_run)["arms"]["lossy"]["strategy"]
    assert strategy["init_args"]["gamma"] == 2 and "resolved" not in strategy


def test_tokens_that_were_not_kept_have_no_digest(copied_run):
    (copied_run / "lossy/tokens/000001.zlib").unlink()
    write_claim(read_run(copied_run), json.loads((copied_run / "metrics.json").read_text()))
    claim = claim_of(copied_run)
    assert [place for place, word in enumerate(claim["arms"]["lossy"]["tokens"].split()) if word == "-"] == [
        *range(6, 12)
    ]
    assert violations(claim, claim_schema()) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/home/ann/var_d30.pth", "var_d30.pth"),
        ("ckpt/last.pth::trainer/vae", "last.pth::trainer/vae"),
        ("hf://owner/repo/var_d16.pth@main", "hf://owner/repo/var_d16.pth@main"),
        ("target:int8", "target:int8"),
        ("d16", "d16"),
    ],
)
def test_a_file_is_named_without_its_folder(source, name):
    assert portable(source) == name
