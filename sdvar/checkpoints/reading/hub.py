"""Names of checkpoints: those of the Hugging Face Hub, with the download, and those that are bundled."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

from sdvar.checkpoints.errors import CheckpointError
from sdvar.checkpoints.reading.folders import INDEX, shard_names
from sdvar.checkpoints.reading.sources import split
from sdvar.system.command_line import needs

RELEASED_REPOSITORY = "FoundationVision/var"
RELEASED = {f"d{depth}": f"var_d{depth}.pth" for depth in (16, 20, 24, 30, 36)} | {"vae": "vae_ch160v4096z32.pth"}
BUNDLED = Path(__file__).parents[2] / "bundled"
# Beside a bundled pair, whose three are named together: PAIR-tail is a draft made for its last scales.
SHIPPED = {"tiny-tail": BUNDLED / "tiny" / "tail.safetensors"}
ADDRESS = re.compile(r"(https?:/+)?(www\.)?(?P<host>[\w-]+(\.[\w-]+)+(:\d+)?)/(?P<path>[^?#]*)([?#].*)?")
HOSTS = re.compile(r"(\w+\.)?(huggingface\.co|hf\.co|hf-mirror\.com)")
PAGE = re.compile(r"(?P<repo>[^/]+/[^/]+)(/(resolve|blob|raw|tree)/(?P<revision>[^/]+)(/(?P<file>.+))?)?/?")
NO_MODELS = ("datasets/", "spaces/")
OTHER_ADDRESS = re.compile(r"(?!file:)[a-z][a-z0-9+.-]+:/+.+")
HUB_NAME = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)/(?P<file>[^/@]+(?:/[^/@]+)*)(?:@(?P<revision>[^@]+))?")


def local_file(source: str | os.PathLike) -> Path:
    """The file on this machine that a source names; a file of the hub is downloaded unless the cache has it.

    Args:
        source: a path; ``hf://OWNER/REPO/FILE[@REVISION]``; or a short name of `RELEASED`, which means the released
            file wherever the command runs (a local file of that name is written ``./d16``), or of `SHIPPED`. The path
            of a state dict in the file, after ``::``, is left out. With an index of shards its shards are downloaded
            too.

    Raises:
        CheckpointError: if the name is malformed or the hub's file cannot be had. A path is not looked at here.
    """
    name = split(source).file
    if not name:
        raise CheckpointError("checkpoint: expected a file or a name of the hub, got an empty text")
    if isinstance(source, str) and name in RELEASED:
        return _download(name, RELEASED_REPOSITORY, RELEASED[name], None)
    if isinstance(source, str) and name in SHIPPED:
        return SHIPPED[name]
    if not name.lower().startswith("hf:/"):  # one slash: what pathlib makes of a hub name
        _refuse_address(name)
        return Path(os.path.expanduser(name))
    match = HUB_NAME.fullmatch(name)
    if match is None or {".", ".."} & set(match["file"].split("/")) or match["repo"].startswith(NO_MODELS):
        raise CheckpointError(
            f"{name}: malformed hub name; expected the string hf://OWNER/REPO/FILE or hf://OWNER/REPO/FILE@REVISION "
            f"or one of {', '.join((*RELEASED, *SHIPPED))}"
        )
    file = _download(name, **match.groupdict())
    if file.name.endswith(INDEX):  # the cache keeps the shards beside their index
        folder = match["file"].rpartition("/")[0]
        for shard in shard_names(file, name):
            _download(name, match["repo"], f"{folder}/{shard}".lstrip("/"), match["revision"])
    return file


def _refuse_address(name: str) -> None:
    """Says what to give instead of an address of the web."""
    match = ADDRESS.fullmatch(name)
    if match is None and OTHER_ADDRESS.fullmatch(name):
        raise CheckpointError(f"{name}: an address; download the file and give its path")
    if match is None or not (name.startswith("http") or HOSTS.fullmatch(match["host"])):
        return
    page = PAGE.fullmatch(match["path"]) if HOSTS.fullmatch(match["host"]) else None
    if page is None:
        raise CheckpointError(f"{name}: an address; download the file and give its path, or hf://OWNER/REPO/FILE")
    revision = "" if page["revision"] in (None, "main") else f"@{page['revision']}"
    raise CheckpointError(
        f"{name}: an address of the hub; give hf://{page['repo']}/{unquote(page['file'] or 'FILE')}{revision}"
    )


def _download(source: str, repo: str, file: str, revision: str | None) -> Path:
    # imported here: it takes a second, and only hub names need it
    elsewhere = f"or download {file} by other means and give its path"
    try:
        from huggingface_hub import constants, errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise CheckpointError(f"{source}: {needs(error)}, {elsewhere}") from None

    try:
        return Path(hf_hub_download(repo, file, revision=revision))
    except errors.GatedRepoError:
        problem = f"access to the repository {repo} must be granted; ask for it on its page and set HF_TOKEN"
    except errors.RepositoryNotFoundError:
        problem = f"no repository {repo} on the hub, or no access to it; check the name, set HF_TOKEN if it is private"
    except errors.RevisionNotFoundError:
        problem = f"the repository {repo} has no revision {revision}; give a branch, a tag or a full commit hash"
    except errors.LocalEntryNotFoundError as error:  # neither the hub nor the cache has an answer
        cause = error.__cause__
        if constants.HF_HUB_OFFLINE:
            problem = f"not in the cache {constants.HF_HUB_CACHE}, and HF_HUB_OFFLINE is set; unset it, {elsewhere}"
        else:
            problem = (
                f"the hub at {constants.ENDPOINT} does not answer ({_line(cause or error)}) and the cache "
                f"{constants.HF_HUB_CACHE} does not hold the file; check the network, the proxy and HF_ENDPOINT, "
                f"{elsewhere}"
            )
    except errors.EntryNotFoundError:
        problem = f"the repository {repo} has no file {file} at {revision or 'its newest revision'}; check the name"
    except errors.HFValidationError as error:
        problem = f"malformed hub name ({_line(error)}); expected hf://OWNER/REPO/FILE[@REVISION]"
    except Exception as error:  # whatever the transport or the disk raise: a cut connection, a full disk, a wrong size
        problem = (
            f"the download failed ({type(error).__name__}: {_line(error)}); nothing of it is used. Run the same "
            f"command again, {elsewhere}"
        )
    raise CheckpointError(f"{source}: {problem}") from None


def _line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
