"""make_spm.py: cases of make.py's kind: SentencePiece's BPE, in a GGUF file and in tokenizer.json, and patterns (128, 545 to 547, 561 to 563)."""
from make_tokenizer import fast, part
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
def make_547(d): return spm(d, change=lambda g: g.keys.update({"tokenizer.ggml.tokens": strings("<unk>", "a"),
    "tokenizer.ggml.scores": (ARRAY, struct.pack("<IQ2f", F32, 2, 0, 0)), "tokenizer.ggml.token_type": (ARRAY, struct.pack("<IQ2i", I32, 2, 2, 1))}))
def make_561(d): return spm(d, "tokenize", ["a"], [0.0] * 259 + [float("nan")])
def make_562(d): return spm(d, "tokenize", ["a" * 40000])


def make_545(d): return fast(d, part("pre_tokenizer", {"type": "Metaspace", "replacement": "_"}))
def make_546(d): return fast(d, part("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
    {"type": "Split", "pattern": {"Regex": "a"}, "behavior": "isolated", "invert": False}, {"type": "ByteLevel", "use_regex": False}]}))
def make_563(d): return fast(d, part("added_tokens", [{"id": 4, "content": "ab"}]))


# ---- tokenizer.model ----

def varint(x):
    out = b""
    while x > 127:
        out, x = out + bytes([x & 127 | 128]), x >> 7
    return out + bytes([x])


def number(field, x): return varint(field << 3) + varint(x)
def inside(field, data): return varint(field << 3 | 2) + varint(len(data)) + data
def piece(text): return inside(1, inside(1, text) + b"\x15" + struct.pack("<f", 0))


def sentencepiece(d, trainer=number(3, 2), normalizer=number(4, 0), data=None):
    put(os.path.join(d, "tokenizer.model"), piece(b"a") + inside(2, trainer) + inside(3, normalizer) if data is None else data)
    return ["tokenize", d]


def make_570(d): return sentencepiece(d, data=piece(b"a")[:-1])
def make_571(d): return sentencepiece(d, number(3, 1))
def make_572(d): return sentencepiece(d, normalizer=inside(1, b"nmt_nfkc") + inside(2, b"\0\0\0\0") + number(4, 0))
def make_573(d): return sentencepiece(d, normalizer=number(4, 1))
