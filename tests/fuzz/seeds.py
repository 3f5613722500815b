#!/usr/bin/env python3
"""seeds.py: writes the seeds of fuzz_lora, fuzz_convert, fuzz_prompts, fuzz_lower's edits and those of fuzz_gguf that hold K types and SentencePiece's BPE,
from the small models of tests/bad/small.py: python3 tests/fuzz/seeds.py. The same bytes each time."""
import json, os, random, struct, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(os.path.dirname(HERE), "bad"))
import make_torch
from small import *

BYTES = {0: 4, 1: 2, 2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 20: 18, 23: 136, 30: 2}   # of a block, by GGUF's number of the type
BLOCK = {t: 1 if t in (0, 1, 30) else 256 if t in (*range(10, 15), 23) else 32 for t in BYTES}


def seed(target, name, data):
    put(os.path.join(HERE, "corpus", target, name), data)


def narrow(width, types, heads=1, ffn=1):
    """A GGUF model whose matrices have few rows, of `width` each, in these types; those with short rows are f16."""
    g, r = Gguf(), random.Random(width)
    for key, value in (("embedding_length", width), ("feed_forward_length", ffn), ("attention.head_count", heads), ("attention.head_count_kv", heads),
                       ("attention.key_length", 2), ("attention.value_length", 2), ("context_length", 8)):
        g.set("llama." + key, U32, value)
    g.keys["tokenizer.ggml.tokens"] = strings("<end>", "a", "b", "ab")
    g.keys["tokenizer.ggml.token_type"] = (ARRAY, struct.pack("<IQ4i", I32, 4, 3, 1, 1, 1))
    dims = {"token_embd": [width, 4], "output": [width, 4], "output_norm": [width]}
    dims |= {"blk.0." + n: [width] if "norm" in n else [2 * heads, width] if n == "attn_output" else [ffn, width] if n == "ffn_down" else
             [width, ffn if "ffn" in n else 2 * heads] for n in LAYER}
    types, g.tensors = list(types), {}
    for name, d in dims.items():
        kind = 0 if "norm" in name else 1 if d[0] != width else types.pop(0)
        types += [kind] if d[0] == width and "norm" not in name else []
        n = d[0] // BLOCK[kind] * (d[1] if len(d) > 1 else 1) * BYTES[kind]
        g.tensors[name + ".weight"] = [d, kind, bytes(n) if kind < 2 else bytes(r.randrange(256) & 0xBB for _ in range(n)), None]
    return g


def spm():
    g = narrow(32, [1])
    texts = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)] + ["\u2581", "a", "b", "ab", "\u2581a"]
    g.keys["tokenizer.ggml.model"] = (STRING, string("llama"))
    g.keys["tokenizer.ggml.tokens"] = strings(*texts)
    g.keys["tokenizer.ggml.scores"] = (ARRAY, struct.pack("<IQ%df" % len(texts), F32, len(texts), *[-float(i) for i in range(len(texts))]))
    g.keys["tokenizer.ggml.token_type"] = (ARRAY, struct.pack("<IQ%di" % len(texts), I32, len(texts), 2, 3, 3, *[6] * 256, *[1] * 5))
    g.keys.pop("tokenizer.ggml.merges")
    g.tensors["token_embd.weight"] = [[32, len(texts)], 8, bytes(34 * len(texts)), None]
    g.tensors.pop("output.weight")
    return g


def gguf_seeds():
    sources = {"k_types": narrow(256, [12, 14, 10, 11, 13, 12, 14, 13]), "q5": narrow(32, [6, 7, 3, 2, 8, 30], 2, 2), "spm": spm(), "levels": narrow(256, [20, 23])}
    for name, g in sources.items():
        seed("gguf", name, g.data())
    factors, yarn = Gguf(), narrow(32, [0], 2, 2)
    factors.tensors["rope_freqs.weight"] = [[8], 0, struct.pack("<8f", 1, 1.2, 8, 8, 8, 8, 8, 8), None]
    yarn.keys["llama.rope.scaling.type"] = (STRING, string("yarn"))
    for key, value in (("factor", 4), ("yarn_beta_slow", 2), ("yarn_beta_fast", 9), ("attn_factor", 1.5), ("yarn_log_multiplier", 0.5)):
        yarn.set("llama.rope.scaling." + key, F32, value)
    seed("gguf", "factors", factors.data()), seed("gguf", "yarn", yarn.data())
    for i, (name, g) in enumerate(sources.items()):
        for form in range(3):
            seed("convert", f"{name}_{form}", bytes([4 * form, (0, 2, 4, 9, 16)[(i + form) % 5]]) + g.data())


