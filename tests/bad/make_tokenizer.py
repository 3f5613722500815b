"""make_tokenizer.py: cases of make.py's kind: tokenizers (500 of frontend/reasons.def)."""
import json, os, struct

from small import *

END = {"id": 4, "content": "<end>", "special": True}


def files(d, **named):
    """`tokenize` on a folder with these files: a name's last _ stands for the dot; objects are written as JSON."""
    for name, data in named.items():
        put(os.path.join(d, ".".join(name.rsplit("_", 1))), data if isinstance(data, (str, bytes)) else json.dumps(data))
    return ["tokenize", d]


def fast(d, change, **more):
    """tokenizer.json of five entries, of which change(document) makes another."""
    t = {"added_tokens": [dict(END)], "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"},
         "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "c": 3}, "merges": ["a b"]}}
    other = change(t)
    return files(d, tokenizer_json=other if isinstance(other, (list, str)) else t, **more)


def model(**keys):
    return lambda t: t["model"].update(keys)


def part(name, value):
    return lambda t: t.__setitem__(name, value)


def slow(d, **more):
    return files(d, **{"vocab_json": {"a": 0, "b": 1, "ab": 2}, "merges_txt": "#version: 0.2\na b\n", **more})


def post(*pieces):
    return part("post_processor", {"type": "TemplateProcessing", "single": list(pieces), "special_tokens": {"<end>": {"id": "<end>", "ids": [4]}}})


def token(name):
    return {"SpecialToken": {"id": name, "type_id": 0}}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}


def piece_hash(s):
    """As frontend/tokenizer/merge.c computes it."""
    mask, h = (1 << 64) - 1, len(s) * 0x9E3779B97F4A7C15
    for i in range(0, len(s), 8):
        h = (h & mask ^ int.from_bytes(s[i:i + 8], "little")) * 0xD6E8FEB86659FD93 & mask
        h ^= h >> 32
    return (h * 0xD6E8FEB86659FD93 & mask) >> 32


def colliding(t):
    """1100 texts that all belong to the first 64 slots of a table of 4096."""
    texts, i = [], 0
    while len(texts) < 1100:
        text = f"{i:x}"
        if piece_hash(text.encode()) & 4095 < 64:
            texts.append(text)
        i += 1
    t["model"].update(vocab={s: k for k, s in enumerate(texts)}, merges=[])
    t["added_tokens"] = []


def gguf(d, change):
    g = Gguf()
    change(g)
    return ["tokenize", g.save(d)]


def no_tokenizer(g):
    for k in [k for k in g.keys if k.startswith("tokenizer.")]:
        del g.keys[k]


def make_501(d): return gguf(d, no_tokenizer)
def make_502(d): return ["tokenize", d]
def make_503(d): return ["tokenize", os.path.join(d, "no")]
def make_504(d): return ["tokenize", put(os.path.join(d, "words.txt"), "a b\n")]
def make_505(d): return gguf(d, lambda g: (g.keys.update({"tokenizer.ggml.tokens": strings()}), g.keys.pop("tokenizer.ggml.token_type")))
def make_506(d): return fast(d, colliding)
def make_510(d): return slow(d, merges_txt="#version: 0.2\na b c\n")
def make_511(d): return fast(d, model(vocab={"a\0b": 0}))
def make_512(d): return fast(d, lambda t: t["added_tokens"][0].update(special="yes"))
def make_513(d): return fast(d, model(vocab={"a": -1}))
def make_514(d): return fast(d, model(vocab={}))
def make_515(d): return fast(d, model(vocab={"a": 0, "b": 0}))
def make_516(d): return slow(d, added_tokens_json={"<end>": 3}, tokenizer_config_json={"added_tokens_decoder": {"4": {"content": "<end>"}}})
def make_517(d): return slow(d, added_tokens_json=["<end>"])
def make_518(d): return slow(d, tokenizer_config_json={"bos_token": 3})
def make_519(d): return slow(d, tokenizer_config_json={"bos_token": "<start>"})
def make_520(d): return slow(d, tokenizer_config_json={"added_tokens_decoder": {"three": {"content": "<end>"}}})
def make_521(d): return slow(d, tokenizer_config_json={"tokenizer_class": "Qwen2Tokenizer"})
def make_522(d): return slow(d, tokenizer_config_json=[])
def make_530(d): return fast(d, lambda t: [])
def make_531(d): return fast(d, part("normalizer", {"type": "Lowercase"}))
def make_532(d): return fast(d, part("model", None))
def make_533(d): return fast(d, model(dropout=0.1))
def make_534(d): return fast(d, model(merges=None))
def make_535(d): return fast(d, model(merges=[["a", "b", "c"]]))
def make_536(d): return fast(d, model(unk_token=3))
def make_537(d): return fast(d, model(unk_token="<unk>"))
def make_538(d): return fast(d, part("pre_tokenizer", None))
def make_541(d): return fast(d, post(token("<start>"), TEXT))
def make_542(d): return fast(d, post(token("<end>")))
def make_543(d): return fast(d, post(TEXT, token("<end>"), token("<end>")))
def make_544(d): return fast(d, part("added_tokens", [{"id": 4}]))
def make_550(d): return fast(d, lambda t: t["added_tokens"][0].update(id=1 << 19))
def make_551(d): return fast(d, lambda t: t["added_tokens"][0].update(content="x" * 4097))
def make_552(d): return fast(d, part("added_tokens", [END, {**END, "id": 5}]))
def make_553(d): return fast(d, part("added_tokens", [END, {**END, "content": "<stop>"}]))
def make_554(d): return fast(d, part("added_tokens", [{**END, "id": 0}]))
def make_555(d): return gguf(d, lambda g: g.keys.update({"tokenizer.ggml.tokens": strings("<end>", "a", "b", "ab", "", "ab"),
                                                         "tokenizer.ggml.token_type": (ARRAY, struct.pack("<IQ6i", I32, 6, 3, 1, 1, 1, 5, 1))}))
def make_556(d): return gguf(d, lambda g: g.keys.update({"tokenizer.ggml.tokens": strings("<end>", "a", "b", "ab", "", b"\xff"),
                                                         "tokenizer.ggml.token_type": (ARRAY, struct.pack("<IQ6i", I32, 6, 3, 1, 1, 1, 5, 1))}))
def make_557(d): return fast(d, model(merges=["a c"]))
def make_558(d): return fast(d, part("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
    {"type": "Digits", "individual_digits": True}, {"type": "ByteLevel", "add_prefix_space": True}]}))
def make_559(d): return fast(d, lambda t: (post(token("<end>"), TEXT)(t), t["post_processor"]["special_tokens"]["<end>"].update(ids=[9])))
def make_560(d): return fast(d, model(unk_token="ab"))
def split(*parts):
    """pre_tokenizer: Sequence of Splits by these expressions, and ByteLevel."""
    return part("pre_tokenizer", {"type": "Sequence", "pretokenizers": [
        *({"type": "Split", "pattern": {"Regex": p}, "behavior": "Isolated", "invert": False} for p in parts), {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}]})


def make_565(d): return fast(d, split("\\w+"))
def make_566(d): return fast(d, split("a" * 4097))
def make_567(d): return fast(d, split("(?<=a+)b"))
def make_568(d): return [*fast(d, split("(?:a|a|b)+c")), "--file", put(os.path.join(d, "text"), "ab" * 100 + " c")]
def make_569(d): return fast(d, split(*33 * ["a"]))
def make_564(d): return ["tokenize", "flagai-v1:" + slow(d)[1]]
