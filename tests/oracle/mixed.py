#!/usr/bin/env python3
"""mixed.py: makes tests/data/mixed_logits.json: logits of a small model whose matrices have all twelve block types side by side (test_mixed.c writes it
as a GGUF file), in numpy f64 on what the gguf package's dequantize makes of the bytes. Packages: numpy, gguf 0.17 or newer.

Width 256, 2 layers, 4 heads of 64, 2 kv heads, ffn 512, 64 tokens. Byte i of tensor k is a hash of both; the halves of each block are overwritten."""
import json, os, sys
import numpy as np
import gguf
from gguf.quants import dequantize

D, L, H, HKV, F, V, THETA, EPS = 256, 2, 4, 2, 512, 64, 10000.0, 1e-5
E = D // H
IDS = [3, 17, 42, 5, 5, 63, 0, 21, 8, 30, 11]
T = gguf.GGMLQuantizationType
# places and bits of the halves: weights of about 1/16
HALVES = {T.Q4_0: [(0, 0x2200)], T.Q4_1: [(0, 0x2200), (2, 0xab80)], T.Q5_0: [(0, 0x1e00)], T.Q5_1: [(0, 0x1e00), (2, 0xabd0)], T.Q8_0: [(0, 0x1000)],
          T.Q2_K: [(80, 0x20c0), (82, 0x2500)], T.Q3_K: [(108, 0x1400)], T.Q4_K: [(0, 0x0c00), (2, 0x1780)], T.Q5_K: [(0, 0x0800), (2, 0x17c0)], T.Q6_K: [(208, 0x0200)],
          T.IQ4_NL: [(0, 0x1400)], T.IQ4_XS: [(0, 0x0400)]}
NAMES = ["wq", "wk", "wv", "wo", "w1", "w3", "w2"]
SHAPES = [(D, D), (HKV * E, D), (HKV * E, D), (D, D), (F, D), (F, D), (D, F)]
TYPES = [[T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K, T.Q5_0, T.Q5_1], [T.Q8_0, T.Q4_0, T.Q4_1, T.Q6_K, T.IQ4_NL, T.Q5_K, T.IQ4_XS]]


def raw(k, n):
    u = np.arange(n, dtype=np.uint64) * 2654435761 + k * 40503
    u &= 0xffffffff
    u ^= u >> 15
    u = u * 2246822519 & 0xffffffff
    u ^= u >> 13
    return (u >> 8 & 255).astype(np.uint8)


def matrix(k, t, shape):
    block, size = gguf.GGML_QUANT_SIZES[t]
    b = raw(k, shape[0] * shape[1] // block * size).reshape(-1, size)
    for at, bits in HALVES[t]:
        b[:, at:at + 2] = [bits & 255, bits >> 8]
    return dequantize(b.reshape(shape[0], -1), t).astype(np.float64).reshape(shape)


def norm(k):
    return 1 + (raw(k, D).astype(np.float64) - 128) / 512


def rms(x, g):
    return x / np.sqrt(np.mean(x * x, -1, keepdims=True) + EPS) * g


def rope(x):  # [t, heads, E], pairs (2i, 2i + 1)
    a = np.arange(x.shape[0])[:, None, None] * THETA ** (-np.arange(0, E, 2) / E)
    even, odd, y = x[..., 0::2], x[..., 1::2], np.empty_like(x)
    y[..., 0::2], y[..., 1::2] = even * np.cos(a) - odd * np.sin(a), even * np.sin(a) + odd * np.cos(a)
    return y


def logits(ids):
    n = len(ids)
    x = matrix(0, T.Q4_K, (V, D))[ids]
    for layer in range(L):
        first = 10 + 20 * layer
        w = {name: matrix(first + i, TYPES[layer][i], SHAPES[i]) for i, name in enumerate(NAMES)}
        h = rms(x, norm(first + 7))
        q, k = rope((h @ w["wq"].T).reshape(n, H, E)), rope((h @ w["wk"].T).reshape(n, HKV, E))
        v = (h @ w["wv"].T).reshape(n, HKV, E)
        out = np.empty((n, H, E))
        for head in range(H):
            s = q[:, head] @ k[:, head // (H // HKV)].T / np.sqrt(E)
            s[np.triu_indices(n, 1)] = -np.inf
            p = np.exp(s - s.max(-1, keepdims=True))
            out[:, head] = p / p.sum(-1, keepdims=True) @ v[:, head // (H // HKV)]
        x = x + out.reshape(n, D) @ w["wo"].T
        h = rms(x, norm(first + 8))
        g = h @ w["w1"].T
        x = x + (g / (1 + np.exp(-g)) * (h @ w["w3"].T)) @ w["w2"].T
    return rms(x[-1], norm(2)) @ matrix(1, T.Q6_K, (V, D)).T


if __name__ == "__main__":
    if sys.argv[1:] == ["--scales"]:
        for t in HALVES:
            w = matrix(99, t, (64, 256))
            print(t.name, w.mean(), w.std())
        sys.exit()
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "mixed_logits.json")
    with open(path, "w") as f:
        json.dump({"ids": IDS, "logits": [float("%.9g" % x) for x in logits(IDS)]}, f)
        f.write("\n")
