#!/usr/bin/env python3
"""torch_forms.py: tiny models in every form of a checkpoint folder, with reference logits. Packages: torch, transformers 5, safetensors, numpy.

    torch_forms.py                   makes the tiny ones
    torch_forms.py real FILE FOLDER  makes FOLDER/hf (three shards of .bin) and FOLDER/flagai (fused, nested) of a llama GGUF file, in f32; besides: gguf.
                                     AQ_TEST_MODEL=FOLDER/hf build/.../test_engine_logits then compares them with tests/data/smollm2_logits.json

The tiny ones are tests/data/forms/NAME/ (a folder that aquila opens) and tests/data/forms.json: {"NAME": {"folder", "context": positions to open it
for, "ids": [...], "logits": [...] (of the last position, f64 arithmetic on the stored weights, rope in f32 as transformers does)}}. Weights have 16 bits
in most, so the folders are small. Shapes are odd on purpose.

The FlagAI form is not made by FlagAI: its tensors are those of a transformers model whose q and k rows are put from rotate-half into interleaved order,
which is what FlagAI's rope on pairs (2i, 2i+1) needs; a second implementation of that forward pass below checks that both say the same.
"""
import json, os, shutil, sys
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import LlamaConfig, LlamaForCausalLM

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
FORMS = os.path.join(DATA, "forms")
reference = {}


def make(seed, dtype=torch.bfloat16, **changes):
    """A model with f64 weights whose values are exact in dtype, and its config.json. Everything is random, the norms around 1."""
    figures = dict(hidden_size=40, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, head_dim=16, intermediate_size=33, vocab_size=48,
                   max_position_embeddings=64, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2)
    figures.update(changes)
    torch.manual_seed(seed)
    scaling = figures.pop("rope_scaling", None)
    config = LlamaConfig(attn_implementation="eager", **figures)
    if scaling:
        config.rope_parameters = {"rope_theta": figures["rope_theta"], "rope_type": scaling["type"], "factor": scaling["factor"]}
    model = LlamaForCausalLM(config).double().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_((torch.randn(p.shape) * (0.2 if p.dim() == 1 else 0.15) + (1 if p.dim() == 1 else 0)).to(dtype).double())
    written = {"model_type": "llama", "torch_dtype": str(dtype)[6:], **figures, **({"rope_scaling": scaling} if scaling else {})}
    return model, written


def state_of(model, dtype):
    tied = model.config.tie_word_embeddings
    return {k: v.to(dtype).contiguous() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}


def ids_of(n, vocab):
    return [int(i) for i in np.random.default_rng(n).integers(0, vocab, n)]


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0, -1].double().numpy()


def answer(model, n):
    ids = ids_of(n, model.config.vocab_size)
    return {"ids": ids, "logits": [float("%.9g" % x) for x in logits_of(model, ids)]}


def put(name, config, model, n=12):
    folder = os.path.join(FORMS, name)
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(config, f, separators=(",", ":"))
        f.write("\n")
    reference[name] = {"folder": name, "context": 64, **answer(model, n)}
    return folder


def index_of(folder, name, shards):
    with open(os.path.join(folder, name), "w") as f:
        json.dump({"metadata": {"total_size": 0}, "weight_map": {k: shard for shard, keys in shards.items() for k in keys}}, f, separators=(",", ":"))
        f.write("\n")


