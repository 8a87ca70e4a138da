"""Deterministic weights for the VAR reference data (numpy only).

A weight is never stored: it is drawn from a generator seeded by its own name,
so the order in which tensors are made does not matter.

    noise  = Generator(PCG64(crc32(salt + key))).standard_normal(shape, float32)
    tensor = mean(key) + std(key) * noise              (all in float32)

`key` is the state-dict key of the original VAR release, `salt` comes from each
config.json.  Buffers named in KEPT keep the value the constructor gives them.
"""

import hashlib
import math
import zlib

import numpy as np

# Last component of the names of the buffers that are not filled.
KEPT = ("lvl_1L", "attn_bias_for_masking", "zero_k_bias", "ema_vocab_hit_SV")

# (ending of the key, gain): weights of std gain / sqrt(fan_in); first match wins.
GAINS = (
    ("head_nm.ada_lin.1.weight", 0.3),  # adaLN projection before the head
    ("ada_lin.1.weight", 0.8),  # adaLN projections, shared or per block
    ("head.weight", 2.0),  # token logits of std about 2
    ("encoder.conv_out.weight", 2.0),  # encoder features on the scale of the codebook
    ("decoder.conv_out.weight", 0.5),  # pixel values mostly inside [-1, 1]
    (".weight", 1.0),  # every other linear or convolution
)
# (ending of the key, mean, std): tensors that are not linear or convolution weights.
FIXED = (
    ("scale_mul_1H11", 3.0, 1.5),  # log of the attention scale; some exceed log(100)
    ("class_emb.weight", 0.0, 1.0),
    ("quantize.embedding.weight", 0.0, 1.0),
    ("lvl_embed.weight", 0.0, 0.5),
    ("pos_start", 0.0, 0.5),
    ("pos_1LC", 0.0, 1.0),
    ("ada_gss", 0.0, 0.4),
    ("bias", 0.0, 0.05),  # includes q_bias and v_bias
)


def is_kept(key):
    return key.rsplit(".", 1)[-1] in KEPT


def mean_std(key, shape):
    for ending, mean, std in FIXED:
        if key.endswith(ending):
            return mean, std
    if len(shape) == 1 and key.endswith(".weight"):  # weight of a normalisation layer
        return 1.0, 0.1
    for ending, gain in GAINS:
        if key.endswith(ending):
            return 0.0, gain / math.sqrt(math.prod(shape[1:]))
    raise KeyError("no rule for " + key)


def make_tensor(key, shape, salt=""):
    """The float32 array for `key`; `shape` may be any sequence of ints."""
    shape = tuple(int(n) for n in shape)
    mean, std = mean_std(key, shape)
    rng = np.random.Generator(np.random.PCG64(zlib.crc32((salt + key).encode())))
    noise = rng.standard_normal(shape, dtype=np.float32)
    return np.float32(mean) + np.float32(std) * noise


def fill(state_dict, salt=""):
    """New dict key -> array for all keys of `state_dict` (values need .shape) but the kept ones."""
    return {k: make_tensor(k, v.shape, salt) for k, v in state_dict.items() if not is_kept(k)}


def fingerprint(arrays):
    """SHA-256 over the names and little-endian float32 bytes, names in sorted order."""
    digest = hashlib.sha256()
    for key in sorted(arrays):
        digest.update(key.encode())
        digest.update(np.ascontiguousarray(arrays[key], dtype="<f4").tobytes())
    return digest.hexdigest()
