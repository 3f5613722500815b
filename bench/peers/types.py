#!/usr/bin/env python3
"""types.py: block types side by side: aquila and llama.cpp on the same files, tokens per second of processor time. --help lists the options.

A random model of the architecture (every row a multiple of 256, so that every type fits every matrix but the norms) is written as a folder, turned into
each type by `aquila convert`, and run by both programs in turn. What counts is user time of a long run less that of a short one,
so that neighbours on the machine, starting and packing drop out: ratios, not rates. Needs Python 3.8 and nothing else.
"""
import argparse, json, os, random, statistics, struct, subprocess, sys, tempfile

TYPES = "q2_k,q3_k,q4_k,q5_k,q6_k,q5_0,q5_1,q4_0,q8_0,iq4_nl,iq4_xs"
VOCABULARY = 49152


def arguments():
    p = argparse.ArgumentParser(description="block types, aquila beside llama.cpp")
    p.add_argument("--llama-bin", default=os.environ.get("LLAMA_BIN"), help="folder of llama-bench (LLAMA_BIN); none: aquila alone")
    p.add_argument("--aquila", default="build/release/aquila", help="one or several programs, by commas")
    p.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "aquila-types"), help="folder for the models")
    p.add_argument("--types", default=TYPES)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--tests", default="prompt,decode")
    p.add_argument("--rounds", type=int, default=2)
    p.add_argument("--dim", type=int, default=1024, help="a multiple of 256")
    p.add_argument("--ffn", type=int, default=2816, help="a multiple of 256")
    p.add_argument("--layers", type=int, default=8)
    return p.parse_args()


def tensors(a):
    yield "model.embed_tokens.weight", (VOCABULARY, a.dim)
    yield "model.norm.weight", (a.dim,)
    for i in range(a.layers):
        l = f"model.layers.{i}."
        for name in "qkvo":
            yield l + f"self_attn.{name}_proj.weight", (a.dim, a.dim)
        for name, shape in (("gate", (a.ffn, a.dim)), ("up", (a.ffn, a.dim)), ("down", (a.dim, a.ffn))):
            yield l + f"mlp.{name}_proj.weight", shape
        for name in ("input_layernorm", "post_attention_layernorm"):
            yield l + name + ".weight", (a.dim,)


def numbers(r, count):
    """bf16: sign and exponent by a table of the high byte (0.002 to 0.06), anything below."""
    high = bytes([0x3B, 0x3C, 0x3C, 0x3D, 0xBB, 0xBC, 0xBC, 0xBD] * 32)
    out = bytearray(r.randbytes(2 * count) if hasattr(r, "randbytes") else r.getrandbits(16 * count).to_bytes(2 * count, "little"))
    out[1::2] = out[1::2].translate(high)
    return bytes(out)


def write_model(a, folder):
    os.makedirs(folder, exist_ok=True)
    config = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": a.dim, "intermediate_size": a.ffn, "num_hidden_layers": a.layers,
              "num_attention_heads": a.dim // 64, "num_key_value_heads": a.dim // 64, "vocab_size": VOCABULARY, "max_position_embeddings": 2048,
              "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "hidden_act": "silu", "tie_word_embeddings": True, "torch_dtype": "bfloat16",
              "bos_token_id": 1, "eos_token_id": 2}
    printable = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = [b for b in range(256) if b not in printable]
    letters = {b: chr(b) for b in printable} | {b: chr(256 + i) for i, b in enumerate(rest)}
    words = [letters[b] for b in range(256)] + [f"<{i}>" for i in range(256, VOCABULARY)]
    head, at = {}, 0
    for name, shape in tensors(a):
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        head[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    with open(os.path.join(folder, "model.safetensors"), "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for i, (name, shape) in enumerate(tensors(a)):
            count = shape[0] * (shape[1] if len(shape) > 1 else 1)
            f.write(numbers(random.Random(i), count) if len(shape) > 1 else b"\x80\x3f" * count)
    for name, body in (("vocab.json", json.dumps({w: i for i, w in enumerate(words)}, ensure_ascii=False)), ("merges.txt", "#version: 0.2\n")):
        with open(os.path.join(folder, name), "w") as f:
            f.write(body)
    with open(os.path.join(folder, "config.json"), "w") as f:  # last: the folder is whole
        json.dump(config, f)


def processor_time(args, library):
    p = subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=dict(os.environ, LD_LIBRARY_PATH=library))
    _, status, used = os.wait4(p.pid, 0)
    if status:
        sys.exit(f"{' '.join(args)}: exit {status}")
    return used.ru_utime


def rate(a, program, model, test, threads):
    """Tokens per second of processor time; a program that is no path is llama-bench."""
    p, n, few, many = (512, 0, 1, 6) if test == "prompt" else (0, 64, 1, 11)
    more = ["-fa", "1"] if program == "llama.cpp" else []
    run = [os.path.join(a.llama_bin, "llama-bench"), "-m"] if program == "llama.cpp" else [program, "bench"]
    used = [processor_time(run + [model, "-p", str(p), "-n", str(n), "-t", str(threads), "-r", str(r)] + more, a.llama_bin or "") for r in (few, many)]
    return (many - few) * (p or n) / (used[1] - used[0])


def main():
    a = arguments()
    folder = os.path.join(a.work, f"d{a.dim}-f{a.ffn}-l{a.layers}")
    if not os.path.exists(os.path.join(folder, "config.json")):
        write_model(a, folder)
    programs = a.aquila.split(",") + (["llama.cpp"] if a.llama_bin else [])
    print("| type | test | threads | " + " | ".join(programs) + " |\n|" + "---|" * (3 + len(programs)))
    for t in a.types.split(","):
        model = os.path.join(folder, t + ".gguf")
        if not os.path.exists(model):
            subprocess.run([programs[0], "convert", folder, "-o", model, "--weights-type", t, "-q"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for p in programs:
            if p != "llama.cpp":  # packs once, into its cache
                processor_time([p, "bench", model, "-p", "16", "-n", "1", "-r", "1"], a.llama_bin or "")
        for test in a.tests.split(","):
            for threads in a.threads.split(","):
                found = {p: [] for p in programs}
                for _ in range(a.rounds):
                    for p in programs:
                        found[p].append(rate(a, p, model, test, threads))
                cells = [f"{statistics.median(x):.0f} ({', '.join(f'{y:.0f}' for y in x)})" for x in found.values()]
                print(f"| {t} | {test} | {threads} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
