#!/usr/bin/env python3
"""test_large.py: inputs whose length squared is a long time, and lists as long as a file can say them: each ends in time, and what is refused takes no more
heap than test_bad.py grants. AQ_PROGRAM names the program."""
import json, os, sys, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import test_bad
from small import *
from test_hurt import ENVIRONMENT, PROGRAM, SLOW
import test_hurt


class Large(test_hurt.Case):
    def test_slow(self):
        """Inputs whose length squared is a long time."""
        n = 100000
        words = {f"t{i}": i for i in range(n)}
        slow = self.path("slow")
        put(os.path.join(slow, "vocab.json"), json.dumps(words))
        put(os.path.join(slow, "merges.txt"), "#version: 0.2\n")
        put(os.path.join(slow, "added_tokens.json"), json.dumps({f"<x{i}>": n + i for i in range(n)}))
        put(os.path.join(slow, "tokenizer_config.json"), json.dumps({"additional_special_tokens": [f"t{n - 1 - i}" for i in range(n)]}))
        self.ends("tokenize", slow, statuses=(0,))
        many = self.path("many")  # from each byte of the text a long way through tokens that part at every one of it
        tokens = ["a" * k + chr(c) for k in range(1, 400) for c in range(33, 127) if chr(c) not in "a\"\\"]
        put(os.path.join(many, "vocab.json"), json.dumps({"a": 0, **{f"<{i}>": 1 + i for i in range(len(tokens))}}))
        put(os.path.join(many, "merges.txt"), "#version: 0.2\n")
        put(os.path.join(many, "added_tokens.json"), json.dumps({x: len(tokens) + 1 + i for i, x in enumerate(tokens)}))
        self.ends("tokenize", many, statuses=(0,), stdin=b"a" * 250000)
        for text in ("[" * 1000000, '{"a":' * 1000000, '{"hidden_size":' + "9" * 1000000 + "}", "{" + '"hidden_size":1,' * 200000 + '"a":1}', '"' + "\\" * 999999,
                     '"' + "\\u0041" * 300000 + '"', " " * 5000000):
            m = Hf()
            m.config = text
            self.refused("show", m.save(self.path("json")))
        m = Hf()
        m.tensors.update({f"model.layers.{i}.x.weight": ["F16", [1], bytes(2)] for i in range(50000)})
        self.refused("show", m.save(self.path("names")))
        g = Gguf()
        g.keys.update({f"k{i}": (U8, b"\0") for i in range(200000)})
        self.ends("show", g.save(self.d), statuses=(0,))
        chain = ["a" * k for k in range(1, 1200)]
        one = self.path("one")
        put(os.path.join(one, "vocab.json"), json.dumps({s: i for i, s in enumerate(chain)}))
        put(os.path.join(one, "merges.txt"), "\n".join(f"{s} a" for s in chain[:-1]))
        self.ends("tokenize", one, statuses=(0,), stdin=b"a" * 300000)

    def test_memory(self):
        """Lists as long as a file can say them: refused with no more heap than any other file, which is what `refused` looks at."""
        def folder(name, **files):
            for file, text in files.items():
                put(self.path(name, file.replace("__", ".")), text)
            return self.path(name)
        vocab = '{"a": 0, "b": 1, "ab": 2}'
        for name, files in (("merges", dict(vocab__json=vocab, merges__txt="a b\n" * 6000000 + "x y\n")),
                            ("pieces", dict(tokenizer__model=b"\x0a\0" * 6000000)),
                            ("added", dict(tokenizer__model=b"\x0a\x05\x0a\x01x\x18\x04" * 1000000)),
                            ("vocab", dict(vocab__json="{" + ",".join(f'"{i:x}":{2 * i}' for i in range(520000)) + "}", merges__txt="x\n"))):
            self.refused("tokenize", folder(name, **files), size=test_bad.size_of(self.path(name)))
        m = Hf()
        m.weights, m.files["model.safetensors.index.json"] = None, '{"weight_map":{' + ",".join(f'"{i:x}":"a"' for i in range(600000)) + "}}"
        self.refused("show", m.save(self.path("index")), size=test_bad.size_of(self.path("index")))
        m = Hf()
        m.config = '{"a":[' + "0," * (17 << 20) + "0]}"  # a little more than a power of two
        self.refused("show", m.save(self.path("config")), size=test_bad.size_of(self.path("config")))


if __name__ == "__main__":
    unittest.main()
