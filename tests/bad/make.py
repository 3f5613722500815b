"""make.py: the small files that hit one reason of frontend/reasons.def each: make_NUMBER(folder) writes them into an empty folder and returns the
arguments of the program. Each is a good model of small.py with one thing wrong. Other modules beside it (make_*.py) may hold more of them."""
import os, struct

from small import *


def gguf(folder, change):
    g = Gguf()
    change(g)
    return ["show", "--json", g.save(folder)]


def key(name, kind, value):
    """A GGUF file with this key."""
    return lambda g: g.set(name, kind, value)


def tensor(part, value, name="blk.0.attn_q.weight"):
    """A GGUF file in which dims (0), type (1), bytes (2) or offset (3) of a tensor are others."""
    return lambda g: g.tensors[name].__setitem__(part, value)


# ---- 100: GGUF ----

def make_101(d): return gguf(d, lambda g: g.keys.update(x=(STRING, struct.pack("<Q", 1 << 30))))
def make_102(d): return ["show", "--json", put(os.path.join(d, "x.gguf"), b"GGML" + Gguf().data()[4:])]
def make_103(d): return gguf(d, lambda g: setattr(g, "version", 4))
def make_104(d): return gguf(d, lambda g: g.keys.update(x=(STRING, struct.pack("<Q", 1 << 32))))
def make_105(d): return gguf(d, lambda g: g.keys.update(x=(13, bytes(8))))
def make_106(d): return gguf(d, lambda g: g.keys.update(x=(ARRAY, struct.pack("<IQ", ARRAY, 1) * 6)))
def make_107(d): return gguf(d, lambda g: g.keys.update(x=(ARRAY, struct.pack("<IQ", U64, 1 << 61))))
def make_108(d): return gguf(d, lambda g: setattr(g, "n_keys", 1 << 40))
def make_109(d): return gguf(d, lambda g: g.keys.update({b"general.name": (U8, b"\1")}))
def make_110(d): return gguf(d, lambda g: g.keys.update({"tokenizer.ggml.merges": (ARRAY, struct.pack("<IQI", U32, 1, 1))}))
def make_111(d): return gguf(d, tensor(0, [32, 8, 2, 1, 2]))
def make_112(d): return gguf(d, tensor(0, [32, 0]))
def make_113(d): return gguf(d, tensor(1, 77))
def make_114(d): return gguf(d, tensor(slice(0, 2), [[33, 31], 8]))
def make_115(d): return gguf(d, key("general.alignment", U32, 48))
def make_116(d): return gguf(d, lambda g: setattr(g, "n_tensors", 1 << 40))
def make_117(d): return gguf(d, tensor(3, 8))
def make_118(d): return gguf(d, tensor(3, 1 << 62))
def make_119(d): return gguf(d, tensor(3, 0))
def make_120(d): return gguf(d, lambda g: g.keys.update({"general.architecture": (STRING, string("bert"))}))
def make_121(d): return gguf(d, key("split.count", U16, 2))
def make_122(d): return gguf(d, lambda g: g.tensors.pop("token_embd.weight"))
def make_123(d): return gguf(d, key("tokenizer.ggml.unknown_token_id", F32, 0.5))
def make_124(d): return gguf(d, lambda g: g.keys.update({"tokenizer.ggml.add_bos_token": (STRING, string("yes"))}))
def make_125(d): return gguf(d, lambda g: g.keys.update({"tokenizer.ggml.token_type": (ARRAY, struct.pack("<IQi", I32, 1, 1))}))
def make_126(d): return gguf(d, lambda g: g.keys.pop("tokenizer.ggml.merges"))
def make_127(d): return gguf(d, lambda g: (g.keys.update({"tokenizer.ggml.tokens": strings(*"abcdefg")}), g.keys.pop("tokenizer.ggml.token_type"),
                                          g.keys.update({"tokenizer.ggml.merges": strings()})))