def halves(state):
    names = sorted(state)
    return names[:len(names) // 2], names[len(names) // 2:]


def hugging_face():
    model, config = make(1)
    save_file(state_of(model, torch.bfloat16), os.path.join(put("hf-safetensors", config, model), "model.safetensors"))

    model, config = make(2, num_key_value_heads=1, intermediate_size=257, hidden_size=36)
    state, folder = state_of(model, torch.bfloat16), put("hf-safetensors-sharded", config, model)
    for i, names in enumerate(halves(state), 1):
        save_file({k: state[k] for k in names}, os.path.join(folder, f"model-0000{i}-of-00002.safetensors"))
    index_of(folder, "model.safetensors.index.json", {f"model-0000{i}-of-00002.safetensors": k for i, k in enumerate(halves(state), 1)})

    model, config = make(3, tie_word_embeddings=True, num_hidden_layers=2, num_key_value_heads=4, head_dim=8, hidden_size=32)
    state = state_of(model, torch.bfloat16)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]  # one storage, as torch.save of a tied model writes it
    for i in range(2):
        state[f"model.layers.{i}.self_attn.rotary_emb.inv_freq"] = torch.arange(4.0)
    torch.save(state, os.path.join(put("hf-bin-tied", config, model), "pytorch_model.bin"))

    model, config = make(4, torch.float16, num_attention_heads=6, num_key_value_heads=3, head_dim=16, hidden_size=54, intermediate_size=65)
    state, folder = state_of(model, torch.float16), put("hf-bin-sharded", config, model)
    for i, names in enumerate(halves(state), 1):
        torch.save({k: state[k] for k in names}, os.path.join(folder, f"pytorch_model-0000{i}-of-00002.bin"))
    index_of(folder, "pytorch_model.bin.index.json", {f"pytorch_model-0000{i}-of-00002.bin": k for i, k in enumerate(halves(state), 1)})

    for kind in ("linear", "dynamic"):
        model, config = make(5, rope_scaling={"type": kind, "factor": 4.0}, hidden_size=32, head_dim=8)
        save_file(state_of(model, torch.bfloat16), os.path.join(put(f"hf-{kind}", config, model, 24), "model.safetensors"))
    # beyond the model's 64 positions the base depends on the length: aquila takes that of the context it was opened for
    reference["hf-dynamic at 96"] = {"folder": "hf-dynamic", "context": 96, **answer(model, 96)}

    # f32, transposed and sliced: every second matrix is stored as its transpose, views of one storage; protocol 4
    model, config = make(6, torch.float32, hidden_size=24, num_attention_heads=3, num_key_value_heads=1, head_dim=8, intermediate_size=20, vocab_size=24)
    state = state_of(model, torch.float32)
    for i, (k, v) in enumerate(sorted(state.items())):
        state[k] = torch.nn.Parameter(v.T.contiguous().T) if v.dim() == 2 and i % 2 else torch.cat([v, v])[:v.shape[0]]
    assert not all(v.is_contiguous() for v in state.values())
    torch.save({"epoch": 3, "loss": 0.5, "model": state, "rng": torch.get_rng_state()[:8].clone()}, os.path.join(put("hf-strided", config, model), "pytorch_model.bin"),
               pickle_protocol=4)


# ---- FlagAI ----

FLAGAI = {"self_attn.q_proj": "attention.wq", "self_attn.k_proj": "attention.wk", "self_attn.v_proj": "attention.wv", "self_attn.o_proj": "attention.wo",
          "mlp.gate_proj": "feed_forward.w1", "mlp.up_proj": "feed_forward.w3", "mlp.down_proj": "feed_forward.w2", "input_layernorm": "attention_norm",
          "post_attention_layernorm": "ffn_norm"}


def interleave(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, -1).transpose(1, 2).reshape(w.shape).contiguous()


def flagai_state(model, dtype):
    c, out = model.config, {}
    for k, v in state_of(model, dtype).items():
        k = k.replace("model.embed_tokens", "tok_embeddings").replace("lm_head", "output").replace("model.", "")
        for a, b in FLAGAI.items():
            k = k.replace(a, b)
        heads = {"wq": c.num_attention_heads, "wk": c.num_key_value_heads}
        for w, n in heads.items():
            if f"attention.{w}." in k:
                v = interleave(v, n)
        out[k] = v
    return out


def fuse(state, layers):
    for i in range(layers):
        parts = [state.pop(f"layers.{i}.attention.{w}.weight") for w in ("wq", "wk", "wv")]
        state[f"layers.{i}.attention.Wqkv.weight"] = torch.cat(parts)
    return state


