#!/usr/bin/env python3
"""What Hugging Face's tokenizers make of pre-tokenizers: Split by regular expressions and texts, Digits, Punctuation, ByteLevel, in any order.

  pip install tokenizers==0.23.3
  splits.py cases                       writes tests/data/tokenizer/splits.gz: pre-tokenizers, texts, the pieces of each
  splits.py random PROGRAM SEED N       N random expressions and Sequences, a few texts each, through `PROGRAM tokenize`: prints what differs
  splits.py convert PROGRAM             what `PROGRAM convert` writes, read by transformers (5): ids on random texts against the tokenizer it was made of
  splits.py younger                     prints the rows of frontend/tokenizer/younger.def (run it where Python knows Unicode 14.0)
  splits.py names PROGRAM LLAMA_CPP     every name of tokenizer.ggml.pre against llama.cpp (its source, built): prints texts that differ

splits.gz: JSON, a list of {"pre": pre_tokenizer, "cases": [[text, lengths of its pieces in bytes], ...]}.
"""
import gzip
import io
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from tokenizer import HERE, Texts, write

LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
GPT2 = {**LEVEL, "use_regex": True}
BEHAVIORS = ["Isolated", "Removed", "Contiguous", "MergedWithPrevious", "MergedWithNext"]


def split(regex, behavior="Isolated", invert=False, kind="Regex"):
    return {"type": "Split", "pattern": {kind: regex}, "behavior": behavior, "invert": invert}


def sequence(*parts):
    return {"type": "Sequence", "pretokenizers": list(parts)}


def digits(individual):
    return {"type": "Digits", "individual_digits": individual}


def punctuation(behavior):
    return {"type": "Punctuation", "behavior": behavior}


