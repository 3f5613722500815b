#!/usr/bin/env python3
"""blocks.py: makes tests/data/blocks.bin, what the gguf package says of block types. Packages: numpy, gguf 0.17 or newer.

Records, little endian: u32 kind (0 decode, 1 encode), u32 GGUF type number, u32 elements, u32 bytes, raw bytes, elements f32.
decode: f32 = the values of the raw bytes. encode: raw = what the package's quantize makes of the f32. The types q2_k .. q6_k and iq4 have decode
records only (the package cannot make them).

    blocks.py [FILE]
    blocks.py --errors AQUILA.so LIBGGML-BASE.so    root mean square errors on normal data beside llama.cpp's reference quantisers;
                                                    AQUILA.so: gcc -O2 -ffp-contract=off -shared -fPIC -I. ir/{block,encode,encode_k,encode_levels,dtype,status}.c
"""
import ctypes, os, struct, sys
import numpy as np
import gguf
from gguf.quants import dequantize, quantize

Q = gguf.GGMLQuantizationType
rng = np.random.default_rng(1)


def scales(n):
    """Halves of all sizes, subnormals and zeros among them, but no infinities."""
    h = rng.integers(0, 0x7c00, n, dtype=np.uint16) | (rng.integers(0, 2, n, dtype=np.uint16) << 15)
    h[:4] = [0, 1, 0x03ff, 0x8400]
    rng.shuffle(h)
    return h


# where the halves are
HALVES = {Q.Q4_0: [0], Q.Q4_1: [0, 2], Q.Q5_0: [0], Q.Q5_1: [0, 2], Q.Q8_0: [0], Q.Q2_K: [80, 82], Q.Q3_K: [108], Q.Q4_K: [0, 2], Q.Q5_K: [0, 2], Q.Q6_K: [208],
          Q.IQ4_NL: [0], Q.IQ4_XS: [0]}


def random_blocks(t, n):
    _, size = gguf.GGML_QUANT_SIZES[t]
    raw = rng.integers(0, 256, (n, size), dtype=np.uint8)
    for at in HALVES[t]:
        raw[:, at:at + 2] = scales(n).view(np.uint8).reshape(n, 2)
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
        for t in (Q.Q4_0, Q.Q4_1, Q.Q8_0, Q.Q5_0, Q.Q5_1):
            raw = random_blocks(t, 24)
            record(0, t, raw, dequantize(raw, t))
            x = inputs(24)
            record(1, t, quantize(x, t), x)
        for t in (Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K):
            raw = random_blocks(t, 6)
            record(0, t, raw, dequantize(raw, t))
        raw = rng.integers(0, 0x7f80, 256, dtype=np.uint16)
        record(0, Q.BF16, raw, dequantize(raw.view(np.uint8), Q.BF16))
        x = inputs(8)
        record(1, Q.BF16, quantize(x, Q.BF16), x)
        record(1, Q.F16, x.astype(np.float16), x)
        for t in (Q.IQ4_NL, Q.IQ4_XS):  # last: what stands before keeps its random numbers
            raw = random_blocks(t, 24 if t == Q.IQ4_NL else 6)
            record(0, t, raw, dequantize(raw, t))
    print(path, os.path.getsize(path), "bytes, gguf", getattr(gguf, "__version__", "?"), file=sys.stderr)


def errors(ours, theirs):
    C = ctypes
    ours, theirs = C.CDLL(ours), C.CDLL(theirs)
    for t in (Q.Q5_0, Q.Q5_1, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K, Q.IQ4_NL, Q.IQ4_XS):
        x = rng.normal(0, 0.02, 256 * 4096).astype(np.float32)
        block, size = gguf.GGML_QUANT_SIZES[t]
        out = [np.zeros(x.size // block * size, np.uint8) for _ in range(2)]
        at = [C.c_void_p(a.ctypes.data) for a in (x, *out)]
        ours.aq_dtype_encode_f32(ours.aq_dtype_by_gguf(C.c_uint32(int(t))), at[0], C.c_size_t(x.size), at[1])
        getattr(theirs, "quantize_row_%s_ref" % t.name.lower().replace("_k", "_K"))(at[0], at[2], C.c_int64(x.size))
        e = [np.sqrt(np.mean((dequantize(o, t).astype(np.float64) - x) ** 2) / np.mean(x.astype(np.float64) ** 2)) for o in out]
        print("%s  %.6f  llama.cpp %.6f" % (t.name.lower(), *e))


if sys.argv[1:2] == ["--errors"]:
    errors(*sys.argv[2:])
    sys.exit()
main(sys.argv[1] if len(sys.argv) > 1 else "tests/data/blocks.bin")
