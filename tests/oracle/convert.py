#!/usr/bin/env python3
"""convert.py: what `aquila convert` writes, read back by others, gives the logits of the source. Packages: torch, transformers 5, numpy, gguf, safetensors, tokenizers,
and llama.cpp's llama-completion or llama-perplexity (optional).

    convert.py PROGRAM MODEL.gguf [FOLDER WITH llama.cpp's PROGRAMS AND LIBRARIES]

MODEL.gguf is a llama model with a gpt2 tokenizer (SmolLM2 as Q4_1, say). Printed, one line a check:
  hf, flagai  safetensors (one file, shards) and pytorch_model.bin (torch.load weights_only=True): logits in f32 by transformers against those
              of the exactly dequantised source, relative L2; tensors bit for bit; ids of transformers' tokenizer against the source's
  gguf        each type, read by gguf-py: names, shapes, types; dequantised values against the source (relative L2), and against what gguf's own
              quantiser makes of it where it has one (share of equal bytes)
  llama.cpp   perplexity of tests/data/essay.txt by llama.cpp on each file, beside Aquila's own on the same file (equal to 5 digits in f32; with block
              types llama.cpp rounds activations to 8 bits, Aquila to 16)
"""
import json, os, re, subprocess, sys, tempfile
import numpy as np
import torch
import gguf
from gguf.quants import dequantize, quantize
from transformers import AutoModelForCausalLM, AutoTokenizer

PROGRAM, MODEL = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
PEER = os.path.abspath(sys.argv[3]) if len(sys.argv) > 3 else None
HERE = os.path.dirname(os.path.abspath(__file__))
ESSAY = os.path.join(HERE, "..", "data", "essay.txt")
TEXT = open(ESSAY).read()


def aquila(*args, stdin=None):
    r = subprocess.run([PROGRAM, *args], capture_output=True, input=stdin, text=True)
    if r.returncode:
        sys.exit(f"{args}: {r.stderr}")
    return r.stdout


def tensors_of(path):
    r = gguf.GGUFReader(path)
    return r, {t.name: (t.tensor_type, dequantize(t.data, t.tensor_type).astype(np.float32).reshape([int(d) for d in reversed(t.shape)]), t) for t in r.tensors}


NAMES = {"attn_norm": "input_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj",
         "attn_output": "self_attn.o_proj", "ffn_norm": "post_attention_layernorm", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "ffn_down": "mlp.down_proj"}
FLAGAI = {"attn_norm": "attention_norm", "attn_q": "attention.wq", "attn_k": "attention.wk", "attn_v": "attention.wv", "attn_output": "attention.wo",
          "ffn_norm": "ffn_norm", "ffn_gate": "feed_forward.w1", "ffn_up": "feed_forward.w3", "ffn_down": "feed_forward.w2"}


def other_name(name, table, top):
    if name in top:
        return top[name]
    _, layer, kind, _ = name.split(".")
    return f"{'model.' if table is NAMES else ''}layers.{layer}.{table[kind]}.weight"