def known():
    """The pre-tokenizers of published models."""
    import re
    source = open(os.path.join(HERE, "../../../frontend/tokenizer/patterns.c"), encoding="utf-8").read()
    letters = "".join(re.findall(r'"([^"]*)"', source.split("#define DEEPSEEK_LETTERS")[1].split("#define")[0]))
    short, first, rest = "(?i:'s|'t|'re|'ve|'m|'ll|'d)", "[^\\r\\n\\p{L}\\p{N}]?", "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
    upper, lower = "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]", "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
    chinese = split("[一-龥ࠀ-一가-퟿]+")
    yield "gpt-2", GPT2
    yield "llama-bpe", sequence(split(short + "|" + first + "\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + rest), LEVEL)
    yield "smollm", sequence(digits(True), GPT2)
    yield "qwen2", sequence(split(short + "|" + first + "\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + rest), LEVEL)
    yield "qwen35", sequence(split(short + "|" + first + "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" + rest), LEVEL)
    yield "tekken", sequence(split(f"{first}{upper}*{lower}+|{first}{upper}+{lower}*|\\p{{N}}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n/]*|{rest}"), LEVEL)
    yield "gpt-4o", sequence(split(f"{first}{upper}*{lower}+{short}?|{first}{upper}+{lower}*{short}?|\\p{{N}}{{1,3}}| ?[^\\s\\p{{L}}\\p{{N}}]+[\\r\\n/]*|{rest}"), LEVEL)
    yield "seed-coder", sequence(split(short + "|" + first + "\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\\r\\n]+|" + rest), LEVEL)
    yield "minicpm5", sequence(split("\\p{N}{1,3}"), split(short + "|" + first + "\\p{L}+|\\p{N}+| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" + rest), LEVEL)
    yield "bailingmoe", sequence(split("'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]++[\\r\\n]*|\\s*[\\r\\n]|\\s+(?!\\S)|\\s+"), LEVEL)
    yield "deepseek-llm", sequence(split("[\r\n]"), split("\\s?[" + letters + "]+"), split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"), split("\\s+$"), chinese, digits(True), LEVEL)
    yield "deepseek-coder", sequence(split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), chinese, digits(True), LEVEL)
    yield "deepseek-v3", sequence(split("\\p{N}{1,3}"), split("[一-龥぀-ゟ゠-ヿ]+"), split(
        "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|" + rest), LEVEL)
    yield "falcon", sequence(punctuation("Contiguous"), GPT2, digits(False), split("[0-9][0-9][0-9]"))
    yield "bloom", sequence(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), LEVEL)
    yield "viking", sequence(split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), digits(True), LEVEL)


def others():
    """Each behaviour, each construct."""
    for behavior in BEHAVIORS:
        yield sequence(split("\\s+|a+|", behavior), LEVEL)
        yield sequence(split("[a-f]+\\d*", behavior, True), GPT2)
        yield sequence(punctuation(behavior), LEVEL)
        yield sequence(split("th", behavior, False, "String"), split("\\.(", behavior, True, "String"), LEVEL)
    yield sequence(split("(?=(\\d{3})+(?!\\d))"), LEVEL)
    yield sequence(split("(?<=\\p{Ll})(?=\\p{Lu})|(?<!\\s)\\s"), GPT2)
    yield sequence(split("^.{1,4}|.$|\\S\\s|[^\\S\\n]+"), LEVEL)
    yield sequence(split("a{2,}?b?|[\\x{4E00}-\\u9FA5]{2}|\\x41++|(?>e+|x)|[-x]"), digits(False), LEVEL)
    yield sequence(split("\\p{P}|\\p{S}|\\P{L}\\p{Z}|\\D\\d"), LEVEL)
    for name, spec in known():  # what we do by hand, once more by its expression
        if name in ("gpt-2", "llama-bpe"):
            pattern = spec["pretokenizers"][0]["pattern"]["Regex"] if "pretokenizers" in spec else "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
            yield sequence(split("(?:" + pattern + ")"), LEVEL)
    yield sequence(GPT2, digits(True), punctuation("Isolated"), split("\u0120+"))
    yield LEVEL


def pieces(pre, text):
    """Lengths in bytes, of what is left."""
    return [len(p) for p, _ in pre.pre_tokenize_str(text)]  # behind ByteLevel a character is a byte


def load(spec):
    from tokenizers import Tokenizer, models
    t = json.loads(Tokenizer(models.BPE()).to_str())
    t["pre_tokenizer"] = spec
    return Tokenizer.from_str(json.dumps(t)).pre_tokenizer


class MoreTexts(Texts):
    def part(self):
        r = self.r
        if r.randrange(3):
            return super().part()
        return r.choice([
            lambda: self.some("ABCabc \n'", 12), lambda: str(r.randrange(10 ** r.randrange(1, 9))) + r.choice(["", ",", ".", "%"]),
            lambda: r.choice(["HTTPServer", "camelCase", "I'LL", "We'RE", "\u017f", "'\u017f", "\u212a", "\u00df", "STRA\u00dfE", "\ufb00", "e\u0301a\u0300", "a/b/c//\n"]),
            lambda: "".join(chr(r.choice([0x897, 0xCF3, 0x1B4E, 0x1C89, 0x2427, 0x10D41, 0x105C3, 0x11DE1, 0x1E5D3, 0x1FA89, 0x13461])) for _ in range(3)),
            lambda: self.some(["\u0967", "\u00b2", "\u00bd", "\u216b", "\u3007", "\u0e51"], 5), lambda: self.some("?!.,;:()[]{}\u2026\u3002\uff0c\u060c$+<=>^`|~", 6),
        ])()


def cases():
    texts, out = MoreTexts(2), []
    for spec in [s for _, s in known()] + list(others()):
        pre = load(spec)
        out.append({"pre": spec, "cases": [[t, pieces(pre, t)] for t in (texts.text().replace("\0", "") for _ in range(60))]})
    write("splits.gz", json.dumps(out, ensure_ascii=False, separators=(",", ":")).encode())


class Expressions:
    """Random expressions; many are not in our grammar, some in nobody's."""

    def __init__(self, seed):
        self.r = random.Random(seed)

    def char(self):
        return self.r.choice(["a", "b", "e", "t", "s", "1", "2", " ", "'", "!", "\u4e2d", "\\n", "\\.", "\\x41", "\\x{4E2D}", "\\u0062", "\\t", "\u00e9", "-", ",", "}", "\\v", "\\/"])

    def set_part(self):
        return self.r.choice([self.char, self.char, lambda: "a-e", lambda: "0-9", lambda: "\\s", lambda: "\\p{L}", lambda: "\\p{Lu}", lambda: "\\S", lambda: "\\d", lambda: "\\P{N}",
                              lambda: "[ab]", lambda: "\\]", lambda: "^", lambda: "\\^", lambda: "\\p{M}", lambda: "$", lambda: "(", lambda: "|", lambda: "\\-", lambda: "\u4e00-\u9fa5",
                              lambda: "\\w", lambda: "\\h", lambda: "&&"])()

    def atom(self, depth):
        r = self.r
        return r.choice([
            self.char, self.char, self.char, lambda: ".", lambda: "\\s", lambda: "\\S", lambda: "\\d", lambda: "\\D", lambda: "\\p{L}", lambda: "\\p{N}", lambda: "\\P{L}",
            lambda: "\\p{%s}" % r.choice("Lu Ll M P S Z Nd So".split()), lambda: "[" + r.choice(["", "", "^"]) + "".join(self.set_part() for _ in range(r.randrange(1, 4))) + "]",
            lambda: r.choice(["^", "$", "\\b", "\\w", "\\A", "\\h", "\\R", "\\X", "(?i)", "(?m:.)", "\\1", "(?#x)", "\\Z", "\\G", "\\K"]),
            lambda: r.choice(["(", "(?:", "(?:", "(?>", "(?=", "(?!", "(?<=", "(?<!"]) + (self.expression(depth - 1) if depth else "a") + ")",
            lambda: "(?i:" + "|".join("".join(r.choice("'asdtrvelmfk") for _ in range(r.randrange(1, 4))) for _ in range(r.randrange(1, 4))) + ")",
        ])()

    def sequence(self, depth):
        out = ""
        for _ in range(self.r.randrange(0, 4) if self.r.randrange(4) == 0 else self.r.randrange(1, 4)):
            out += self.atom(depth)
            if self.r.randrange(5) < 2:
                out += self.r.choice(["?", "*", "+", "??", "*?", "+?", "?+", "*+", "++", "{2}", "{1,3}", "{2,}", "{1,2}?", "{,2}", "{2}?", "{1,2}+", "**", "{", "{0}"])
        return out

    def expression(self, depth=2):
        return "|".join(self.sequence(depth) for _ in range(self.r.choice([1, 1, 2, 3])))

    def part(self):
        r = self.r
        if r.randrange(6) == 0:
            return r.choice([digits(True), digits(False), punctuation(r.choice(BEHAVIORS)), split(r.choice(["a", "a b", "(e", "."]), r.choice(BEHAVIORS), r.randrange(2) == 1, "String")])
        return split(self.expression(), r.choice(BEHAVIORS + ["Isolated"] * 4), r.randrange(8) == 0)

    def pre(self):
        parts = [self.part() for _ in range(self.r.choice([1, 1, 1, 2, 3]))]
        level = self.r.choice([LEVEL, LEVEL, GPT2])
        parts.insert(self.r.choice([len(parts)] * 4 + [0, self.r.randrange(len(parts) + 1)]), level)
        return sequence(*parts)



def pair_tokenizer(spec, most=100):
    """Bytes and all pairs of them that texts here often have: where a piece ends, no pair is."""
    from tokenizers import pre_tokenizers
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    often = "".join(p for p, _ in load(LEVEL).pre_tokenize_str("abcdeABtsrlmvfk012 '!.,\n\t(-\u4e2d\u00e9\u017f"))
    often = sorted(set(often))[:most]
    vocab = {c: i for i, c in enumerate(letters)}
    merges = [(a, b) for a in often for b in often]
    for a, b in merges:
        vocab.setdefault(a + b, len(vocab))
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None, "pre_tokenizer": spec, "post_processor": None,
            "decoder": LEVEL, "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": False,
                                        "byte_fallback": False, "ignore_merges": False, "vocab": vocab, "merges": [list(m) for m in merges]}}


