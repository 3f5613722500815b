"""make_spm.py: cases of make.py's kind: SentencePiece's BPE, in a GGUF file (128, 129, 561 and after)."""
from small import *


def spm(folder, verb="show", tokens=(), scores=None, change=lambda g: None):
    """A GGUF file with a `llama` tokenizer: <unk>, <s>, </s>, the bytes, tokens."""
    g = Gguf()
    texts = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % b for b in range(256)] + list(tokens)
    scores = scores or [0.0] * 259 + [-float(i) for i in range(len(tokens))]
    g.keys["tokenizer.ggml.model"] = (STRING, string("llama"))
    g.keys["tokenizer.ggml.tokens"] = strings(*texts)
    g.keys["tokenizer.ggml.scores"] = (ARRAY, struct.pack("<IQ%df" % len(scores), F32, len(scores), *scores))
    g.keys["tokenizer.ggml.token_type"] = (ARRAY, struct.pack("<IQ%di" % len(texts), I32, len(texts), 2, 3, 3, *[6] * 256, *[1] * len(tokens)))
    g.keys.pop("tokenizer.ggml.merges")
    g.tensors["token_embd.weight"] = [[WIDTH, len(texts)], 1, bytes(2 * WIDTH * len(texts)), None]
    change(g)
    path = g.save(folder)
    return ["show", "--json", path] if verb == "show" else ["tokenize", path]


def make_128(d): return spm(d, scores=[0.0])
def make_129(d): return spm(d, change=lambda g: g.keys.update({"tokenizer.ggml.tokens": strings("<unk>", "a"),
    "tokenizer.ggml.scores": (ARRAY, struct.pack("<IQ2f", F32, 2, 0, 0)), "tokenizer.ggml.token_type": (ARRAY, struct.pack("<IQ2i", I32, 2, 2, 1))}))
def make_561(d): return spm(d, "tokenize", ["a"], [0.0] * 259 + [float("nan")])
def make_562(d): return spm(d, "tokenize", ["a" * 40000])
