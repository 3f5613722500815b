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


def factors(folder, values):
    """A GGUF file with the divisors of its frequencies."""
    return gguf(folder, lambda g: g.tensors.update({"rope_freqs.weight": [[len(values)], 0, struct.pack(f"<{len(values)}f", *values), None]}))


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


def parts(folder, change=lambda one, two: None, name="small-%05d-of-00002.gguf"):
    """A GGUF file in two parts, the second with one tensor; change gets both."""
    one, two = Gguf(), Gguf()
    two.keys, two.tensors = {}, {"output_norm.weight": one.tensors.pop("output_norm.weight")}
    for g, number in ((one, 0), (two, 1)):
        for k, kind, value in (("no", U16, number), ("count", U16, 2), ("tensors.count", I32, len(one.tensors) + 1)):
            g.set("split." + k, kind, value)
    change(one, two)
    put(os.path.join(folder, name % 2), two.data())
    return ["show", "--json", put(os.path.join(folder, name % 1), one.data())]


def make_129(d): return [*parts(d)[:2], put(os.path.join(d, "other-00001-of-00002.gguf"), open(os.path.join(d, "small-00001-of-00002.gguf"), "rb").read())]
def make_130(d): return parts(d, lambda one, two: two.set("split.no", U16, 0))
def make_131(d): return parts(d, lambda one, two: one.set("split.tensors.count", I32, 99))


# ---- 200: safetensors ----

def hf(folder, change, naming="hf"):
    m = Hf()
    change(m)
    return ["show", "--json", m.save(folder)]


def header(edit, name="model.norm.weight"):
    """A folder in whose safetensors header the entry of a tensor is edited."""
    return lambda m: setattr(m, "change", lambda h: edit(h[name]))


def overlap(h):
    h["model.norm.weight"]["data_offsets"] = [0, 64]


def odd_place(m):
    m.tensors["model.norm.weight"][0] = "F32"
    m.tensors["model.norm.weight"][2] = bytes(128)
    m.header = None
    m.size = None
    old = m.safetensors
    m.safetensors = lambda: (lambda b: struct.pack("<Q", struct.unpack("<Q", b[:8])[0] + 1) + b[8:8 + struct.unpack("<Q", b[:8])[0]] + b" " +
                             b[8 + struct.unpack("<Q", b[:8])[0]:])(old())


def make_201(d): return hf(d, lambda m: m.files.update({"model.safetensors": b"\2\0\0\0"}))
def make_202(d): return hf(d, lambda m: setattr(m, "size", 1 << 40))
def make_203(d): return hf(d, lambda m: setattr(m, "header", "[]"))
def make_204(d): return hf(d, header(lambda e: e.pop("dtype")))
def make_205(d): return hf(d, header(lambda e: e.update(dtype="F7_E4M2")))
def make_206(d): return hf(d, header(lambda e: e.pop("shape")))
def make_207(d): return hf(d, header(lambda e: e.update(shape=[1, 1, 1, 1, 32])))
def make_208(d): return hf(d, header(lambda e: e.update(shape=[-32])))
def make_209(d): return hf(d, header(lambda e: e.update(data_offsets=[0])))
def make_210(d): return hf(d, header(lambda e: e.update(data_offsets=[0, 1 << 50])))
def make_211(d): return hf(d, header(lambda e: e.update(data_offsets=[0, 2])))
def make_212(d): return hf(d, odd_place)
def make_213(d): return hf(d, lambda m: setattr(m, "change", overlap))


# ---- 300: JSON and figures ----

def config(d, **figures):
    """Only the figures are looked at before the fault is found; None takes one out."""
    def change(m):
        for k, v in figures.items():
            m.config.update({k: v}) if v is not None else m.config.pop(k)
    return hf(d, change)


def flagai(d, **figures):
    return hf(d, lambda m: setattr(m, "config", {"dim": 32, "n_layers": 1, "n_heads": 2, "multiple_of": 32, "vocab_size": 6, "max_seq_len": 64,
                                                 "norm_eps": 1e-5, **figures}))


