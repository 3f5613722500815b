#!/usr/bin/env python3
"""sentencepiece_seed.py: makes tests/fuzz/corpus/tokenizer/model: the letter m, two bytes of length, a tokenizer.model of nine pieces (BPE), a text. With the
writer of tests/bad/make_spm.py; standard library only."""
import os, struct, sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, os.path.join(HERE, "..", "bad"))
from make_spm import inside, number


def piece(text, score, kind=1): return inside(1, inside(1, text.encode()) + b"\x15" + struct.pack("<f", score) + (number(3, kind) if kind != 1 else b""))


pieces = [piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3), piece("\u2581a", -1), piece("ab", -2), piece("\u2581", -3), piece("a", -4), piece("b", -5),
          piece("<mask>", 0, 4)]
model = b"".join(pieces) + inside(2, number(3, 2) + number(40, 0) + number(41, 1) + number(42, 2)) + inside(3, inside(1, b"identity") + number(3, 1) + number(4, 0) +
                                                                                                           number(5, 1))
with open(os.path.join(HERE, "..", "fuzz", "corpus", "tokenizer", "model"), "wb") as f:
    f.write(b"m" + struct.pack("<H", len(model)) + model + b"ab a<mask>b")
