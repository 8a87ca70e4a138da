"""A grid's points and their names, without any model."""

import pytest

import sdvar
from eval.cli.grid import expand, refuse_twins
from eval.sweep import parse
from lightning_modules.arms.arm import build_arms
from tests.paths import ROOT

CONFIGS = ROOT / "configs"
RELEASED_SCALES = 10


def strategies(grid: dict) -> dict[str, str]:
    return {arm.name: str(arm.strategy) for arm in build_arms(expand(grid)) if arm.name != "baseline"}


def test_a_list_gives_one_point_for_each_combination_and_names_say_what_varies():
    match = {"class_path": "Match", "init_args": {"tau": [0.5, 0.25], "keep": "draft"}}
    grid = {
        "plain": {"class_path": "Handoff", "init_args": {"entry": 2}},
        "fast": {"class_path": "Speculative", "init_args": {"gamma": [1, 3], "acceptance": match}},
    }
    assert strategies(grid) == {
        "plain": "Handoff(entry=2, first='draft', prefix='block_causal')",
        "fast_gamma1_tau0.5": "Speculative(gamma=1, acceptance=Match(tau=0.5, keep='draft'))",
        "fast_gamma1_tau0.25": "Speculative(gamma=1, acceptance=Match(tau=0.25, keep='draft'))",
        "fast_gamma3_tau0.5": "Speculative(gamma=3, acceptance=Match(tau=0.5, keep='draft'))",
        "fast_gamma3_tau0.25": "Speculative(gamma=3, acceptance=Match(tau=0.25, keep='draft'))",
    }


def test_classes_vary_with_all_their_arguments_in_the_name():
    spans = {"class_path": "Spans", "init_args": {"scales": [[3, 1, 1, 1], [2, 4]]}}
    rules = ["Coupled", {"class_path": "TopK", "init_args": {"k": 5, "tau": 0.5}}]
    grid = {"s": {"class_path": "Speculative", "init_args": {"gamma": [2, spans], "acceptance": rules}}}
    names = [f"s_{gamma}_{rule}" for gamma in ("gamma2", "spans_scales3-1x3", "spans_scales2-4")
             for rule in ("coupled", "topk_k5_tau0.5")]  # fmt: skip
    assert list(strategies(grid)) == names
    assert strategies(grid)["s_spans_scales2-4_coupled"] == (
        "Speculative(gamma=Spans(scales=(2, 4)), acceptance=Coupled())"
    )


def test_a_list_that_is_one_value_is_not_taken_apart():
    scales = {"class_path": "Spans", "init_args": {"scales": [3, 1, 1, 1]}}
    sampling = {"temperature": [1.1, 1.1, 1.0], "top_k": [10, 20]}
    grid = {"s": {"class_path": "Speculative", "init_args": {"gamma": scales}, "sampling": sampling}}
    first, second = (arm for arm in build_arms(expand(grid), sdvar.Sampling(cfg=2)) if arm.name != "baseline")
    assert (first.name, second.name) == ("s_top_k10", "s_top_k20")
    assert first.sampling == sdvar.Sampling(cfg=2, top_k=10, temperature=[1.1, 1.1, 1.0])
    assert str(first.strategy.gamma) == "Spans(scales=(3, 1, 1, 1))"


def test_guidance_varies_by_numbers_and_by_lists_of_them():
    sampling = {"cfg": [1.0, [1.5, 1.5, 0.0]], "cfg_until": 2}
    points = expand({"a": {"class_path": "Baseline", "sampling": sampling}})
    assert list(points) == ["a_cfg1.0", "a_cfg1.5x2-0.0"]
    arms = build_arms(points, sdvar.Sampling(top_k=5))[1:]
    assert [arm.sampling for arm in arms] == [sdvar.Sampling(cfg, 5, cfg_until=2) for cfg in (1.0, [1.5, 1.5, 0.0])]


def test_drafts_and_samplings_vary_like_parameters():
    grid = {"small": {"class_path": "Baseline", "init_args": {"model": "draft"},
                      "draft": ["a/var_d16.pth", "hf://o/r/var_d20.pth@v1"],
                      "sampling": {"temperature": [1.0, [1.1, 1.0]]}}}  # fmt: skip
    assert list(expand(grid)) == [
        "small_draft-var_d16_temperature1.0",
        "small_draft-var_d16_temperature1.1-1.0",
        "small_draft-var_d20_temperature1.0",
        "small_draft-var_d20_temperature1.1-1.0",
    ]


