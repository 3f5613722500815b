#!/usr/bin/env python3
"""Writes tests/data/tokenizer/spm*: a small SentencePiece model and what sentencepiece and Hugging Face's tokenizers make of texts; the same for
Llama 3's pattern on the vocabulary of SmolLM2.

  pip install tokenizers==0.23.3 sentencepiece==0.2.3 protobuf
  tokenizer_spm.py [user]      user: only the files of user-defined symbols

spm.model.gz: the model (BPE, byte fallback). spm.json.gz: the same as Hugging Face converts it, merges for scores. spm_cases.gz, little-endian u32:
n; each text: length, bytes, and four lists (count, ids): sentencepiece; tokenizer.json; the same with Metaspace, prepend_scheme first; Llama 3.
Then n; each: count, ids, and their text for skip_special 0, 1: length, bytes.
spm_user.model.gz, spm_user_cases.gz: a model with user-defined symbols; n; each text: length, bytes; sentencepiece: count, ids."""
import gzip, json, os, random, sys, tempfile
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import tokenizer as base
from tokenizer import HERE, Texts, u32, write

LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+")
EXTRA = ["'S I'LL You'Re 'VE", "\u017f'\u017f", "a\r\n\r\n  b", "  \n \n\tx", "12345678 1 22", "x!\n\n", " <s> a</s>\n<unk>b<0x41>", "\u2581a\u2581\u2581b", "\t a", "!!!a"]


USER = ["<|im_start|>", "\u4e2d\u6587", "ab", "\u2581the", "\u2581", "x y", "e\u0301"]


def train(size=1000, **more):
    import sentencepiece as spm
    with tempfile.TemporaryDirectory() as d:
        texts = Texts(11)
        with open(os.path.join(d, "corpus"), "w") as f:
            f.write(open(os.path.join(HERE, "..", "essay.txt")).read())
            for _ in range(3000):
                f.write(texts.text().replace("\0", "").replace("\n", " ") + "\n")
        spm.SentencePieceTrainer.train(input=os.path.join(d, "corpus"), model_prefix=os.path.join(d, "spm"), vocab_size=size, model_type="bpe",
                                       normalization_rule_name="identity", remove_extra_whitespaces=False, byte_fallback=True, character_coverage=0.98,
                                       split_digits=True, allow_whitespace_only_pieces=True, num_threads=1, minloglevel=2, **more)
        return open(os.path.join(d, "spm.model"), "rb").read()


def convert(model):
    """As transformers converts a Llama model: all ways to cut a piece in two, the highest score first."""
    from sentencepiece import sentencepiece_model_pb2 as pb
    pieces = pb.ModelProto.FromString(model).pieces
    vocab = {p.piece: i for i, p in enumerate(pieces)}
    merges = []
    for p in pieces:
        merges += sorted(((p.piece[:i], p.piece[i:], p.score) for i in range(1, len(p.piece)) if p.piece[:i] in vocab and p.piece[i:] in vocab),
                         key=lambda m: (vocab[m[0]], vocab[m[1]]))
    merges.sort(key=lambda m: m[2], reverse=True)
    added = [{"id": i, "content": pieces[i].piece, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True} for i in range(3)]
    space = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    return {"version": "1.0", "added_tokens": added, "normalizer": {"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"}, space]},
            "pre_tokenizer": None,
            "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                               "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}},
            "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}, {"type": "ByteFallback"},
                                                         {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
            "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True, "ignore_merges": False, "vocab": vocab,
                      "merges": [list(m[:2]) for m in merges]}}


def metaspace(document):
    return {**document, "normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": False}}


def llama3():
    from tokenizers import Tokenizer
    document = json.loads(base.load("smollm2").to_str())
    document["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": LLAMA3}, "behavior": "Isolated", "invert": False},
        {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}]}
    document["model"]["ignore_merges"] = True
    return Tokenizer.from_str(json.dumps(document))


def main():
    import sentencepiece as spm
    from tokenizers import Tokenizer
    model = train()
    document = convert(model)
    write("spm.model.gz", model)
    write("spm.json.gz", json.dumps(document, ensure_ascii=False).encode())
    sp = spm.SentencePieceProcessor(model_proto=model)
    fast, first, three = Tokenizer.from_str(json.dumps(document)), Tokenizer.from_str(json.dumps(metaspace(document))), llama3()
    texts, n = Texts(2), 500
    cases = EXTRA + [texts.text() for _ in range(n - len(EXTRA))]
    out = [u32(n)]
    for text in cases:
        out += [u32(len(text.encode())), text.encode()]
        for ids in [sp.encode(text)] + [t.encode(text, add_special_tokens=False).ids for t in (fast, first, three)]:
            out += [u32(len(ids)), u32(*ids)]
    out.append(u32(300))
    for k in range(300):
        ids = [texts.r.randrange(texts.r.choice([300, 1000])) for _ in range(texts.r.randrange(1, 12))] if k % 3 else fast.encode(cases[k]).ids
        out += [u32(len(ids)), u32(*ids)]
        for skip in (False, True):
            text = fast.decode(ids, skip_special_tokens=skip).encode()
            out += [u32(len(text)), text]
    write("spm_cases.gz", b"".join(out))
    write_user()


def write_user():
    import sentencepiece as spm
    model = train(600, user_defined_symbols=USER)
    sp, texts, r = spm.SentencePieceProcessor(model_proto=model), Texts(8), random.Random(8)
    cases = [u32(300)]
    for _ in range(300):
        text = "".join(r.choice([r.choice(USER), " " * r.randrange(3), texts.part()]) for _ in range(r.randrange(6))).replace("</s>", "")
        ids = sp.encode(text)
        cases += [u32(len(text.encode())), text.encode(), u32(len(ids)), u32(*ids)]
    write("spm_user.model.gz", model)
    write("spm_user_cases.gz", b"".join(cases))


if __name__ == "__main__":
    main() if not sys.argv[1:] else write_user()
