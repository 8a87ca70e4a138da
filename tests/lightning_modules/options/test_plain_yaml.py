"""A value in YAML is what it looks like, in a config, in an option and in what a run writes."""

import argparse

import pytest
import yaml

from eval.cli.options import parse
from lightning_modules.options import plain_yaml

REREAD = [
    "1:30",
    "010",
    "1_000",
    "0x10",
    "0o17",
    "yes",
    "No",
    "on",
    "OFF",
    "y",
    "2024-01-01",
    "190:20:30.15",
    "=",
    "08",
]
TEXT = [*REREAD, "1e3", "+.5", "~", "null", "true", "<<", "5", "1.5", ".inf", "", "é: [", "a\n b"]


@pytest.mark.parametrize("text", REREAD)
def test_what_yaml_reads_anew_stays_text(text):
    assert plain_yaml.load(text) == text
    assert plain_yaml.load(f"{text}: [{text}]") == {text: [text]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5", 5),
        ("-3", -3),
        ("+4", 4),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("true", True),
        ("~", None),
        ("", None),
    ],
)
def test_numbers_truth_values_and_nothing(text, value):
    assert plain_yaml.load(text) == value and type(plain_yaml.load(text)) is type(value)


def test_keys_are_text_and_given_once():
    assert plain_yaml.load("1: a\non: b\nnull: c") == {"1": "a", "on": "b", "null": "c"}
    assert plain_yaml.load("a: &a {b: 1, c: 2}\nd: {<<: *a, b: 3}")["d"] == {"b": 3, "c": 2}
    with pytest.raises(yaml.YAMLError, match="expected each key once, got 'seed' twice"):
        plain_yaml.load("seed: 1\nseed: 2\n")
    with pytest.raises(yaml.YAMLError, match="nested too deeply"):
        plain_yaml.load("[" * 100_000)


@pytest.mark.parametrize("text", TEXT)
def test_what_is_written_is_read_again_here_and_elsewhere(text):
    content = {"a": text, "b": [text], "c": 1e-5, "d": True, "e": None}
    assert plain_yaml.load(plain_yaml.dump(content)) == content
    assert yaml.safe_load(plain_yaml.dump(content)) == content


@pytest.mark.parametrize("given", ["1:30", "1_000", "0x10", "yes", "2024-01-01", "1e3"])
@pytest.mark.parametrize("option", ["seed", "batch_size", "images_per_class", "sampling.top_k"])
def test_a_number_means_what_was_typed_or_is_refused(option, given, tmp_path):
    *outer, last = option.split(".")
    config = {last: "VALUE"} if not outer else {outer[0]: {last: "VALUE"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config).replace("VALUE", given))
    for line in ([f"--{option}", given], ["--config", str(tmp_path / "c.yaml")]):
        with pytest.raises(ValueError, match=rf"^{option}: expected an int"):
            parse(line)


def test_a_leading_zero_makes_no_octal_number(tmp_path):
    (tmp_path / "c.yaml").write_text("seed: 010\nlabels: [010, 7]\nout: 010\n")
    options = parse(["--config", str(tmp_path / "c.yaml"), "--threads", "010"])
    assert (options.seed, options.labels, options.out, options.threads) == (10, [10, 7], "010", 10)


