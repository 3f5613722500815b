#!/usr/bin/env python3
"""What FlagAI's own tokenizer makes of texts: the real code of flagai 1.8.4 (flagai.data.tokenizer.Tokenizer), not a copy of its rules.

  pip install --no-deps flagai==1.8.4; pip install torch regex ftfy jieba sentencepiece six requests tqdm
  flagai_tokenizer.py cases           writes tests/data/tokenizer/flagai_cases.gz, read by tests/tokenizer/test_flagai.c
  flagai_tokenizer.py many AQUILA SECONDS [TEXT...]   random texts, pieces of files with special tokens in them and lists of ids, against the program
  flagai_tokenizer.py classes         characters that its regular expression puts into another class than Hugging Face does

The folder that it opens is made of tests/data/tokenizer/aquila.vocab.gz and of the special_tokens_map.json that FlagAI publishes, which names no ids.
The file: as tests/oracle/tokenizer.py's cases.gz, of one tokenizer and without skip_special: n_texts; each: length, bytes, count, ids, length, bytes of
the decoded ids. n_decodes; each: count, ids, length, bytes.

Run with regex 2026.11.19. Of all characters 17480 have another class there than in Hugging Face's tokenizers 0.23.3 (and here); none of them has a
name in Unicode 14: regex is newer. 701888 ids of 6900 texts and 9900 lists of ids were the same.
"""
import gzip, json, os, random, struct, subprocess, sys, tempfile, time, unicodedata

from tokenizer import HERE, Texts, u32, write

MAP = {"cls_token": {"content": "[CLS]", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True},
       "sep_token": {"content": "</s>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": True}}


def make_folder(folder):
    head, merges = gzip.open(os.path.join(HERE, "aquila.vocab.gz"), "rt", encoding="utf-8", newline="\n").read().split("\n\n")
    made = [m.replace(" ", "") for m in merges.rstrip("\n").split("\n")]
    entries = []
    for line in head.split("\n"):
        entries += made if line == "* *" else [line]
    with open(os.path.join(folder, "vocab.json"), "w", encoding="utf-8") as f:
        json.dump({e: i for i, e in enumerate(entries)}, f)
    with open(os.path.join(folder, "merges.txt"), "w", encoding="utf-8") as f:
        f.write("#version: 0.2\n" + merges)
    with open(os.path.join(folder, "special_tokens_map.json"), "w") as f:
        json.dump(MAP, f)


def original(folder):
    from flagai.data.tokenizer import Tokenizer
    return Tokenizer.from_pretrained("aquila-7b", cache_dir=folder)


class Special(Texts):
    """More special tokens, more white space around them, and what Python strips but Unicode does not call white space."""
    SPECIAL = ("<|endoftext|> <|startofpiece|> <|endofpiece|> <|LDWANG|> [CLS] [MASK] [SEP] [UNK] [gMASK] [sMASK] </s> </s> [CLS] <|endof<|endofpiece|> "
               "[C[CLS]] [SEP [UNK]] <|startofpiece <|LDWANG|><|endoftext|> <s> [PAD]").split(" ")
    SPACE = Texts.SPACE + [" ", "\n", "\x1c", "\x1d", "\x1e", "\x1f", "\x1b", "\u205f", "\u2029", "\u202f", "\u200a", "\u200b"]

    def text(self):
        r = self.r
        parts = []
        for _ in range(r.randrange(0, 7)):
            parts += [self.part()] + [self.some(self.SPACE, 4)] * r.randrange(2) + [r.choice(self.SPECIAL)] * r.randrange(3)
        return "".join(parts)

    def ids(self):
        return [self.r.choice([self.r.randrange(300), self.r.randrange(100008), self.r.randrange(100000, 100008), 0]) for _ in range(self.r.randrange(1, 12))]


def text_list(s):
    return u32(len(s.encode())) + s.encode()


