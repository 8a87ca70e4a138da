"""Arms from configs and back, with classes of a user's own."""

import hashlib
import sys
from pathlib import Path

import pytest

import sdvar
from lightning_modules.arms.arm import Arm, build_arm
from lightning_modules.run.folder import RunFolder

RULES = """
import dataclasses
import sdvar

@dataclasses.dataclass(frozen=True)
class Typical(sdvar.Acceptance):
    tau: float = 0.3

    def judge(self, proposal):
        return sdvar.Coupled().judge(proposal)

@dataclasses.dataclass(frozen=True)
class Twice(sdvar.Schedule):
    times: tuple[int, ...] = (2,)

    def draft_length(self, pyramid, scale, cached, gamma):
        return self.times[0]

@dataclasses.dataclass(frozen=True)
class Alone(sdvar.Baseline):
    pass

@dataclasses.dataclass(frozen=True)
class Other:
    pass

class Loose(sdvar.Acceptance):
    def judge(self, proposal):
        return sdvar.Coupled().judge(proposal)
"""


@pytest.fixture
def rules(tmp_path, monkeypatch):
    """The working directory of a user who has my_rules.py."""
    (tmp_path / "my_rules.py").write_text(RULES)
    (tmp_path / "broken_rules.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    sys.modules.pop("my_rules", None)


def speculative(**arguments):
    return {"class_path": "Speculative", "init_args": arguments}


@pytest.mark.parametrize(
    "config",
    [
        {"class_path": "Baseline", "reseed": True},
        {"class_path": "sdvar.Handoff", "init_args": {"entry": 3}, "sampling": {"top_k": 7}},
        speculative(gamma={"class_path": "Spans", "init_args": {"scales": [8, 1, 1]}}, acceptance="sdvar.Rejection"),
        speculative(acceptance="my_rules.Typical"),
        speculative(gamma={"class_path": "my_rules.Twice", "init_args": {"times": [3]}}),
        speculative(gamma="auto", max_disagreement=0.3),
        {**speculative(), "resolved": {"class_path": "Handoff", "init_args": {"entry": 3, "first": "target"}}},
        {"class_path": "my_rules.Alone", "init_args": {"model": "draft"}},
    ],
    ids=str,
)
def test_an_arms_config_makes_it_again(config, rules):
    arm = build_arm("x", config, sdvar.Sampling())
    assert build_arm("x", arm.config(), sdvar.Sampling()) == arm
    assert arm.describe().items() >= arm.config().items()


def test_what_an_arm_says_of_itself(rules):
    arm = build_arm("x", speculative(gamma=3, acceptance={"class_path": "my_rules.Typical", "init_args": {"tau": 0.4}}))
    assert arm.config() == {
        "class_path": "sdvar.Speculative",
        "init_args": {
            "gamma": 3,
            "acceptance": {"class_path": "my_rules.Typical", "init_args": {"tau": 0.4}},
            "redraft": "draft",
            "verify_scales": None,
            "max_disagreement": 0.0,
        },
    }
    shown = {key: value for key, value in arm.describe().items() if key not in arm.config()}
    text = "Speculative(gamma=3, acceptance=Typical(tau=0.4))"
    source = {"my_rules.Typical": hashlib.sha256(RULES.encode()).hexdigest()}
    assert shown.pop("source_sha256") == source
    assert shown == {"kind": "speculative", "lossless": False, "exact": False, "text": text}
    kinds = [Arm("x", strategy).kind for strategy in (sdvar.Baseline(), sdvar.Baseline("draft"), sdvar.Handoff(1))]
    assert kinds == ["target", "draft", "handoff"]


def test_a_run_is_not_continued_with_another_version_of_a_users_rule(rules, tmp_path):
    """The arguments are the same, the source file is not."""
    folder = RunFolder(tmp_path / "run")

    def settings() -> dict:
        sys.modules.pop("my_rules", None)
        config = speculative(gamma={"class_path": "my_rules.Twice"}, acceptance="my_rules.Typical")
        data = {"labels": [0], "images_per_class": 1, "seed": 0, "batch_size": 1}
        return {"arms": {"x": build_arm("x", config).describe()}, **data, "precision": "32-true", "device": "cpu"}

    folder.open(settings(), ["x"])
    folder.lock.release()
    folder.check(settings())
    Path("my_rules.py").write_text(RULES.replace("Coupled()", "Rejection()"))
    with pytest.raises(ValueError, match=r"holds a run with other settings.*source_sha256"):
        folder.check(settings())


@pytest.mark.parametrize("name", ["config.yaml", "settings.yaml", "metrics.json", "Report.html", "decoding.json"])
def test_an_arm_is_not_called_like_a_file_of_the_run(name):
    with pytest.raises(ValueError, match="cannot name an arm: the run has a file of that name"):
        Arm(name, sdvar.Handoff(1))


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ({"class_path": "Telepathy"}, "expected one of Baseline, Handoff, Parallel, Speculative, or module.Class, got"),
        ({"class_path": "my_rules.Typical"}, "expected a subclass of sdvar.Strategy, got 'my_rules.Typical'"),
        ({"class_path": "os.system"}, "expected a subclass of sdvar.Strategy, got 'os.system'"),
        ({"class_path": "os.system('date')"}, "expected a subclass of sdvar.Strategy, got 'os.system'"),
        ("Speculative(gamma=2", "expected CLASS(PARAMETER=VALUE, …) such as Speculative(gamma=2), got"),
        ("Speculative(gamma=open('x'))", "gamma: expected one of Adaptive, Fixed, Spans, TokenBudget, or module.Class"),
        ("Speculative(gamma=2 + 3)", "expected CLASS(PARAMETER=VALUE, …)"),
        ("Speculative(*[1])", "expected CLASS(PARAMETER=VALUE, …)"),
        ("Match(0.5, 1)", "expected one of Baseline, Handoff, Parallel, Speculative, or module.Class, got 'Match'"),
        ("Baseline('draft', 3)", "Baseline: expected at most 1 arguments, got 2"),
        ("Handoff(1, entry=2)", "Handoff: entry: given twice"),
        ({"class_path": "Speculative(2)", "init_args": {"gamma": 3}}, "gamma: given twice, in 'Speculative(2)'"),
        ({"class_path": "nowhere.Rule"}, "no module 'nowhere'; its file must be installed or lie in the working"),
        ({"class_path": "broken_rules.Rule"}, "broken_rules cannot be imported: ZeroDivisionError"),
        (speculative(acceptance="my_rules.Typicl"), "got 'my_rules.Typicl'; did you mean Typical?"),
        (speculative(acceptance="my_rules.Other"), "expected a subclass of"),
        (speculative(acceptance="my_rules.Loose"), "my_rules.Loose: expected a frozen dataclass"),
        (speculative(acceptance="my_rules.Twice"), "acceptance: "),
        (speculative(gamma="my_rules.Typical"), "gamma: "),
        (
            speculative(acceptance={"class_path": "my_rules.Typical", "init_args": {"ta": 1}}),
            "unknown key ta; did you mean tau?",
        ),
        (
            speculative(acceptance={"class_path": "my_rules.Typical", "init_args": {"tau": "hot"}}),
            "tau: expected a number, got 'hot'",
        ),
        (speculative(gamma="atuo"), "gamma: expected an int, a schedule or 'auto', got 'atuo'"),
        ({**speculative(gamma=2), "resolved": {"class_path": "Baseline"}}, "resolved: expected a schedule that gamma"),
        ({**speculative(), "resolved": "Speculative"}, "resolved: expected a schedule that gamma"),
        ({**speculative(), "sampling": 3}, "sampling: expected a mapping, got 3"),
        ({**speculative(), "init_arg": {}}, "unknown key init_arg; expected class_path, init_args, reseed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_mistake_is_named_in_one_line(config, error, rules):
    with pytest.raises(ValueError) as raised:
        build_arm("x", config)
    message = str(raised.value)
    assert message.startswith("strategy 'x': ") and error in message and "\n" not in message


@pytest.mark.parametrize(
    ("text", "strategy"),
    [
        ("Baseline", sdvar.Baseline()),
        ("Speculative(gamma=Spans((3,1,1,1)))", sdvar.Speculative(sdvar.Spans((3, 1, 1, 1)))),
        ("Speculative(2, Match(0.5))", sdvar.Speculative(2, sdvar.Match(0.5))),
        ("sdvar.Speculative(gamma=auto, acceptance=Coupled)", sdvar.Speculative()),
        ("Handoff(entry=3, first='draft')", sdvar.Handoff(3, "draft")),
        (str(sdvar.Speculative(sdvar.TokenBudget(30), sdvar.TopK(10, 0.8))), None),
        (str(sdvar.Speculative(sdvar.Spans((3, 1)), sdvar.KL(1.0), verify_scales=3)), None),
        (str(sdvar.Baseline("draft")), None),
    ],
    ids=str,
)
def test_what_a_report_shows_is_a_strategy(text, strategy):
    built = build_arm("x", text).strategy
    assert built == strategy if strategy else str(built) == text
    assert build_arm("x", {"class_path": text}).strategy == built
