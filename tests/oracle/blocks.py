#!/usr/bin/env python3
"""blocks.py: makes tests/data/blocks.bin, what the gguf package says of block types. Packages: numpy, gguf 0.17 or newer.

Records, little endian: u32 kind (0 decode, 1 encode), u32 GGUF type number, u32 elements, u32 bytes, raw bytes, elements f32.
decode: f32 = the values of the raw bytes. encode: raw = what the package's quantize makes of the f32.
"""
import os, struct, sys
import numpy as np
import gguf
from gguf.quants import dequantize, quantize

Q = gguf.GGMLQuantizationType
rng = np.random.default_rng(1)


def scales(n):
    """Halves of all sizes, subnormals and zeros among them, but no infinities."""
    h = rng.integers(0, 0x7c00, n, dtype=np.uint16) | (rng.integers(0, 2, n, dtype=np.uint16) << 15)
    h[:4] = [0, 1, 0x03ff, 0x8400]
    return h


def random_blocks(t, n):
    _, size = gguf.GGML_QUANT_SIZES[t]
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    raw[:, 0:2] = scales(n).view(np.uint8).reshape(n, 2)
    if t == Q.Q4_1:
        raw[:, 2:4] = scales(n).view(np.uint8).reshape(n, 2)
    return raw


def inputs(n):
    x = rng.normal(0, 1, (n, 32)).astype(np.float32) * np.exp(rng.uniform(-8, 5, (n, 1))).astype(np.float32)
    x[0] = 0
    x[1] = 3.25
    x[2] = -np.abs(x[2])
    x[3] = np.abs(x[3])
    return x.astype(np.float32)


def main(path):
    with open(path, "wb") as f:
        def record(kind, t, raw, values):
            raw, values = np.ascontiguousarray(raw).view(np.uint8).ravel(), np.ascontiguousarray(values, dtype="<f4").ravel()
            f.write(struct.pack("<IIII", kind, int(t), values.size, raw.size) + raw.tobytes() + values.tobytes())
        for t in (Q.Q4_0, Q.Q4_1, Q.Q8_0):
            raw = random_blocks(t, 24)
            record(0, t, raw, dequantize(raw, t))
            x = inputs(24)
            record(1, t, quantize(x, t), x)
        raw = rng.integers(0, 0x7f80, 256, dtype=np.uint16)
        record(0, Q.BF16, raw, dequantize(raw.view(np.uint8), Q.BF16))
        x = inputs(8)
        record(1, Q.BF16, quantize(x, Q.BF16), x)
        record(1, Q.F16, x.astype(np.float16), x)
    print(path, os.path.getsize(path), "bytes, gguf", getattr(gguf, "__version__", "?"), file=sys.stderr)


main(sys.argv[1] if len(sys.argv) > 1 else "tests/data/blocks.bin")