def make_301(d): return hf(d, lambda m: setattr(m, "config", '{"hidden_size": 32,'))
def make_302(d): return hf(d, lambda m: setattr(m, "config", '{"hidden_size": 32} {}'))
def make_303(d): return hf(d, lambda m: setattr(m, "config", "[" + "0," * 800000 + "0]"))
def make_310(d): return hf(d, lambda m: setattr(m, "config", "[32]"))
def make_311(d): return config(d, model_type="mamba")
def make_312(d): return config(d, tie_word_embeddings="yes")
def make_313(d): return config(d, num_hidden_layers=None)
def make_314(d): return config(d, hidden_size="32")
def make_315(d): return config(d, hidden_size=32.5)
def make_316(d): return config(d, rms_norm_eps=True)
def make_317(d): return config(d, rms_norm_eps=-1e-5)
def make_318(d): return config(d, bos_token_id=1.5)
def make_319(d): return flagai(d, dim=1 << 24)
def make_320(d): return config(d, hidden_size=33)
def make_321(d): return config(d, num_attention_heads=4, num_key_value_heads=3)
def make_322(d): return config(d, head_dim=15)
def make_323(d): return config(d, head_dim=1 << 24)
def make_324(d): return gguf(d, key("llama.rope.dimension_count", U32, 8))
def make_325(d): return config(d, num_hidden_layers=4097)
def make_326(d): return config(d, rope_scaling={"rope_type": "longrope", "factor": 2.0})
def make_327(d): return config(d, attention_bias=True)
def make_328(d): return config(d, hidden_act="gelu")
def make_329(d): return config(d, quantization_config={"quant_method": "gptq"})
def make_330(d): return config(d, rms_norm_eps=1e9)
def make_340(d): return config(d, rope_scaling={"rope_type": "yarn", "factor": 2.0, "beta_fast": 1, "beta_slow": 32})
def make_341(d): return config(d, rope_scaling={"rope_type": "yarn", "factor": 2.0, "truncate": "no"})
def make_342(d): return factors(d, [1.0] * 7)
def make_343(d): return factors(d, [1.0] * 7 + [float("nan")])
def make_344(d): return factors(d, [1.0, 3.0, 1.0, 2.0, 8.0, 8.0, 8.0, 8.0])
def make_345(d): return config(d, rope_scaling={"type": "linear", "factor": 1e9})
def make_346(d): return gguf(d, lambda g: (g.keys.update({"llama.rope.scaling.type": (STRING, string("yarn"))}), g.set("llama.rope.scaling.factor", F32, 4),
                                          g.set("llama.rope.scaling.yarn_ext_factor", F32, 0.5)))
def make_347(d): return config(d, partial_rotary_factor=0.5)
def make_348(d): return gguf(d, key("llama.rope.scaling.attn_factor", F32, 1.5))


# ---- 820: tensors ----

def rename(old, new):
    return lambda m: m.tensors.update({new: m.tensors.pop(old)})


def fused(m):
    flagai_names = {"model.embed_tokens": "tok_embeddings", "model.norm": "norm"}
    m.config = {"dim": 32, "n_layers": 1, "n_heads": 2, "multiple_of": 32, "vocab_size": 6, "max_seq_len": 64, "norm_eps": 1e-5}
    m.tensors = {flagai_names[n[:-7]] + ".weight": t for n, t in m.tensors.items() if n[:-7] in flagai_names}
    m.tensors["layers.0.attention.Wqkv.weight"] = ["F16", [64, 32], bytes(64 * 32 * 2)]


def make_821(d): return hf(d, rename("model.embed_tokens.weight", "model.wte.weight"))
def make_822(d): return hf(d, lambda m: m.tensors.pop("model.norm.weight"))
def make_823(d): return gguf(d, lambda g: g.tensors.update({b"blk.0.attn_q.weight": g.tensors["blk.0.attn_q.weight"]}))
def make_824(d): return hf(d, lambda m: m.tensors.update({"model.layers.0.extra.weight": ["F16", [1], bytes(2)]}))
def make_825(d): return hf(d, rename("model.layers.0.mlp.up_proj.weight", "model.layers.1.mlp.up_proj.weight"))
def make_826(d): return hf(d, lambda m: m.tensors["model.norm.weight"].__setitem__(slice(1, 3), [[16], bytes(32)]))
def make_827(d): return hf(d, lambda m: m.tensors["model.norm.weight"].__setitem__(slice(0, 3), ["I32", [32], bytes(128)]))
def make_828(d): return gguf(d, tensor(slice(1, 3), [8, bytes(34)], "output_norm.weight"))
def make_829(d): return hf(d, fused)