class RandomTexts(MoreTexts):
    def part(self):
        return self.some("aaabbcdeABtsrlmvfk0012   ''!!.,\n\t(-\u4e2d\u00e9\u017f\u212a\u00df\ufb01", 25) if self.r.randrange(3) else super().part()


def run_program(program, folder, texts):
    lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
    return subprocess.run([program, "tokenize", "--batch", folder], input=lines.encode(), capture_output=True, timeout=300)


def random_runs(program, seed, n):
    from tokenizers import Tokenizer
    makes, texts = Expressions(seed), RandomTexts(seed)
    count = {"equal": 0, "refused by both": 0, "refused here": 0, "taken here only": 0, "too many steps": 0, "DIFFERENT": 0}
    with tempfile.TemporaryDirectory() as folder:
        for i in range(n):
            spec = makes.pre()
            document = json.dumps(pair_tokenizer(spec))
            with open(os.path.join(folder, "tokenizer.json"), "w") as f:
                f.write(document)
            some = [texts.text() for _ in range(12)]
            try:
                peer = Tokenizer.from_str(document)
                want = [peer.encode(t, add_special_tokens=False).ids for t in some]
            except KeyboardInterrupt:
                raise
            except BaseException:  # no expression; or Oniguruma gave up, which is a panic there
                want = None
            r = run_program(program, folder, some)
            if r.returncode not in (0, 3):
                sys.exit(f"exit status {r.returncode}: {json.dumps(spec)}: {r.stderr.decode()}")
            if r.returncode == 3:
                kind = "too many steps" if b"R568" in r.stderr else "refused here" if want is not None else "refused by both"
                if kind == "refused here" and b"not supported" not in r.stderr and b"expected" not in r.stderr and b"R56" not in r.stderr:
                    print(spec, r.stderr.decode())
            elif want is None:
                kind = "taken here only"
                print("taken here only", json.dumps(spec))
            else:
                got = [json.loads(l)["ids"] for l in r.stdout.decode().splitlines()]
                kind = "equal" if got == want else "DIFFERENT"
                for t, a, b in zip(some, got, want):
                    if a != b:
                        print(json.dumps(spec), repr(t), a, b)
                        break
            count[kind] += 1
    print(count)
    return count["DIFFERENT"]


