"""Options that a benchmark or a plan refuses: one line, by the options alone or once the models are known."""

from importlib import import_module

import pytest

from eval import benchmark, plan

BENCHMARK, PLAN = "eval.benchmarking.options", "eval.planning.options"
WRONG = [
    (BENCHMARK, "--batch_size 0", "batch_size: expected different ints >= 1 such as 1,4, or auto; got 0"),
    (BENCHMARK, "--batch_size 1,x", "batch_size: expected different ints"),
    (BENCHMARK, "--random_weights d36,d16", "d36 makes images of 512 px"),
    (BENCHMARK, "--random_weights d17", "expected TARGET or TARGET,DRAFT of d16"),
    (BENCHMARK, "--pair tiny --random_weights d16", "got --pair, --random_weights"),
    (BENCHMARK, "--acceptance 0.5", "acceptance: expected simulated:RATES"),
    (BENCHMARK, "--acceptance simulated:2", "acceptance: expected simulated:RATES"),
    (BENCHMARK, "--out results.txt", "out: expected a .json file"),
    (BENCHMARK, "--out none/results.json", "out: expected a file that can be written"),
    (BENCHMARK, "--repeats 0", "repeats: expected an int >= 1, got 0"),
    (BENCHMARK, "--warmup 0", "warmup: expected an int >= 1, got 0"),
    (BENCHMARK, "--strategy Baseline --strategy.reseed true", "a benchmark compares the same seeds"),
    (BENCHMARK, "--original /", "original: expected a checkout of the VAR code"),
    (PLAN, "--batch_size 0", "batch_size: expected an int >= 1, got 0"),
    (PLAN, "--images 0", "images: expected an int >= 1, got 0"),
    (PLAN, "--seconds 0", "seconds: expected a number above 0, got 0"),
    (PLAN, "--max_disagreement 2", "max_disagreement: expected a number from 0 to 1, got 2"),
    (PLAN, "--pair tiny --random_weights d16", "got --pair, --random_weights"),
    (PLAN, "--random_weights d30,d16 --draft target:int8", "expected the target alone with --draft target:int8"),
    (PLAN, "--pair tiny --draft target:int8 --target x", "got --pair, --draft, --target"),
    (PLAN, "--random_weights d30,d16", "random_weights: expected --acceptance simulated:RATES too"),
    (PLAN, "--acceptance simulated:1 --max_disagreement 0.5", "max_disagreement: expected 0 with --acceptance"),
    (PLAN, "--acceptance simulated:1 --out plan.yaml", "out: expected none with simulated acceptance"),
    (PLAN, "--out plan.txt", "out: expected a .yaml file in a folder that exists, got 'plan.txt'"),
    (PLAN, "--out none/plan.yaml", "out: expected a .yaml file in a folder that exists"),
]


@pytest.mark.parametrize(("module", "arguments", "error"), WRONG)
def test_a_wrong_option_is_one_clear_error(module, arguments, error):
    with pytest.raises(ValueError) as caught:
        import_module(module).parse(arguments.split())
    assert error in str(caught.value) and "\n" not in str(caught.value)


LATE = [
    (benchmark, "--strategy Nope", "Parallel, Speculative, or module.Class, got 'Nope'"),
    (benchmark, "--acceptance simulated:1,1", "acceptance: expected one rate or 6, one per scale, got 2"),
    (benchmark, "--acceptance simulated:1 --strategy Baseline", "expected a --strategy Speculative whose rule it"),
    (benchmark, "--batch_size 100000000", "are free; 256 fits"),
    (plan, "--acceptance simulated:1,1", "acceptance: expected one rate or 6, one per scale, got 2"),
    (plan, "--sampling.temperature 1.1,1.0", "temperature: expected one number or 6, one per scale, got 2"),
    (plan, "--batch_size 100000000", "are free; 256 fits"),
    (plan, "--pair huge", "huge"),
]


@pytest.mark.parametrize(("command", "arguments", "error"), LATE)
def test_what_only_the_models_tell(command, arguments, error, refused, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.set_num_threads", lambda number: None)
    said = refused(command.main, [*arguments.split(), "--threads", "1", "--accelerator", "cpu"])
    assert said.startswith(f"eval/{command.__name__.rpartition('.')[2]}.py: error: ") and error in said
