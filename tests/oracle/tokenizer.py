#!/usr/bin/env python3
"""Writes tests/data/tokenizer/: three vocabularies and what Hugging Face's tokenizers make of texts.

  pip install tokenizers==0.23.3 gguf
  tokenizer.py vocab SMOLLM2.gguf GPT2-FOLDER AQUILA-FOLDER   the vocabularies (folders hold vocab.json and merges.txt)
  tokenizer.py cases                                          texts and ids, from the vocabularies written before
  tokenizer.py classes                                        the class of every character
  tokenizer.py seeds                                          tests/fuzz/corpus/tokenizer/ (needs no package)

A vocabulary file is text: entries in the order of their ids, one a line, a line "* *" for all that the merges make; an empty line; the
merges. cases.gz is binary, little-endian u32: see case_file() below.
"""
import gzip
import io
import json
import os
import random
import struct
import sys

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "tokenizer")
NAMES = ["smollm2", "gpt2", "aquila"]
ADDED = {  # text: is it special
    "smollm2": {t: True for t in (
        "<|endoftext|> <|im_start|> <|im_end|> <repo_name> <reponame> <file_sep> <filename> <gh_stars> <issue_start> <issue_comment> "
        "<issue_closed> <jupyter_start> <jupyter_text> <jupyter_code> <jupyter_output> <jupyter_script> <empty_output>").split()},
    "gpt2": {"<|endoftext|>": True},
    "aquila": {"<|endoftext|>": True, "<|startofpiece|>": False, "<|endofpiece|>": False, "<|LDWANG|>": False, "[MASK]": False,
               "[gMASK]": False, "[sMASK]": False, "[CLS]": True, "</s>": True},
}


def write(name, data):
    path = os.path.join(HERE, name)
    buffer = io.BytesIO()
    with gzip.GzipFile(fileobj=buffer, mode="wb", compresslevel=9, mtime=0) as f:
        f.write(data)
    with open(path, "wb") as f:
        f.write(buffer.getvalue())
    print(path, len(data), "->", len(buffer.getvalue()))


def write_vocab(name, entries, merges):
    made = [m.replace(" ", "") for m in merges]
    start = next(i for i in range(len(entries)) if entries[i:i + len(made)] == made)
    lines = entries[:start] + ["* *"] + entries[start + len(made):] + [""] + merges
    write(name + ".vocab.gz", ("\n".join(lines) + "\n").encode())


def read_slow(folder):
    vocab = json.load(open(os.path.join(folder, "vocab.json"), encoding="utf-8"))
    entries = sorted(vocab, key=vocab.get)
    assert [vocab[e] for e in entries] == list(range(len(entries)))
    lines = open(os.path.join(folder, "merges.txt"), encoding="utf-8").read().split("\n")
    return entries, [l for l in lines if l and not l.startswith("#version")]


def vocabs(gguf_path, gpt2, aquila):
    from gguf import GGUFReader
    fields = GGUFReader(gguf_path).fields
    write_vocab("smollm2", fields["tokenizer.ggml.tokens"].contents(), fields["tokenizer.ggml.merges"].contents())
    write_vocab("gpt2", *read_slow(gpt2))
    write_vocab("aquila", *read_slow(aquila))


def load(name):
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers as pre
    head, merges = gzip.open(os.path.join(HERE, name + ".vocab.gz"), "rt", encoding="utf-8", newline="\n").read().split("\n\n")
    merges = merges.rstrip("\n").split("\n")
    entries = []
    for line in head.split("\n"):
        entries += [m.replace(" ", "") for m in merges] if line == "* *" else [line]
    t = Tokenizer(models.BPE(vocab={e: i for i, e in enumerate(entries)}, merges=[tuple(m.split(" ")) for m in merges]))
    level = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    t.pre_tokenizer = pre.Sequence([pre.Digits(individual_digits=True), level]) if name == "smollm2" else level
    t.decoder = decoders.ByteLevel()
    for text, special in ADDED[name].items():
        t.add_tokens([AddedToken(text, special=special, normalized=not special)])
    return t