def convert(program):
    from tokenizers import Tokenizer
    from transformers import AutoTokenizer
    texts, wrong = MoreTexts(5), 0
    tiny = os.path.join(HERE, "../tiny-hf")
    for name, spec in list(known()) + [(None, s) for s in others()]:
        with tempfile.TemporaryDirectory() as d:
            document = pair_tokenizer(spec, 15)
            os.mkdir(d + "/t")
            with open(d + "/t/tokenizer.json", "w") as f:
                json.dump(document, f)
            peer, outs = Tokenizer.from_str(json.dumps(document)), [d + "/hf"]
            subprocess.run([program, "convert", tiny, "-o", outs[0], "--tokenizer", d + "/t"], check=True, capture_output=True)
            if not subprocess.run([program, "convert", outs[0], "-o", d + "/m.gguf"], capture_output=True).returncode:
                outs.append(d + "/from-gguf")
                subprocess.run([program, "convert", d + "/m.gguf", "-o", outs[1]], check=True, capture_output=True)
            some = [texts.text() for _ in range(300)]
            want = [peer.encode(t, add_special_tokens=False).ids for t in some]
            for out in outs:
                theirs = AutoTokenizer.from_pretrained(out)
                bad = sum(theirs.encode(t, add_special_tokens=False) != w for t, w in zip(some, want))
                wrong += bad
                if bad:
                    print(f"{bad} of {len(some)} texts differ: {name} {os.path.basename(out)} {json.dumps(spec)}")
            print(name or "-", "folder" + (" and GGUF" if len(outs) > 1 else ""), flush=True)
    return wrong


LLAMA_CPP = r"""
#include "llama.h"
#include <stdio.h>
#include <stdlib.h>
static void quiet(enum ggml_log_level level, const char *text, void *unused) { (void)level, (void)text, (void)unused; }
int main(int n_args, char **args) { /* MODEL; texts: u32 length, bytes; a line of ids each */
    unsigned n;
    llama_log_set(quiet, NULL);
    struct llama_model_params m = llama_model_default_params();
    m.vocab_only = 1;
    struct llama_model *model = n_args > 1 ? llama_model_load_from_file(args[1], m) : NULL;
    while (model && fread(&n, 4, 1, stdin) == 1) {
        char *text = malloc(n + 1);
        llama_token *ids = malloc((n + 8) * sizeof *ids);
        if (fread(text, 1, n, stdin) != n)
            return 1;
        int k = llama_tokenize(llama_model_get_vocab(model), text, n, ids, n + 8, 0, 0);
        for (int i = 0; i < k; i++)
            printf(i ? " %d" : "%d", ids[i]);
        puts("");
        free(text), free(ids);
    }
    return !model;
}
"""


