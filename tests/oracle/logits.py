#!/usr/bin/env python3
"""logits.py: reference logits by transformers in f32 on exactly dequantised weights. Packages: numpy, torch, transformers 5, safetensors, gguf, tokenizers.

    logits.py tiny             makes tests/data/tiny-hf (a random model, bf16) and tests/data/tiny_logits.json
    logits.py gguf FILE NAME   makes tests/data/NAME_logits.json of a llama GGUF file, among others of tests/data/essay.txt

The JSON: {"prompts": [{"name", "ids", "top": [[id, logit], ...] (of the last position, falling), "norm" (L2 of all its logits),
"projections": [...], "logits" (all, of the tiny model)}], "greedy": [{"prompt", "tokens", "gaps"}], "perplexity": {"ids", "logprobs", "perplexity"}}.
gaps[i]: best minus second-best logit where tokens[i] was chosen. logprobs[i]: of ids[i + 1] given ids[0..i].
Projection k is the sum of logits[i] * s(k, i) with signs s from a hash, see sign(): the mean square of the differences of projections estimates the
squared L2 norm of the difference of two logit vectors, without storing them.
"""
import json, os, sys
import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data")
PROJECTIONS = 32


def sign(k, n):
    u = np.arange(n, dtype=np.uint64) * 2654435761 + k * 40503
    u &= 0xffffffff
    u ^= u >> 15
    u = u * 2246822519 & 0xffffffff
    u ^= u >> 13
    return 1.0 - 2.0 * (u & 1).astype(np.float64)


def short(x, digits=8):
    return float(f"%.{digits}g" % x)


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


def prompt(model, name, ids, everything=False):
    last = logits_of(model, ids)[-1]
    order = np.argsort(-last, kind="stable")[:32]
    out = {"name": name, "ids": ids, "top": [[int(i), short(last[i])] for i in order], "norm": short(np.linalg.norm(last)),
           "projections": [short(np.dot(last, sign(k, last.size))) for k in range(PROJECTIONS)]}
    if everything:
        out["logits"] = [short(x) for x in last]
    return out


def greedy(model, ids, n):
    tokens, gaps, past, feed = [], [], None, ids
    with torch.no_grad():
        for _ in range(n):
            out = model(torch.tensor([feed]), past_key_values=past, use_cache=True)
            past = out.past_key_values
            best = torch.topk(out.logits[0, -1].double(), 2)
            tokens.append(int(best.indices[0]))
            gaps.append(short(float(best.values[0] - best.values[1]), 6))
            feed = tokens[-1:]
    return {"prompt": ids, "tokens": tokens, "gaps": gaps}


def perplexity(model, ids):
    x = logits_of(model, ids)[:-1]
    x -= x.max(axis=1, keepdims=True)
    lp = (x - np.log(np.exp(x).sum(axis=1, keepdims=True)))[np.arange(len(ids) - 1), ids[1:]]
    return {"ids": ids, "logprobs": [short(v, 7) for v in lp], "perplexity": short(float(np.exp(-lp.mean())), 9)}


def write(name, what):
    path = os.path.join(DATA, name)
    with open(path, "w") as f:
        json.dump(what, f, separators=(",", ":"))
        f.write("\n")
    print(path, os.path.getsize(path), "bytes", file=sys.stderr)


def tiny():
    torch.manual_seed(1)
    config = LlamaConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=192, vocab_size=512,
                         max_position_embeddings=256, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
                         initializer_range=0.1, attn_implementation="eager")
    model = LlamaForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.randn(p.shape) * (0.2 if p.dim() == 1 else 0.15) + (1 if p.dim() == 1 else 0))
    folder = os.path.join(DATA, "tiny-hf")
    model.bfloat16().save_pretrained(folder)
    extra = os.path.join(folder, "generation_config.json")
    if os.path.exists(extra):
        os.remove(extra)
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    rng = np.random.default_rng(1)
    prompts = [[int(i) for i in rng.integers(0, 512, n)] for n in (1, 2, 7, 16, 33, 65, 200)]
    write("tiny_logits.json", {"prompts": [prompt(model, f"{len(p)} tokens", p, True) for p in prompts],
                               "greedy": [greedy(model, p, 48) for p in (prompts[0], prompts[2], prompts[4])],
                               "perplexity": perplexity(model, prompts[6])})