class Texts:
    """Random texts that look for trouble. Deterministic by seed."""
    EN = ("The quick brown fox doesn't jump over 13 lazy dogs; we'll see, it's the users' choice, isn't it? I'd say they've HE'S "
          "internationalization unbelievable supercalifragilistic Mr. O'Neil $1,234.56 e-mail: a_b@c.org").split(" ")
    ZH = "的一是不了人我在有他这为之大来以个中上们到说国和地也子时道出而要于就下得可你年生自会那后能对着事其里所去行过家，。！？、；：“”《》"
    CODE = ("for (int i = 0; i < n; ++i) {\n\t\tx[i] += 0x1F * y[i];  // sum\n    }\n", "def f(self, *args):\n        return {k: v for k, v in args}\n",
            "<div class=\"a-b\">&nbsp;</div>\n", "SELECT * FROM t WHERE a != 'b' AND c >= 10;\r\n")
    EMOJI = "😀😂👩\u200d👩\u200d👧🇨🇳❤\ufe0f👍🏽🧑\u200d💻"
    SPECIAL = ("<|endoftext|> <|im_start|> <|im_end|> </s> [CLS] [MASK] [gMASK] <|startofpiece|> <|endofpiece|> <|LDWANG|> [MAS <|im_ < <| "
               "<|endoftext|>< [[CLS]]").split(" ")
    SPACE = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\u00a0", "\u2003", "\u2028", "\x85", "\x0b", "\x0c", "\u1680", "\u200b", "\u180e", "\ufeff"]
    SHORT = ["'s", "'t", "'re", "'ve", "'m", "'ll", "'d", "'S", "'", "''s", "\u2019s", "'l", "'v", "'r"]

    def __init__(self, seed):
        self.r = random.Random(seed)

    def char(self):
        while True:
            c = self.r.randrange(self.r.choice([0x80, 0x800, 0x3000, 0x10000, 0x110000]))
            if not 0xD800 <= c < 0xE000:
                return chr(c)

    def some(self, chars, most):
        return "".join(self.r.choice(chars) for _ in range(self.r.randrange(1, most)))

    def part(self):
        r = self.r
        return r.choice([
            lambda: "".join(self.char() for _ in range(r.randrange(1, 12))),
            lambda: " ".join(r.choice(self.EN) for _ in range(r.randrange(1, 8))),
            lambda: self.some(self.ZH, 40),
            lambda: self.some(self.EMOJI, 6),
            lambda: r.choice(self.CODE),
            lambda: r.choice(self.SPECIAL),
            lambda: self.some(self.SPACE, 6),
            lambda: r.choice(self.SHORT),
            lambda: r.choice(["a", "ab", "=", "-", " ", "\n", "0", "\u00e9", "的", "\u0301"]) * r.randrange(1, r.choice([8, 200])),
            lambda: str(r.randrange(10 ** r.randrange(1, 15))),
            lambda: "".join(chr(r.randrange(32)) for _ in range(r.randrange(1, 6))),
            lambda: self.some("abcdefghijklmnopqrstuvwxyz", r.choice([12, 200])),
            lambda: self.some("aeht ", 60),
        ])()

    def text(self):
        return "".join(self.part() for _ in range(self.r.randrange(0, 6)))


def u32(*x):
    return struct.pack("<%dI" % len(x), *x)


def case_file(seed, n_texts, n_decodes):
    """n_texts; each: length, bytes, and for each of NAMES: count, ids. Then for each of NAMES: n_decodes; each: count, ids, and for
    skip_special 0, 1: length, bytes."""
    texts, tokenizers = Texts(seed), [load(n) for n in NAMES]
    out = [u32(n_texts)]
    for _ in range(n_texts):
        text = texts.text()
        out += [u32(len(text.encode())), text.encode()]
        for t in tokenizers:
            ids = t.encode(text, add_special_tokens=False).ids
            out += [u32(len(ids)), u32(*ids)]
    for t in tokenizers:
        out.append(u32(n_decodes))
        for _ in range(n_decodes):
            ids = [texts.r.randrange(texts.r.choice([300, t.get_vocab_size()])) for _ in range(texts.r.randrange(1, 12))]
            out += [u32(len(ids)), u32(*ids)]
            for skip in (False, True):
                text = t.decode(ids, skip_special_tokens=skip).encode()
                out += [u32(len(text)), text]
    return b"".join(out)


def classes():
    """Runs of characters of one class: first character, class (0 other, 1 letter, 2 number, 3 space; + 4 if the digit splitter takes
    it for a number, + 8 if it is part of a word to single_word). Found out by what stays in one piece with a letter, a digit, a mark."""
    from tokenizers import AddedToken, Tokenizer, models
    from tokenizers.pre_tokenizers import ByteLevel, Digits
    words = Tokenizer(models.BPE())
    words.add_tokens([AddedToken("cat", single_word=True, normalized=False)])
    level, digits = ByteLevel(add_prefix_space=False, use_regex=True), Digits(individual_digits=True)
    out, last = [], None
    for c in range(0x110000):
        if 0xD800 <= c < 0xE000:
            continue
        joins = [k for k, before in ((1, "a"), (2, "1"), (0, "!")) if len(level.pre_tokenize_str(before + chr(c))) == 1]
        this = (joins[0] if joins else 3) + 4 * (len(digits.pre_tokenize_str("a" + chr(c))) > 1)
        this += 8 * (not words.encode("cat" + chr(c)).ids)
        if this != last:
            out.append(u32(c, this))
        last = this
    write("classes.gz", b"".join(out))


