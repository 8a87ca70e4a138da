"""Checkpoints from the hub, against a server on loopback that answers as the hub does."""

import hashlib
import os
import subprocess
import sys
import time

import pytest
import torch
from huggingface_hub import close_session, constants
from safetensors.torch import save

import sdvar
from lightning_modules import pair_source
from sdvar.checkpoints import RELEASED
from tests.random_pairs import random_pair, random_var
from tests.sdvar.checkpoints.hub_server import OTHER_COMMIT, Hub, serve

REPOSITORY = "someone/weights"
NAME = f"hf://{REPOSITORY}/runs/var.safetensors"


def weights(seed: int) -> bytes:
    return save(random_var((1, 2), seed=seed).state_dict())


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub with one VAR, at two revisions; an empty cache; no waiting between retries."""
    hub = Hub()
    hub.add(REPOSITORY, "runs/var.safetensors", weights(seed=2))
    hub.add(REPOSITORY, "runs/var.safetensors", weights(seed=4), commit=OTHER_COMMIT)
    with serve(hub):
        # what HF_ENDPOINT, HF_HUB_CACHE and HF_HUB_OFFLINE set when the library is imported
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(time, "sleep", lambda seconds: None)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        close_session()
        yield hub
    close_session()


def refused(source: str, *words: str) -> str:
    """The one error of loading a source; it names the source and holds the words."""
    with pytest.raises(sdvar.CheckpointError) as caught:
        sdvar.load_var(source)
    message = str(caught.value)
    assert message.startswith(f"{source}: ") and "\n" not in message
    for word in words:
        assert word in message
    return message


def same_weights(model: torch.nn.Module, seed: int) -> bool:
    expected = random_var((1, 2), seed=seed).state_dict()
    return all(torch.equal(value, expected[key]) for key, value in model.state_dict().items())


def test_a_file_is_downloaded_once(hub, monkeypatch):
    assert same_weights(sdvar.load_var(NAME), seed=2)
    sdvar.load_var(NAME)
    assert len([request for request in hub.requests if request.startswith("GET /blobs")]) == 1
    seen = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert same_weights(sdvar.load_var(NAME), seed=2)
    assert len(hub.requests) == seen


def test_the_cache_serves_when_the_hub_is_down(hub, monkeypatch):
    sdvar.load_var(NAME)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    close_session()
    assert same_weights(sdvar.load_var(NAME), seed=2)


def test_a_revision_is_another_file(hub):
    assert same_weights(sdvar.load_var(f"{NAME}@v2"), seed=4)
    assert same_weights(sdvar.load_var(f"{NAME}@{OTHER_COMMIT}"), seed=4)
    assert same_weights(sdvar.load_var(NAME), seed=2)


def test_short_names_are_the_released_files(hub, monkeypatch, tmp_path):
    for name, file in RELEASED.items():
        assert file == ("vae_ch160v4096z32.pth" if name == "vae" else f"var_{name}.pth")
    torch.save(random_var((1, 2), seed=2).state_dict(), tmp_path / "released.pth")
    hub.add("FoundationVision/var", "var_d16.pth", (tmp_path / "released.pth").read_bytes())
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d16").write_bytes(b"a local file of that name")
    assert same_weights(sdvar.load_var("d16"), seed=2)
    with pytest.raises(sdvar.CheckpointError, match=r"\./d16: cannot be read"):
        sdvar.load_var("./d16")


def test_digests_of_hub_files(hub):
    pair = random_pair((1, 2), torch.float32)
    for part in ("draft", "target", "tokenizer"):
        hub.add(REPOSITORY, f"{part}.safetensors", save(getattr(pair, part).state_dict()))
    source = pair_source.PairFiles(
        *(f"hf://{REPOSITORY}/{part}.safetensors" for part in ("draft", "target", "tokenizer"))
    )
    assert pair_source.load(source, "32-true").pyramid == pair.pyramid
    expected = hashlib.sha256(save(pair.draft.state_dict())).hexdigest()
    assert pair_source.digests(source)["draft"] == expected


def test_small_files_without_a_known_sum_load(hub):
    hub.small.add("runs/var.safetensors")
    assert same_weights(sdvar.load_var(NAME), seed=2)


def test_what_the_hub_lacks(hub):
    refused(f"hf://{REPOSITORY}/runs/none.pth", "no file runs/none.pth", "check the name")
    refused("hf://someone/else/var.pth", "no repository someone/else", "HF_TOKEN")
    refused(f"{NAME}@v9", "no revision v9", "commit hash")


@pytest.mark.parametrize("name", [
    "hf://", "hf://var.pth", "hf://someone/var.pth", "hf://someone/weights/", "hf://someone/weights/a//b.pth",
    "hf://someone/weights/../b.pth", "hf://someone/weights/var.pth@", "hf://some one/weights/var.pth",
    "hf:/someone/weights/var.pth", "HF://someone/weights/var.pth", "hf://datasets/someone/var.pth",
])  # fmt: skip
def test_malformed_names(hub, name):
    refused(name, "malformed hub name", "hf://OWNER/REPO/FILE")
    assert not hub.requests


def test_connection_refused(hub, monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", "http://127.0.0.1:9/{repo_id}/{revision}/{filename}")
    refused(NAME, "http://127.0.0.1:9", "onnection refused", "HF_ENDPOINT", str(tmp_path / "cache"), "give its path")


def test_offline_without_the_file(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(NAME, "HF_HUB_OFFLINE is set", "give its path")
    assert not hub.requests


def test_a_cut_download_goes_on_where_it_was_cut(hub):
    hub.cut = 1
    assert same_weights(sdvar.load_var(NAME), seed=2)
    assert len([request for request in hub.requests if request.startswith("GET /blobs")]) == 2


def test_a_download_that_stays_cut_is_an_error_and_leaves_nothing(hub, tmp_path, monkeypatch):
    hub.cut = 1

    def die(seconds):
        hub.answers = False

    monkeypatch.setattr(time, "sleep", die)  # between the cut and the first retry
    refused(NAME, "the download failed", "Run the same command again")
    assert not list((tmp_path / "cache").rglob("*.incomplete"))
    hub.answers = True
    assert same_weights(sdvar.load_var(NAME), seed=2)


def test_a_corrupt_download_of_the_right_length_is_an_error(hub):
    hub.corrupt = True
    message = refused(NAME, "SHA-256", "by the hub", "Delete")
    hub.corrupt = False
    refused(NAME, "SHA-256")  # it is still in the cache
    os.remove(message.split("Delete ")[1].split(" and ")[0])
    assert same_weights(sdvar.load_var(NAME), seed=2)


@pytest.mark.proof
def test_the_command_line_with_the_library_s_own_settings(hub, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "sdvar.checkpoints", "inspect", NAME]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert "VAR" in result.stdout and "1 2" in result.stdout
    assert list((tmp_path / "home").rglob("var.safetensors"))
