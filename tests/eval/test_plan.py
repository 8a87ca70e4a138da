"""The planner by its command, on a pair small enough to decode in milliseconds."""

from pathlib import Path

import pytest
import torch
import yaml

import sdvar
from eval import fid, plan
from eval.cli.options import parse as parse_fid
from eval.planning.result import tokens_line, verdict
from lightning_modules.arms.arm import build_arms
from sdvar.planning.candidates import Candidate
from sdvar.planning.comparison import Timed

SIZE = ["--threads", "1", "--accelerator", "cpu", "--seconds", "0.1", "--images", "4", "--batch_size", "3"]


@pytest.fixture(autouse=True)
def settings_as_before(monkeypatch):
    """The command sets the threads of the process. One turn is enough to see what it says."""
    monkeypatch.setattr("eval.planning.planner.TURNS", (1, 200))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_plan_is_printed_and_its_config_runs(pair_line, tmp_path, capsys, refused, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan.main([*SIZE, *pair_line])
    printed = capsys.readouterr()
    for name in ("baseline", "fixed_1", "fixed_2", "spans_"):
        assert name in printed.out
    assert printed.out.count("> ") == 1
    assert "eval/fid.py --config plan.yaml runs it" in printed.out
    assert "measuring costs" in printed.err
    text = Path("plan.yaml").read_text()
    config = yaml.safe_load(text)
    assert text.startswith("# From eval/plan.py: batch 3, 32-true, on ")
    assert (config["batch_size"], config["threads"], config["out"]) == (3, 1, "runs/plan")
    of_own_checkpoints = {"cfg": 1.5, "top_k": 900, "top_p": 0.96, "temperature": 1.0}
    assert config["sampling"] == of_own_checkpoints
    (_, arm) = build_arms(parse_fid(["--config", "plan.yaml"]).strategy)
    assert arm.name == "planned"
    assert arm.strategy.exact
    assert arm.strategy != sdvar.Baseline()

    fid.main(["--config", "plan.yaml", "--labels", "0-2", "--images_per_class", "1", "--metrics", "none"])
    assert Path("runs/plan/planned/manifest.csv").is_file()
    assert "out: 'plan.yaml' exists; --overwrite replaces it" in refused(plan.main, [*SIZE, *pair_line])
    assert Path("plan.yaml").read_text() == text


def test_lossy_and_simulated_plans_say_so(pair_line, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan.main([*SIZE, *pair_line, "--max_disagreement", "1", "--out", "lossy.yaml"])
    printed = capsys.readouterr().out
    assert "tokens that differ" in printed
    assert "draft_alone" in printed or "_then_" in printed
    plan.main([*SIZE, *pair_line, "--acceptance", "simulated:1,1,0,0"])
    printed = capsys.readouterr().out
    assert "Acceptance is simulated" in printed
    assert "eval/fid.py" not in printed
    assert not Path("plan.yaml").exists()


BASELINE = Candidate("baseline", sdvar.Baseline(), 1.0)
FIXED = [Candidate(f"fixed_{n}", sdvar.Speculative(n), 1.2 + n / 10) for n in (1, 2)]
SPANS = Candidate("spans_3_1", sdvar.Speculative(sdvar.Spans((3, 1))), 0.9)
TAIL = Candidate("target_2_then_draft", sdvar.Handoff(2, first="target"), 0.5, differing=0.25)


def test_the_verdict_names_what_to_use():
    candidates = [SPANS, BASELINE, *FIXED]
    seconds = {"spans_3_1": 0.8, "baseline": 1.0, "fixed_1": 2.0, "fixed_2": 1.6}
    timed = {name: Timed(seconds=[value] * 3) for name, value in seconds.items()}
    (line,) = verdict(SPANS, candidates, timed)
    assert "1.25 times the baseline's speed, 2.00 times the best fixed gamma's (2)" in line
    assert repr(SPANS.strategy) in line
    use, model = verdict(BASELINE, candidates, timed)
    assert "speculation does not pay" in use
    assert "expected spans_3_1 to be faster; measured, baseline ran at 0.80 times its speed" in model


def test_tokens_are_reported_as_they_were_found():
    assert tokens_line(SPANS, Timed(differing=[0, 0])) == "Lossless: every token is the baseline's in all 2 images."
    near = tokens_line(SPANS, Timed(differing=[0, 0.1, 0.2], score_gaps=[1e-6, 0.5]))
    assert "1 of 3 images have every token of the baseline, 1 first differ by a near-tie of rounding, 1 by more" in near
    lossy = tokens_line(TAIL, Timed(differing=[0.2, 0.4]))
    assert lossy == "Lossy: 0.300 of the tokens differ from the baseline's, 0.250 were expected (2 images)."


def test_running_out_of_memory_names_the_batch(monkeypatch, capsys, tmp_path):
    def run_out(*arguments, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("eval.planning.planner.measure_costs", run_out)
    with pytest.raises(SystemExit):
        plan.main([*SIZE, "--batch_size", "8"])
    assert "batch_size: 8 ran out of memory" in capsys.readouterr().err
