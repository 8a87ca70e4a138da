"""The options of the main job: what a command line and a config stand for."""

import pytest
import yaml

import sdvar
from eval.cli.arms import default_arms
from eval.cli.options import as_config, parse
from lightning_modules.arms.arm import build_arms
from tests.paths import ROOT

ARMS = ["baseline", "speculative", "tail", "handoff", "baseline_reseeded"]


def test_a_noise_floor_is_added_once():
    few, default = (parse([*line, "--noise_floor"]) for line in (["--strategy", "Speculative"], []))
    assert list(few.strategy) == ["speculative", "baseline_reseeded"]
    assert default.strategy == parse([]).strategy
    (floor,) = (arm for arm in build_arms(few.strategy) if arm.reseed)
    assert (floor.name, floor.strategy) == ("baseline_reseeded", sdvar.Baseline())


def without(options, *names: str) -> dict:
    return {name: value for name, value in as_config(options).items() if name not in names}


def test_the_shipped_config_is_the_default_run():
    shipped = parse(["--config", str(ROOT / "configs" / "fid_tiny.yaml")])
    default = parse([])
    assert shipped.labels == "0-9" and default.labels is None  # all classes, which are these
    scales = len(sdvar.load_pair(default.pair).pyramid)
    both = shipped.strategy, default_arms(scales, default.pair)
    arms = [{arm.name: arm.config() for arm in build_arms(one)} for one in both]
    assert default.strategy is None and arms[0] == arms[1] and list(arms[0]) == ARMS
    assert without(shipped, "strategy", "labels") == without(default, "strategy", "labels")


def test_the_config_that_measures_the_bundled_target_has_one_arm_and_the_defaults_else():
    one_arm, default = parse(["--config", str(ROOT / "configs" / "fid_tiny_10k.yaml")]), parse([])
    assert [arm.name for arm in build_arms(one_arm.strategy)] == ["baseline"]
    assert one_arm.images_per_class == 1000
    names = ("strategy", "images_per_class", "out")
    assert without(one_arm, *names) == without(default, *names)


def test_an_option_on_the_command_line_wins_over_the_config_wherever_it_stands(tmp_path):
    config = tmp_path / "config.yaml"
    config.write_text("seed: 1\nsampling: {top_k: 7}\n")
    options = parse(["--seed", "2", "--config", str(config)])
    assert (options.seed, options.sampling.top_k, options.sampling.cfg) == (2, 7, 1.5)


@pytest.mark.parametrize(
    ("given", "temperature"),
    [([], 1.0), (["0.9"], 0.9), (["1.1,1.1,1.0"], [1.1, 1.1, 1.0]), (["[1.1, 1]"], [1.1, 1.0])],
    ids=str,
)
def test_a_temperature_is_a_number_or_one_a_scale(given, temperature, tmp_path):
    options = parse([*(["--sampling.temperature"] if given else []), *given])
    assert options.sampling.temperature == temperature
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(as_config(options)))
    assert parse(["--config", str(config)]).sampling.temperature == temperature


def test_strategies_of_the_command_line_take_the_parameters_that_follow_them():
    line = "--strategy fast=Speculative --strategy.gamma 3 --seed 1 --strategy.acceptance Match "
    line += "--strategy.acceptance.tau=0.7 --strategy Handoff --strategy.entry 2 "
    line += "--strategy x=Baseline --strategy.reseed true"
    baseline, fast, handoff, other = build_arms(parse(line.split()).strategy)
    assert str(baseline.strategy) == "Baseline(model='target')"
    assert (fast.name, str(fast.strategy)) == ("fast", "Speculative(gamma=3, acceptance=Match(tau=0.7, keep='draft'))")
    assert (handoff.name, handoff.strategy.entry) == ("handoff", 2)
    assert (other.name, other.reseed, baseline.reseed) == ("x", True, False)