def safetensors(tensors):
    header, body = {}, b""
    for name, (kind, shape, data) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def f16(*shape):
    n = 1
    for d in shape:
        n *= d
    return ["F16", list(shape), struct.pack(f"<{n}e", *[(i % 7 - 3) / 4 for i in range(n)])]


def folder_seeds():
    names = {"model.embed_tokens": (4, 4), "model.norm": (4,)}
    names |= {"model.layers.0." + n: (4,) if "norm" in n else (2, 4) if "gate" in n or "up" in n else (4, 2) if "down" in n else (4, 4) for n in LAYER.values()}
    config = {"model_type": "llama", "hidden_size": 4, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 2, "intermediate_size": 2, "vocab_size": 4,
              "max_position_embeddings": 8, "rms_norm_eps": 1e-6, "hidden_act": "silu", "tie_word_embeddings": True, "rope_theta": 10000.0}
    tokenizer = {"added_tokens": [{"id": 3, "content": "<e>", "special": True}], "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": ["a b"]}}
    more = {"eos_token": "<e>", "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}
    texts = b"".join(json.dumps(x, separators=(",", ":")).encode() + b"\0" for x in (config, tokenizer, more))
    weights = {n + ".weight": f16(*s) for n, s in names.items()}
    for form in range(3):
        seed("convert", f"folder_{form}", bytes([1 + 4 * form, (0, 2, 3)[form]]) + texts + safetensors(weights))
    bare = json.dumps(config, separators=(",", ":")).encode() + b"\0\0\0"
    seed("convert", "bare", bytes([1 + 8, 64]) + bare + safetensors(weights))
    seed("convert", "torch", bytes([3, 0]) + bare + archive(weights))


def archive(weights):
    """The same as a torch archive, one storage a tensor."""
    t, steps, entries = make_torch, [], []
    for i, (name, (_, shape, data)) in enumerate(weights.items()):
        strides = [1]
        for d in shape[:0:-1]:
            strides.insert(0, strides[0] * d)
        steps.append(t.text(name) + t.tensor(t.storage("HalfStorage", str(i), len(data) // 2), 0, shape, strides))
        entries.append(t.Entry(f"a/data/{i}", data, align=16))
    return t.archive([t.Entry("a/data.pkl", t.state(*steps), align=16), *entries])


def lora_seeds():
    settings = json.dumps({"peft_type": "LORA", "r": 1, "lora_alpha": 2, "bias": "none"}, separators=(",", ":")).encode() + b"\0"
    hf, flagai = "base_model.model.model.layers.0.", "base_model.model.layers.0."
    pairs = {"hf": [(hf + "self_attn.q_proj", 32, 32), (hf + "mlp.down_proj", 32, 32)], "head": [("base_model.model.lm_head", 32, 8), (hf + "self_attn.k_proj", 32, 16)],
             "flagai": [(flagai + "attention.Wqkv", 32, 64), (flagai + "feed_forward.w2", 32, 32)]}
    for i, (name, modules) in enumerate(pairs.items()):
        weights = {}
        for module, k, n in modules:
            weights[module + ".lora_A.weight"], weights[module + ".lora_B.weight"] = f16(1, k), f16(n, 1)
        for j, letter in enumerate((0, 8 + 2, 16 + 32)):
            seed("lora", f"{name}_{j}", bytes([64 + letter]) + settings + safetensors(weights))
        seed("lora", f"{name}_torch", bytes([64 + 1 + 8 * (i % 2)]) + settings + archive(weights))
    saved = {hf + "self_attn.k_proj.lora_A.weight": f16(1, 32), hf + "self_attn.k_proj.lora_B.weight": f16(16, 1), "base_model.model.model.norm.weight": f16(32),
             "base_model.model.lm_head.modules_to_save.weight": f16(8, 32)}
    more = {"peft_type": "LORA", "lora_alpha": 2, "alpha_pattern": {"k_proj": 3}, "modules_to_save": ["norm", "lm_head"]}
    seed("lora", "saved", bytes([64]) + json.dumps(more, separators=(",", ":")).encode() + b"\0" + safetensors(saved))
    for j, (letter, kind) in enumerate(((0, 1), (2 + 8, 8), (16, 0))):
        g = Gguf()
        g.keys = {"general.type": (STRING, string("adapter")), "adapter.type": (STRING, string("lora")), "general.architecture": (STRING, string("llama"))}
        g.set("adapter.lora.alpha", F32, 2)
        g.tensors = {}
        for module, k, n in (("blk.0.attn_q", 32, 32), ("blk.0.ffn_down", 32, 32)):
            g.tensors[module + ".weight.lora_a"] = [[k, 32], kind, bytes(32 * k // BLOCK[kind] * BYTES[kind]), None]
            g.tensors[module + ".weight.lora_b"] = [[32, n], kind, bytes(32 * n // BLOCK[kind] * BYTES[kind]), None]
        seed("lora", f"gguf_{j}", bytes([128 + letter]) + g.data())


def prompt_seeds():
    seed("prompts", "plain", b"\0ab cd\n\nabc\r\n")
    seed("prompts", "json", b'\1{"prompt": "ab", "max_new_tokens": 4, "temperature": 0.5, "top_k": 3, "top_p": 0.9, "seed": 7, "stop": ["x", "y"]}\n{"ids": [1, 2]}\n')
    seed("prompts", "messages", b'\2{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b\\u0000<|im_end|>"}], "stop": "z"}\n{"x": 1}\n')


# What `exec --show nest` prints of the first kernel of fuse_gate.
NEST = """nest f.00.rms.2dot.silu(
  in %r: f32[T, 64],
  in @g: f32[64],
  in @w1: q4_1[96, 64] panel,
  in @w3: q4_1[96, 64] panel,
  out %mul.3: f32[T, 96],
  scratch %quantize: a16[T, 64]
) {
  axis t: T, n: 64, r: 64, n2: 96, d: 64
  phase {
    tiles t by 1 {
      acc %rms sum [t]
      for r by 64 lanes 16 {
        %rms += mul(%r[t, r], %r[t, r])
      }
      let %rms_2 = rsqrt(add(mul(%rms, 0.015625), 1e-05))
      for n by 64 lanes 16 {
        store %quantize[t, n] = quantize(mul(mul(%r[t, n], %rms_2), @g[n])) {dtype=a16}
      }
    }
  }
  phase {
    tiles t by 1 {
      tiles n2 by 16 lanes 16 {
        acc %dot sum [t, n2]
        acc %dot.2 sum [t, n2]
        for d by 32 {
          %dot += dot(%quantize[t, d], @w1[n2, d])
          %dot.2 += dot(%quantize[t, d], @w3[n2, d])
        }
        store %mul.3[t, n2] = mul(silu(%dot), %dot.2)
      }
    }
  }
}
"""


def edit_seeds():
    with open(os.path.join(HERE, "corpus/lower/fuse_gate"), "rb") as f:
        gate = f.read()
    schedules = "schedule f.00.rms.2dot.silu { n 16 tiles lanes; d 32 tiles; t 1 tiles; r 64 tiles lanes 16 }\nschedule f.01.dot.add { n2 16 tiles lanes; t 1 tiles }\n"
    seed("lower", "edits_schedule", b"\1" + gate[1:] + b"\0" + schedules.encode())
    seed("lower", "edits_nest", b"\1" + gate[1:] + b"\0" + NEST.encode())


gguf_seeds(), folder_seeds(), lora_seeds(), prompt_seeds(), edit_seeds()
