"""SDVAR: speculative decoding for visual autoregressive models (VAR, next-scale prediction)."""

import sdvar.system.leaving
import sdvar.system.openmp  # before torch, as all four
import sdvar.system.starting
import sdvar.system.working_directory  # noqa: F401
from sdvar.checkpoints import CheckpointError, load_pair, load_tokenizer, load_var
from sdvar.decoding.acceptance import (
    KL,
    Acceptance,
    Coupled,
    Match,
    Neighbour,
    Proposal,
    Rejection,
    Top1,
    TopK,
    Verdict,
    of_tokens,
)
from sdvar.decoding.compare import NEAR_TIE, first_differences
from sdvar.decoding.result import DecodeResult, DecodeStats
from sdvar.decoding.schedule import Adaptive, Fixed, Schedule, Spans, TokenBudget
from sdvar.decoding.strategies.base import Strategy
from sdvar.decoding.strategies.baseline import Baseline
from sdvar.decoding.strategies.handoff import Handoff
from sdvar.decoding.strategies.parallel import Parallel
from sdvar.decoding.strategies.speculative import Speculative
from sdvar.drafts import draft_of
from sdvar.engine import Engine
from sdvar.entry import decode
from sdvar.models.protocol import NextScaleModel
from sdvar.models.tokenizer import VQVAE
from sdvar.models.transformer import VAR
from sdvar.pair import ModelPair
from sdvar.pictures import save_images
from sdvar.planning.tuning import tune
from sdvar.prototype import SDVAR
from sdvar.pyramid import ScalePyramid
from sdvar.sampling import Sampling, filtered_probabilities

__version__ = "0.1.0"  # setup.cfg reads it

__all__ = [
    "KL",
    "NEAR_TIE",
    "SDVAR",
    "VAR",
    "VQVAE",
    "Acceptance",
    "Adaptive",
    "Baseline",
    "CheckpointError",
    "Coupled",
    "DecodeResult",
    "DecodeStats",
    "Engine",
    "Fixed",
    "Handoff",
    "Match",
    "ModelPair",
    "Neighbour",
    "NextScaleModel",
    "Parallel",
    "Proposal",
    "Rejection",
    "Sampling",
    "ScalePyramid",
    "Schedule",
    "Spans",
    "Speculative",
    "Strategy",
    "TokenBudget",
    "Top1",
    "TopK",
    "Verdict",
    "__version__",
    "decode",
    "draft_of",
    "filtered_probabilities",
    "first_differences",
    "load_pair",
    "load_tokenizer",
    "load_var",
    "of_tokens",
    "save_images",
    "tune",
]
