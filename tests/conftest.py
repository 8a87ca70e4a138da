"""Shared by all tests: a pair of models small enough to decode in milliseconds."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # one of several processes of pytest: also what it starts takes one core
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # of a shell's background job, and what it starts inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
import torch

import sdvar
from tests.simulated_cuda import SimulatedCuda

PATCH_NUMS = (1, 2, 3, 4)


@pytest.hookimpl(tryfirst=True)  # before pytest deselects by mark
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leaves cases of tests marked one_in to the proof."""
    seen = Counter()
    for item in items:
        mark = item.get_closest_marker("one_in")
        if mark is not None:
            test = item.nodeid.partition("[")[0]
            if seen[test] % mark.args[0]:
                item.add_marker("proof")
            seen[test] += 1


def make_pair() -> sdvar.ModelPair:
    """A pair with random weights: 4 scales, 30 tokens, 5 classes, images of 32 x 32 pixels."""
    torch.manual_seed(0)
    sizes = {"codebook_size": 24, "latent_channels": 8}
    draft = sdvar.VAR(PATCH_NUMS, num_classes=5, depth=1, width=32, heads=2, **sizes)
    target = sdvar.VAR(PATCH_NUMS, num_classes=5, depth=2, width=48, heads=3, **sizes)
    tokenizer = sdvar.VQVAE(PATCH_NUMS, base_channels=32, channel_multipliers=(1, 1, 1, 1), res_blocks=1, **sizes)
    with torch.no_grad():
        for model in (draft, target):
            for parameter in model.parameters():  # fresh weights hardly distinguish classes and positions
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return sdvar.ModelPair(draft, target, tokenizer)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory) -> None:
    """No test reads or writes the user's cache."""
    os.environ["SDVAR_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def pair() -> sdvar.ModelPair:
    return make_pair()


@pytest.fixture(scope="session")
def pair_files(pair, tmp_path_factory) -> dict[str, Path]:
    """The same pair as checkpoint files, by model."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("pair")
    files = {name: folder / f"{name}.safetensors" for name in ("draft", "target", "tokenizer")}
    for name, file in files.items():
        save_file({key: value.contiguous() for key, value in getattr(pair, name).state_dict().items()}, file)
    return files


@pytest.fixture(scope="session")
def pair_line(pair_files) -> list[str]:
    """The options of a command that name these files."""
    return [text for name, file in pair_files.items() for text in (f"--{name}", str(file))]


@pytest.fixture
def refused(capsys) -> Callable[..., str]:
    """Calls a command that must end with status 2 and one line on stderr; returns that line."""

    def refused(main: Callable, *arguments: object) -> str:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            main(*arguments)
        error = capsys.readouterr().err
        assert stopped.value.code == 2 and ": error: " in error and error.count("\n") == 1, error
        return error

    return refused


@pytest.fixture
def cuda():
    """Two simulated CUDA devices; see `tests.simulated_cuda`."""
    with SimulatedCuda() as simulation:
        yield simulation
    assert simulation.faults == []
