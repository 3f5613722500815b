"""make_convert.py: cases of make.py's kind: models that are good, and that another form cannot hold (841 to 844)."""
from small import *

VOCAB = {"<unk>": 0, "a": 1, "b": 2, "ab": 3}


def make_841(d):
    g = Gguf()
    g.keys["tokenizer.ggml.tokens"] = strings("<end>", "a", "b", "ab", "[PAD4]", b"two\xff")
    return ["convert", g.save(d), "-o", os.path.join(d, "out")]


def to_gguf(d, tokenizer):
    hf = Hf()
    hf.files["tokenizer.json"] = {"added_tokens": [], "model": {"type": "BPE", "vocab": VOCAB, "merges": ["a b"], **tokenizer.pop("model", {})}, **tokenizer}
    return ["convert", hf.save(os.path.join(d, "hf")), "-o", os.path.join(d, "out.gguf")]


def make_842(d): return to_gguf(d, {"pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False},
    "model": {"unk_token": "<unk>", "fuse_unk": True},
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                 {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}})
def make_843(d): return to_gguf(d, {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False}, "decoder": {"type": "ByteLevel"}, "model": {"ignore_merges": True}})


def make_844(d):
    os.mkdir(os.path.join(d, "none"))
    return ["convert", Gguf().save(d), "-o", os.path.join(d, "out.gguf"), "--tokenizer", os.path.join(d, "none")]