def flagai_forward(state, c, ids, heads, kv, layers, eps, theta):
    """The definition, with rope on complex pairs; f64."""
    state = {k: v.double() for k, v in state.items()}
    norm = lambda x, w: x / torch.sqrt((x * x).mean(-1, keepdim=True) + eps) * w
    x = state["tok_embeddings.weight"][ids]
    t = len(ids)
    for i in range(layers):
        p = f"layers.{i}."
        w = state.get(p + "attention.Wqkv.weight")
        e = state[p + "attention.wo.weight"].shape[1] // heads
        if w is None:
            w = torch.cat([state[p + f"attention.w{n}.weight"] for n in "qkv"])
        h = norm(x, state[p + "attention_norm.weight"]) @ w.T
        q, k, v = h[:, :heads * e].view(t, heads, e), h[:, heads * e:(heads + kv) * e].view(t, kv, e), h[:, (heads + kv) * e:].view(t, kv, e)
        angle = torch.outer(torch.arange(t).double(), theta ** (-torch.arange(0, e, 2).double() / e))
        turn = torch.polar(torch.ones_like(angle), angle)[:, None, :]
        rope = lambda y: torch.view_as_real(torch.view_as_complex(y.reshape(t, -1, e // 2, 2).contiguous()) * turn).reshape(t, -1, e)
        q, k = rope(q), rope(k).repeat_interleave(heads // kv, 1)
        v = v.repeat_interleave(heads // kv, 1)
        scores = torch.einsum("the,she->hts", q, k) / e ** 0.5 + torch.full((t, t), -torch.inf, dtype=torch.float64).triu(1)
        x = x + torch.einsum("hts,she->the", scores.softmax(-1), v).reshape(t, -1) @ state[p + "attention.wo.weight"].T
        h = norm(x, state[p + "ffn_norm.weight"])
        x = x + (torch.nn.functional.silu(h @ state[p + "feed_forward.w1.weight"].T) * (h @ state[p + "feed_forward.w3.weight"].T)) @ state[p + "feed_forward.w2.weight"].T
    return (norm(x[-1], state["norm.weight"]) @ state["output.weight"].T).numpy()


def flagai(name, seed, nested, fused, **changes):
    model, c = make(seed, torch.float16, head_dim=16, hidden_size=32, num_attention_heads=2, intermediate_size=96, **changes)
    heads, kv, layers = 2, c["num_key_value_heads"], c["num_hidden_layers"]
    config = {"dim": 32, "multiple_of": 32, "n_heads": heads, "n_layers": layers, "norm_eps": 1e-5, "vocab_size": 48, "max_seq_len": 64,
              "initializer_range": 0.006, "flash_atten": False}  # F: int(8 * 32 / 3) = 85, rounded up to 96
    if kv != heads:
        config["n_kv_heads"] = kv
    folder, state = put(name, config, model), flagai_state(model, torch.float16)
    if fused:
        fuse(state, layers)
    said, want = flagai_forward(state, c, reference[name]["ids"], heads, kv, layers, 1e-5, 10000.0), np.array(reference[name]["logits"])
    assert np.linalg.norm(said - want) < 1e-6 * np.linalg.norm(want), name
    torch.save({nested: state, "iteration": 100} if nested else state, os.path.join(folder, "pytorch_model.bin"))


def write_config(folder, **figures):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "config.json"), "w") as f:
        json.dump(figures, f)


def real(path, folder):
    from logits import load_gguf
    model = load_gguf(path)[0]
    c, theta, hf, flag = model.config, model.config.rope_parameters["rope_theta"], os.path.join(folder, "hf"), os.path.join(folder, "flagai")
    assert c.tie_word_embeddings
    write_config(hf, model_type="llama", hidden_size=c.hidden_size, num_hidden_layers=c.num_hidden_layers, num_attention_heads=c.num_attention_heads,
                 num_key_value_heads=c.num_key_value_heads, intermediate_size=c.intermediate_size, vocab_size=c.vocab_size, rms_norm_eps=c.rms_norm_eps,
                 max_position_embeddings=c.max_position_embeddings, rope_theta=theta, tie_word_embeddings=True)
    write_config(flag, dim=c.hidden_size, multiple_of=256, n_heads=c.num_attention_heads, n_kv_heads=c.num_key_value_heads, n_layers=c.num_hidden_layers,
                 norm_eps=c.rms_norm_eps, vocab_size=c.vocab_size, max_seq_len=c.max_position_embeddings, rope_theta=theta)
    state = state_of(model, torch.float32)
    shards = {f"pytorch_model-0000{i + 1}-of-00003.bin": sorted(state)[i::3] for i in range(3)}
    for shard, names in shards.items():
        torch.save({k: state[k] for k in names}, os.path.join(hf, shard))
    index_of(hf, "pytorch_model.bin.index.json", shards)
    c.tie_word_embeddings = False  # FlagAI stores both
    torch.save({"module": fuse(flagai_state(model, torch.float32), c.num_hidden_layers)}, os.path.join(flag, "pytorch_model.bin"))


if __name__ == "__main__" and len(sys.argv) == 4 and sys.argv[1] == "real":
    real(sys.argv[2], sys.argv[3])
elif __name__ == "__main__":
    hugging_face()
    flagai("flagai-fused-module", 7, "module", True, num_key_value_heads=2, num_hidden_layers=2)
    flagai("flagai-fused-gqa", 8, "state_dict", True, num_key_value_heads=1)
    flagai("flagai-plain", 9, None, False, num_key_value_heads=2)
    with open(os.path.join(DATA, "forms.json"), "w") as f:
        json.dump(reference, f, separators=(",", ":"))
        f.write("\n")
    size = sum(os.path.getsize(os.path.join(d, n)) for d, _, names in os.walk(FORMS) for n in names)
    print(f"{len(reference)} forms, {size} bytes", file=sys.stderr)