def seeds():
    folder = os.path.join(HERE, "..", "..", "fuzz", "corpus", "tokenizer")
    os.makedirs(folder, exist_ok=True)
    letters = ["a", "b", "\u0120", "\u00e4", "\u00b8", "\u0143", "1"]  # U+0120 is a space, the next three are bytes
    merges = ["a b", "\u0120 a", "\u0120a b", "\u00e4 \u00b8", "b b"]
    vocab = {v: i for i, v in enumerate(letters + [m.replace(" ", "") for m in merges])}
    text = "ab abb<s> a1b 11 \u4e2d aab  ".encode() + b"\xe4\xb8\xff<s>"
    special = json.dumps({"bos_token": "<s>", "unk_token": {"content": "a", "lstrip": True}})

    def doc(**changes):
        d = {"version": "1.0", "normalizer": None, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True},
             "added_tokens": [{"id": 12, "content": "<s>", "special": True, "lstrip": True, "rstrip": True, "normalized": False},
                              {"id": 13, "content": " b", "special": False, "single_word": True, "normalized": True}],
             "decoder": {"type": "ByteLevel"},
             "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>"}}, {"Sequence": {"id": "A"}}],
                                "special_tokens": {"<s>": {"id": "<s>", "ids": [12]}}},
             "model": {"type": "BPE", "unk_token": None, "vocab": vocab, "merges": merges}}
        d.update(changes)
        return json.dumps(d, ensure_ascii=len(changes) % 2 == 0).encode()

    sequence = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True},
                                                      {"type": "ByteLevel", "add_prefix_space": False}]}
    def splits(*parts):
        return {"type": "Sequence", "pretokenizers": list(parts)}

    def regex(pattern, behavior="Isolated"):
        return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": False}

    level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
    pairs = {"vocab": vocab, "merges": [m.split(" ") for m in merges], "unk_token": "1"}
    files = {
        "json": b"j" + doc() + b"\0" + special.encode() + b"\0" + text,
        "json_digits": b"j" + doc(pre_tokenizer=sequence) + b"\0\0" + text,
        "json_pairs": b"j" + doc(model=pairs, post_processor=None) + b"\0\0" + text,
        "json_split": b"j" + doc(pre_tokenizer=splits(regex("(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n/]*|\\s+(?!\\S)|\\s+"), level)) + b"\0\0" + text,
        "json_steps": b"j" + doc(pre_tokenizer=splits(regex("(?<=a)b|(?>a+?|[a[b-d]\\x{4E00}-\\u9FA5])c?$", "MergedWithNext"), {"type": "Punctuation", "behavior": "Contiguous"},
                                                      {"type": "Split", "pattern": {"String": "ab"}, "behavior": "Removed"}, level)) + b"\0\0" + text,
        "json_alphabet": b"j" + doc(pre_tokenizer=splits({**level, "use_regex": True}, {"type": "Digits", "individual_digits": False}, regex("[0-9][0-9]|\u0120", "MergedWithPrevious"))) + b"\0\0" + text,
        "json_refused": b"j" + doc(normalizer={"type": "NFC"}) + b"\0\0" + text,
        "slow": b"s" + json.dumps(vocab).encode() + b"\0#version: 0.2\n" + "\n".join(merges).encode() + b"\n\0" +
                json.dumps({"<s>": 12}).encode() + b"\0" + special.encode() + b"\0" + text,
        "slow_config": b"s" + json.dumps(vocab).encode() + b"\0" + "\r\n".join(merges).encode() + b"\0\0" +
                       json.dumps({"tokenizer_class": "GPT2Tokenizer", "added_tokens_decoder": {"14": {"content": "[X]", "special": True}},
                                   "add_prefix_space": True}).encode() + b"\0" + text,
    }
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as f:
            f.write(data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["vocab"] and len(sys.argv) == 5:
        vocabs(*sys.argv[2:])
    elif sys.argv[1:] == ["classes"]:
        classes()
    elif sys.argv[1:] == ["seeds"]:
        seeds()
    elif sys.argv[1:] == ["cases"]:
        write("cases.gz", case_file(seed=1, n_texts=600, n_decodes=300))
    else:
        sys.exit(__doc__)