@pytest.mark.parametrize(
    ("config", "error"),
    [
        ("quiet: yes", "quiet: expected true or false, got 'yes'"),
        ("overwrite: 1", "overwrite: expected true or false, got 1"),
        ("seed: 1\nseed: 2", "config: line 2: expected each key once, got 'seed' twice"),
        ("just words", "config: expected a mapping of options, got 'just words'"),
        ("", "config: expected a mapping of options, got ''"),
        ("\ud8ff", "config: expected text in UTF-8; save the file as such"),
        ("threads: 1_0", "threads: expected an int from 1 to 1024, got '1_0'"),
        ("repeats: 1_0", "repeats: expected an int >= 1, got '1_0'"),
        ("batch-size: 3", "unknown key batch-size; did you mean batch_size?"),
        ("top_k: 3", "unknown key top_k; did you mean sampling.top_k?"),
        ("out: ~", "out: expected the path of a folder, got None"),
        ("out: ''", "out: expected the path of a folder, got ''"),
        ("accelerator: GPU", "accelerator: expected one of auto, cpu, cuda, gpu, got 'GPU'; did you mean gpu?"),
        (f"labels: [{', '.join(['tench'] * 1000)}, 1.5]", "labels: expected an int, a list or a text, got ['tench'"),
        ("strategy: [1]", "strategy: expected a mapping, got [1]"),
        ("sampling: {cfg: 1_5}", "sampling.cfg: expected a number, or one per scale such as 1.5,1.5,0; got '1_5'"),
        ("sampling: {temperature: '1_0,1'}", "sampling.temperature: expected a number, or one per scale"),
        ("repeats: [1, 2]", "repeats: expected an int >= 1, got a list"),
        (f"likelihood_images: {2**64}", "likelihood_images: expected at most 10^15, got 18446744073709551616"),
        ("print_config: true", "print_config is no key of a config, but an option of the command line alone"),
        ("a: &a [*a]", "config: aliases make more than 1,000,000 values of it, or one that holds itself"),
        ("sampling: {temperature: [a]}", "sampling.temperature: expected a number, a list or a text, got ['a']"),
    ],
)
def test_a_mistake_in_a_config_is_one_short_line(config, error, tmp_path):
    (tmp_path / "c.yaml").write_text(config, errors="surrogatepass")
    with pytest.raises(ValueError) as raised:
        parse(["--config", str(tmp_path / "c.yaml")])
    assert str(raised.value).startswith(error) and "\n" not in str(raised.value) and len(str(raised.value)) < 200


def test_aliases_that_stand_for_more_than_anybody_can_hold():
    levels = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    with pytest.raises(yaml.YAMLError, match="more than 1,000,000 values"):
        plain_yaml.load(f"a0: &a0 [1]\n{levels}")


def test_a_key_without_a_value_is_the_default(tmp_path):
    keys = [
        "seed",
        "batch_size",
        "repeats",
        "num_nodes",
        "accelerator",
        "metrics",
        "devices",
        "quiet",
        "graphs",
        "likelihood_images",
    ]
    (tmp_path / "c.yaml").write_text("".join(f"{key}:\n" for key in keys))
    given, default = parse(["--config", str(tmp_path / "c.yaml")]), parse([])
    assert [given[key] for key in keys] == [default[key] for key in keys]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (["--cfg"], "--sampling.cfg: expected a value after it"),
        (["--devices", "-1,0"], "--devices: expected a value after it"),
        (["--top_k", ""], "sampling.top_k: expected an int, got ''"),
        (["--quiet", ""], "quiet: expected true or false, got ''"),
        (["--seed="], "seed: expected an int, got ''"),
        (["--precision", ""], "precision: expected one of 64-true, 32-true, bf16-true, 16-true, auto, got ''"),
    ],
)
def test_a_value_that_is_missing_or_empty(line, error):
    with pytest.raises((ValueError, argparse.ArgumentError)) as raised:
        parse(line)
    assert str(raised.value) == error


def test_an_arm_has_the_name_that_was_typed(tmp_path):
    (tmp_path / "c.yaml").write_text("strategy: {on: {class_path: Handoff, init_args: {entry: 1}}, 1: 'Handoff(2)'}\n")
    assert list(parse(["--config", str(tmp_path / "c.yaml")]).strategy) == ["on", "1"]


def test_paths_of_options_and_configs_may_begin_with_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {name: f"~/{name}" for name in ("draft", "target", "tokenizer", "reference", "feature_extractor_weights")}
    arm = {"class_path": "Speculative", "draft": "~/other"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({**files, "out": "~/runs", "strategy": {"a": arm}}))
    options = parse(["--config=~/c.yaml"])
    assert [options[name] for name in files] == [str(tmp_path / name) for name in files]
    assert (options.out, options.strategy["a"]["draft"]) == (str(tmp_path / "runs"), str(tmp_path / "other"))
    options = parse(["--out=~/x", "--strategy", "Speculative", "--strategy.draft=~/d.pth"])
    assert (options.out, options.strategy["speculative"]["draft"]) == (str(tmp_path / "x"), str(tmp_path / "d.pth"))