def halves(x, heads):
    """Interleaved rows to rotate-half order, as transformers' conversion script has it."""
    return x.reshape(heads, x.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(x.shape)


def relative(a, b):
    return float(np.linalg.norm(a.astype(np.float64) - b) / np.linalg.norm(b.astype(np.float64)))


def logits_of(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].double().numpy()


def main():
    reader, source = tensors_of(MODEL)
    get = lambda key: reader.fields[key].contents()
    heads, kv = get("llama.attention.head_count"), get("llama.attention.head_count_kv")
    ids = [int(x) for x in aquila("tokenize", MODEL, stdin=TEXT).split()][:256]
    print(f"{os.path.basename(MODEL)}: {len(source)} tensors; {len(ids)} tokens of essay.txt")
    with tempfile.TemporaryDirectory() as d:
        at = lambda n: os.path.join(d, n)
        want = None
        for name, more in (("hf", []), ("shards", ["--shard-size", "60MB"]), ("bf16", ["--weights-type", "bf16"]), ("f16", ["--weights-type", "f16"])):
            aquila("convert", MODEL, "-o", at(name), *more)
            m = AutoModelForCausalLM.from_pretrained(at(name), dtype=torch.float32, attn_implementation="eager").eval()
            if want is None:  # the reference: transformers on tensors dequantised by gguf-py
                top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
                state, same = dict(m.named_parameters()), 0
                reference = {}
                for n, (_, x, _) in source.items():
                    x = halves(x, heads) if "attn_q." in n else halves(x, kv) if "attn_k." in n else x
                    reference[other_name(n, NAMES, top)] = x
                    same += np.array_equal(state[other_name(n, NAMES, top)].detach().numpy(), x)
                got = logits_of(m, ids)
                with torch.no_grad():
                    for n, x in reference.items():
                        state[n].copy_(torch.tensor(x))
                want = logits_of(m, ids)
                print(f"hf: {same} of {len(source)} tensors equal bit for bit; logits relative L2 {relative(got, want):.2e}")
            else:
                print(f"{name}: {len([f for f in os.listdir(at(name)) if f.endswith('.safetensors')])} files; logits relative L2 {relative(logits_of(m, ids), want):.2e}")
            t = AutoTokenizer.from_pretrained(at(name))
            assert t(TEXT, add_special_tokens=False)["input_ids"] == [int(x) for x in aquila("tokenize", MODEL, stdin=TEXT).split()], "ids differ"
            chat = t.apply_chat_template([{"role": "user", "content": "hi <|im_end|> 12"}], tokenize=False)
            assert "hi" in chat
        print("tokenizer: transformers' ids of essay.txt are the source's; the chat template renders")
        aquila("convert", MODEL, "-o", at("flagai"), "--to", "flagai")
        state = torch.load(at("flagai/pytorch_model.bin"), weights_only=True, mmap=True)
        top = {"token_embd.weight": "tok_embeddings.weight", "output_norm.weight": "norm.weight", "output.weight": "output.weight"}
        same = sum(np.array_equal(state[other_name(n, FLAGAI, top)].float().numpy(), x) for n, (_, x, _) in source.items())
        print(f"flagai: torch.load(weights_only=True, mmap=True): {same} of {len(source)} tensors equal bit for bit")
        aquila("convert", at("flagai"), "-o", at("back"))
        m = AutoModelForCausalLM.from_pretrained(at("back"), dtype=torch.float32, attn_implementation="eager").eval()
        print(f"flagai -> hf: logits relative L2 {relative(logits_of(m, ids), want):.2e}")
        for kind in ("as-stored", "f32", "bf16", "f16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1", "q4_k", "q6_k", "q5_k", "q3_k", "q2_k", "iq4_nl", "iq4_xs"):
            path = at(kind + ".gguf")
            aquila("convert", MODEL if kind == "as-stored" else at("hf"), "-o", path, "--weights-type", kind)
            _, made = tensors_of(path)
            assert set(made) == set(source) and all(made[n][1].shape == source[n][1].shape for n in made)
            count, error, equal, bytes_ = {}, 0, 0, 0
            for n, (t, x, raw) in made.items():
                count[t.name] = count.get(t.name, 0) + 1
                error = max(error, relative(x, source[n][1]))
                try:
                    theirs = quantize(source[n][1], t).tobytes()
                except NotImplementedError:
                    continue
                ours = np.ascontiguousarray(raw.data).tobytes()
                equal += int((np.frombuffer(ours, np.uint8) == np.frombuffer(theirs, np.uint8)).sum())
                bytes_ += len(ours)
            line = f"gguf {kind}: {count}; worst tensor {error:.2e}" + (f"; bytes equal to gguf-py's {equal / bytes_:.6f} of {bytes_}" if bytes_ else "")
            if PEER:
                line += perplexities(path)
            print(line, flush=True)
            os.remove(path)


def perplexities(path):
    r = subprocess.run([os.path.join(PEER, "llama-perplexity"), "-m", path, "-f", ESSAY, "-c", "512", "-t", "2", "--no-warmup"], capture_output=True, text=True,
                       env={**os.environ, "LD_LIBRARY_PATH": PEER})
    found = re.search(r"Final estimate: PPL = ([0-9.]+)", r.stdout + r.stderr)
    theirs = found.group(1) if found else "failed: " + (r.stdout + r.stderr)[-200:]
    ours = json.loads(aquila("score", path, "--file", ESSAY, "--json"))
    # llama-perplexity: windows of 512, the second half of each counts
    lp, n = [], 512
    ids = ours["tokens"]
    for start in range(0, len(ids) - n + 1, n):
        part = json.loads(aquila("score", path, "--prompt-ids", ",".join(map(str, ids[start:start + n])), "--json"))["logprobs"]
        lp += part[n // 2 + 1:]
    return f"; perplexity llama.cpp {theirs}, aquila {np.exp(-np.mean(lp)):.4f}"


main()
