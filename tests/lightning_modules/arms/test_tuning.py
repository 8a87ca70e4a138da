"""What the arms of a run whose gamma is "auto" decode with."""

import pytest
import yaml
from lightning.pytorch import Trainer

import sdvar
from lightning_modules.arms import tuning
from lightning_modules.arms.arm import Arm
from lightning_modules.arms.tuning import take_over, tune
from lightning_modules.data.labels import ClassLabelDataModule
from lightning_modules.predictor import SDVARPredictor
from lightning_modules.writer import ImageWriter
from sdvar.planning.tuning import Choice

BASELINE, AUTO = Arm("baseline", sdvar.Baseline()), Arm("speculative", sdvar.Speculative())
SPANS = sdvar.Speculative(sdvar.Spans((3, 1)))


@pytest.fixture
def asked(monkeypatch):
    """How often, and how, it was measured what is fastest; it always is the same schedule."""
    calls = []

    def choose(strategy, pair, sampling, batch, seconds, batches):
        calls.append((strategy, sampling, batch, seconds, batches))
        return Choice(SPANS, "half the time")

    monkeypatch.setattr(tuning, "choose", choose)
    return calls


def predict(pair, out, arms=(BASELINE, AUTO), **options):
    predictor = SDVARPredictor(pair, list(arms))
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=False, enable_progress_bar=False, enable_checkpointing=False,
        callbacks=[ImageWriter(out, **options)] if out else [],
    )  # fmt: skip
    data = ClassLabelDataModule([0, 1, 2], images_per_class=2, batch_size=4)
    trainer.predict(predictor, datamodule=data, return_predictions=False)
    return predictor


def stored(file):
    """The arms of a run's settings."""
    return yaml.safe_load(file.read_text())["arms"]


def test_a_choice_is_printed_stored_and_kept_by_the_same_command(pair, tmp_path, asked, capsys):
    predictor = predict(pair, tmp_path / "run")
    assert capsys.readouterr().out == f"speculative: gamma 'auto' is {SPANS!r}: half the time\n"
    assert [arm.decoding for arm in predictor.arms] == [sdvar.Baseline(), SPANS]
    arm = stored(tmp_path / "run" / "settings.yaml")["speculative"]
    assert arm["init_args"]["gamma"] == "auto"
    assert arm["resolved"]["init_args"]["gamma"] == {"class_path": "sdvar.Spans", "init_args": {"scales": [3, 1]}}
    assert arm["text"] == str(SPANS)
    assert asked == [(AUTO.strategy, sdvar.Sampling(), 4, 15.0, 4)]  # two batches of two arms

    (tmp_path / "run" / "speculative" / "000" / "000001.png").unlink()
    again = predict(pair, tmp_path / "run")
    assert again.arms == predictor.arms
    assert len(asked) == 1
    predict(pair, tmp_path / "run", overwrite=True)
    assert len(asked) == 2


def test_a_folder_that_is_refused_costs_no_measuring(pair, tmp_path, asked):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(ValueError, match="contains no run"):
        predict(pair, tmp_path)
    assert asked == []


def test_without_a_folder_the_predictor_chooses(pair, asked):
    assert predict(pair, None).arms[1].decoding == SPANS
    assert len(asked) == 1


def test_arms_share_the_time_and_each_has_its_own_sampling(pair, asked):
    own = Arm("own", sdvar.Speculative(redraft="target"), sampling=sdvar.Sampling(cfg=3.0))
    arms = tune([BASELINE, AUTO, own], {None: pair}, sdvar.Sampling(), 4, batches=10)
    assert [arm.resolved for arm in arms] == [None, SPANS, SPANS]
    assert [(sampling.cfg, seconds, batches) for _, sampling, _, seconds, batches in asked] == [
        (1.5, 7.5, 15),
        (3.0, 7.5, 15),
    ]


def test_what_was_chosen_for_something_else_is_not_taken_over():
    chosen = Arm("speculative", AUTO.strategy, resolved=SPANS)
    earlier = yaml.safe_load(yaml.safe_dump({"speculative": chosen.describe()}))
    assert take_over([BASELINE, AUTO], earlier) == [BASELINE, chosen]
    assert take_over([AUTO], {}) == [AUTO]
    other = Arm("speculative", sdvar.Speculative(redraft="target"))
    assert take_over([other], earlier) == [other]
    fixed = Arm("speculative", sdvar.Speculative(2))
    assert take_over([fixed], earlier) == [fixed]


@pytest.mark.parametrize("place", ["class_path", "init_args"])
def test_a_folder_names_no_code_to_run(place, tmp_path, monkeypatch):
    """Neither as the class nor as an argument: a text that looks like a class is imported by no means."""
    (tmp_path / "planted.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    earlier = Arm("speculative", AUTO.strategy, resolved=SPANS).describe()
    changed = {"class_path": "planted.Rule", "init_args": {"gamma": 2, "acceptance": "planted.Rule"}}
    earlier["resolved"][place] = changed[place]
    with pytest.raises(ValueError, match=r"strategy 'speculative': resolved: .*got '?planted\.Rule"):
        take_over([AUTO], {"speculative": earlier})