def cases(t, n_texts, n_decodes):
    texts, out = Special(5), [u32(n_texts)]
    for _ in range(n_texts):
        s = texts.text()
        ids = t.encode(s)
        out += [text_list(s), u32(len(ids)), u32(*ids), text_list(t.decode(ids))]
    out.append(u32(n_decodes))
    for _ in range(n_decodes):
        ids = texts.ids()
        out += [u32(len(ids)), u32(*ids), text_list(t.decode(ids))]
    return b"".join(out)


def ask(program, folder, lines, *options):
    data = "".join(json.dumps(x) + "\n" for x in lines)
    p = subprocess.run([program, "tokenize", "--batch", *options, "flagai-v1:" + folder], input=data.encode(), capture_output=True, check=True)
    return [json.loads(x) for x in p.stdout.splitlines()]


def many(t, folder, program, seconds, files):
    texts, end, n, bad = Special(random.randrange(1 << 30)), time.time() + seconds, [0, 0, 0], 0
    real = [open(f, encoding="utf-8").read() for f in files]
    while time.time() < end:
        strings = [texts.text() for _ in range(2000)]
        for s in real * 100:  # real text with special tokens dropped into it
            at = texts.r.randrange(len(s))
            strings.append(s[at:at + 900] + texts.some(texts.SPACE, 3) + texts.r.choice(texts.SPECIAL) + s[at + 900:at + 2000])
        lists = [texts.ids() for _ in range(1000)]
        want = [t.encode(s) for s in strings]
        for s, ours, theirs in zip(strings, ask(program, folder, [{"text": s} for s in strings]), want):
            if ours["ids"] != theirs:
                bad += 1
                print(repr(s), ours["ids"], theirs, sep="\n")
        for ids, ours in zip(want + lists, ask(program, folder, [{"ids": x} for x in want + lists], "--decode")):
            if ours["text"] != t.decode(ids):
                bad += 1
                print(ids, repr(ours["text"]), repr(t.decode(ids)), sep="\n")
        n = [n[0] + len(strings), n[1] + sum(map(len, want)), n[2] + len(want + lists)]
    print(f"{n[0]} texts of {n[1]} ids, {n[2]} lists decoded, {bad} differ")


def classes():
    """classes.gz holds what Hugging Face's pre-tokenizer sees, and test_oracle.c that we see the same; here is what FlagAI's regular expression sees."""
    import regex
    data = gzip.open(os.path.join(HERE, "classes.gz")).read()
    runs = [struct.unpack_from("<II", data, at) for at in range(0, len(data), 8)] + [(0x110000, 0)]
    names = {1: r"\p{L}", 2: r"\p{N}", 3: r"\s"}
    seen = {k: regex.compile(v) for k, v in names.items()}
    wrong = []
    for (start, kind), (end, _) in zip(runs, runs[1:]):
        for c in range(start, end):
            is_class = next((k for k in seen if seen[k].match(chr(c))), 0)
            if not 0xD800 <= c < 0xE000 and is_class != kind & 3:
                wrong.append(c)
    named = [f"{c:04X}" for c in wrong if unicodedata.category(chr(c)) != "Cn"]
    print(f"{len(wrong)} characters have another class, {len(named)} of them named in Unicode {unicodedata.unidata_version}: {' '.join(named[:40])}")


if __name__ == "__main__":
    if sys.argv[1:] == ["classes"]:
        sys.exit(classes())
    with tempfile.TemporaryDirectory() as folder:
        make_folder(folder)
        tokenizer = original(folder)
        if sys.argv[1:] == ["cases"]:
            write("flagai_cases.gz", cases(tokenizer, 400, 200))
        elif sys.argv[1:2] == ["many"] and len(sys.argv) >= 4:
            many(tokenizer, folder, sys.argv[2], float(sys.argv[3]), sys.argv[4:] or [os.path.join(HERE, "..", "essay.txt")])
        else:
            sys.exit(__doc__)