HF_NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
            "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
            "ffn_down": "mlp.down_proj"}


def hf_name(name):
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    if name in top:
        return top[name]
    _, layer, kind, _ = name.split(".")
    return f"model.layers.{layer}.{HF_NAMES[kind]}.weight"


def load_gguf(path):
    """The model, its tokenizer (tokenizers), its chat template; q and k rows are put back from interleaved to rotate-half order."""
    import gguf
    from gguf.quants import dequantize
    r = gguf.GGUFReader(path)
    get = lambda key: r.fields[key].contents()
    heads, kv = get("llama.attention.head_count"), get("llama.attention.head_count_kv")
    state = {}
    for t in r.tensors:
        x = dequantize(t.data, t.tensor_type).astype(np.float32).reshape(tuple(int(d) for d in reversed(t.shape)))
        for kind, n in (("attn_q", heads), ("attn_k", kv)):
            if kind in t.name:
                x = x.reshape(n, x.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)
        state[hf_name(t.name)] = torch.tensor(x)
    tied = "lm_head.weight" not in state
    if tied:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    config = LlamaConfig(hidden_size=get("llama.embedding_length"), num_hidden_layers=get("llama.block_count"), num_attention_heads=heads,
                         num_key_value_heads=kv, intermediate_size=get("llama.feed_forward_length"), vocab_size=get("llama.vocab_size"),
                         max_position_embeddings=get("llama.context_length"), rms_norm_eps=get("llama.attention.layer_norm_rms_epsilon"),
                         rope_theta=get("llama.rope.freq_base"), tie_word_embeddings=tied, attn_implementation="eager")
    model = LlamaForCausalLM(config).float().eval()
    model.load_state_dict(state)
    return model, tokenizer_of(get), get("tokenizer.chat_template")


def tokenizer_of(get):
    from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
    tokens, types = get("tokenizer.ggml.tokens"), get("tokenizer.ggml.token_type")
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens)}, merges=[tuple(m.split(" ")) for m in get("tokenizer.ggml.merges")]))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)])
    t.add_special_tokens([AddedToken(s, special=True) for s, kind in zip(tokens, types) if kind == 3])
    return t


def real(path, name):
    model, tokenizer, template = load_gguf(path)
    encode = lambda s: tokenizer.encode(s, add_special_tokens=False).ids
    import jinja2
    chat = lambda q: encode(jinja2.Template(template).render(messages=[{"role": "user", "content": q}], add_generation_prompt=True))
    essay = encode(open(os.path.join(DATA, "essay.txt")).read())
    print(len(essay), "tokens of essay", file=sys.stderr)
    texts = [("one token", encode("The")), ("two tokens", encode("The capital")), ("a sentence", encode("The capital of France is")),
             ("chat", chat("What is the capital of France?")), ("code", encode("def fibonacci(n):\n    if n < 2:\n        return n\n    return ")),
             ("essay, 129 tokens", essay[:129]), ("essay, 512 tokens", essay[:512]), ("essay, 1000 tokens", essay[:1000])]
    asks = [chat("What is the capital of France?"), chat("Write three sentences about the sea."), encode("Once upon a time, in a small village by the river,")]
    write(name + "_logits.json", {"prompts": [prompt(model, n, ids) for n, ids in texts], "greedy": [greedy(model, ids, 64) for ids in asks],
                                  "perplexity": perplexity(model, essay[:1000])})
    for g in asks:
        print(repr(tokenizer.decode(greedy(model, g, 24)["tokens"], skip_special_tokens=False)), file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 2 and sys.argv[1] == "tiny":
        tiny()
    elif len(sys.argv) == 4 and sys.argv[1] == "gguf":
        real(sys.argv[2], sys.argv[3])
    else:
        sys.exit(__doc__)