@pytest.mark.parametrize(
    ("grid", "error"),
    [
        ({"x": "Baseline"}, "grid: x: expected a mapping with class_path"),
        ({"x": {"class_path": ["Baseline", "Handoff"]}}, "grid: x: expected a mapping with class_path"),
        ({"x": {"class_path": "Handoff", "init_args": {"entry": []}}}, "grid: x: entry: expected at least one value"),
        ({"x": {"class_path": "Handoff", "init_args": [2]}}, "grid: x: init_args: expected a mapping"),
        ({"x": {"class_path": "Handoff", "init_args": {"entry": [2, 2]}}}, "two points are called 'x_entry2'"),
        ({"x": {"class_path": "Handoff", "init_args": {"entry": [2, "far"]}}}, "strategy 'x_entry-far': entry"),
        ({"x": {"class_path": "Handoff", "init_args": {"exit": [2, 3]}}}, "strategy 'x_exit2': unknown key exit"),
        ({"x": {"class_path": "Baseline", "draft": 7}}, "strategy 'x': draft: expected a text, got 7"),
        ({"x": {"class_path": "Baseline", "sampling": {"heat": 2}}}, "strategy 'x': unknown key sampling.heat"),
        ({"x": {"class_path": "Baseline", "sampling": {"top_p": 2}}}, "strategy 'x': top_p: expected"),
    ],
)
def test_a_mistake_is_named_with_its_point(grid, error):
    with pytest.raises(ValueError) as raised:
        build_arms(expand(grid))
    assert error in str(raised.value)


def test_two_points_that_are_the_same_are_refused():
    handoff = {"class_path": "Handoff", "init_args": {"entry": [2, 3]}}
    with pytest.raises(ValueError, match="'a_entry2' and 'b' are the same"):
        refuse_twins(build_arms(expand({"a": handoff, "b": handoff | {"init_args": {"entry": 2}}})))
    with pytest.raises(ValueError, match="'baseline' and 'b' are the same"):
        refuse_twins(build_arms(expand({"b": {"class_path": "Baseline", "sampling": {"cfg": 1.5}}})))


@pytest.mark.parametrize(
    ("file", "scales", "points"),
    [("sweep_tiny", 6, 22), ("sweep_strategies", 6, 37), ("sweep_imagenet", RELEASED_SCALES, 37)],
)
def test_the_shipped_grids_fit_their_pyramids(file, scales, points):
    options = parse(["--config", str(CONFIGS / f"{file}.yaml")])
    arms = build_arms(options.strategy, sdvar.Sampling(**options.sampling.as_dict()))
    assert len(arms) == points + 1
    for arm in arms:
        arm.strategy.check(scales)
        if arm.sampling:
            arm.sampling.check_scales(scales)
    assert {sdvar.Baseline, sdvar.Handoff, sdvar.Speculative} <= {type(arm.strategy) for arm in arms}


def test_the_grid_of_all_strategies_leaves_none_out():
    arms = build_arms(parse(["--config", str(CONFIGS / "sweep_strategies.yaml")]).strategy)
    parts = {sdvar.Strategy: "strategy", sdvar.Acceptance: "acceptance", sdvar.Schedule: "schedule"}
    for base, part in parts.items():
        tried = {type(arm.strategy if base is sdvar.Strategy else getattr(arm.strategy, part, None)) for arm in arms}
        shipped = {cls for cls in map(sdvar.__dict__.get, sdvar.__all__)
                   if isinstance(cls, type) and issubclass(cls, base) and cls is not base}  # fmt: skip
        assert shipped <= tried


def test_the_paper_sized_grid_has_codes_table_and_all_released_models():
    options = parse(["--config", str(CONFIGS / "sweep_imagenet.yaml")])
    arms = {arm.name: arm for arm in build_arms(options.strategy, sdvar.Sampling(**options.sampling.as_dict()))}
    of_code = sdvar.Sampling(cfg=1.5, top_k=600, top_p=0.96, temperature=[1.1] * 7 + [1.0] * 3)
    for entry in (6, 7, 8, 9):
        assert arms[f"handoff_entry{entry}"].strategy == sdvar.Handoff(entry, first="target")
        assert arms[f"code_entry{entry}"].sampling == of_code
    alone = {arm.draft for arm in arms.values() if arm.strategy == sdvar.Baseline("draft")}
    assert alone == {"var_d16.pth", "var_d20.pth", "var_d24.pth"} and options.target == "var_d30.pth"