def renamed(data, name):
    """A GGUF file with another tokenizer.ggml.pre; it holds no tensor, so nothing has to stay where it is."""
    at = data.index(b"tokenizer.ggml.pre") + len(b"tokenizer.ggml.pre") + 4
    n, = struct.unpack_from("<Q", data, at)
    return data[:at] + struct.pack("<Q", len(name)) + name.encode() + data[at + 8 + n:]


def names(program, source):
    """On the vocabulary of DeepSeek-LLM, whose merges cross most of the seams."""
    import re
    rows = open(os.path.join(HERE, "../../../frontend/tokenizer/patterns.def"), encoding="utf-8").read()
    texts = NamesTexts(7)
    some = [texts.text().replace("\0", "") for _ in range(3000)]
    with tempfile.TemporaryDirectory() as d:
        run, lib = os.path.join(d, "run"), os.path.join(source, "build/bin")
        subprocess.run(["cc", "-x", "c", "-", "-o", run, "-I", os.path.join(source, "include"), "-I", os.path.join(source, "ggml/include"), "-L", lib, "-lllama", "-lggml", "-lggml-base",
                        f"-Wl,-rpath,{lib}", f"-Wl,-rpath-link,{lib}"], input=LLAMA_CPP, text=True, check=True)
        base = open(os.path.join(source, "models/ggml-vocab-deepseek-llm.gguf"), "rb").read()
        for name in re.findall(r'^PATTERN\("([^"]+)"', rows, re.M):
            path = os.path.join(d, "m.gguf")
            with open(path, "wb") as f:
                f.write(renamed(base, name))
            theirs = subprocess.run([run, path], input=b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in some), capture_output=True)
            ours = subprocess.run([program, "tokenize", "--ordinary", "--batch", path], input="".join(json.dumps({"text": t}) + "\n" for t in some).encode(), capture_output=True)
            if theirs.returncode or ours.returncode:
                print(f"{name}: {'llama.cpp does not know it' if theirs.returncode else ours.stderr.decode()}")
                continue
            a = [json.loads(l)["ids"] for l in ours.stdout.decode().splitlines()]
            b = [[int(x) for x in l.split()] for l in theirs.stdout.decode().split("\n")[:-1]]
            assert len(a) == len(b) == len(some)
            other = [i for i in range(len(some)) if a[i] != b[i]]
            print(f"{name}: {len(other)} of {len(some)} texts differ", *(repr(some[i])[:60] for i in sorted(other, key=lambda i: len(some[i]))[:3]), flush=True)


class NamesTexts(MoreTexts):
    """Characters that both know, words in any case."""

    def char(self):
        import unicodedata
        while True:
            c = super().char()
            if unicodedata.category(c) not in ("Cn", "Co"):
                return c


def younger():
    import unicodedata
    from tokenizers import Regex
    from tokenizers.pre_tokenizers import Digits, Split
    assert unicodedata.unidata_version == "14.0.0"
    all_of, category = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000], {}
    for name in "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Zs Zl Zp Cc Cf Co Cn".split():
        only = Split(Regex("\\p{%s}" % name), "removed", invert=True)
        for i in range(0, len(all_of), 20000):
            for piece, _ in only.pre_tokenize_str("".join(map(chr, all_of[i:i + 20000]))):
                category.update((ord(c), name) for c in piece)
    each, rows = Digits(individual_digits=True), []
    for c in all_of:
        old, new = unicodedata.category(chr(c)), category[c]
        if old == "Cn" and new[0] != "N" and len(each.pre_tokenize_str("a" + chr(c))) > 1:
            new = "+"
        if old == "Cn" and old != new:
            if rows and rows[-1][1] == c - 1 and rows[-1][2] == new:
                rows[-1][1] = c
            else:
                rows.append([c, c, new])
    print(" ".join('YOUNGER(0x%X, 0x%X, "%s")' % tuple(r) for r in rows))


if __name__ == "__main__":
    if sys.argv[1:] == ["cases"]:
        cases()
    elif sys.argv[1:2] == ["random"] and len(sys.argv) == 5:
        sys.exit(1 if random_runs(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])) else 0)
    elif sys.argv[1:] == ["younger"]:
        younger()
    elif sys.argv[1:2] == ["convert"] and len(sys.argv) == 3:
        sys.exit(1 if convert(sys.argv[2]) else 0)
    elif sys.argv[1:2] == ["names"] and len(sys.argv) == 4:
        names(*sys.argv[2:])
    else:
        sys.exit(__doc__)
