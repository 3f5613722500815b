#!/usr/bin/env python3
"""test_hostile.py: files cut short and with changed bytes, by seed, against the whole program: models (GGUF, Hugging Face and FlagAI folders), tokenizers,
graph and nest texts, plans, what the cache holds, arrays, messages. Every one ends within 20 s with exit 0 (the change did no harm) or 3 and one
line `aquila: error: ...` (or 2, where the change took the tokenizer that a text wants), and leaves no half-written file; a damaged cache is made again in silence, with the same answer. AQ_PROGRAM names the
program; AQ_HOSTILE_CASES: cases a kind (default 20); AQ_HOSTILE_SEED; AQ_TEST_MODEL: a real model, whose head is damaged too."""
import json, os, random, shutil, struct, subprocess, sys, tempfile, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
CASES = int(os.environ.get("AQ_HOSTILE_CASES", "20"))
SEED = int(os.environ.get("AQ_HOSTILE_SEED", "1"))
MODEL = os.environ.get("AQ_TEST_MODEL")
TINY = "tests/data/tiny-hf"
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")
TELLING = [b"\0", b"\xff", b"\x80", b"\x7f", b"0", b"9", b"-", b"{", b"}", b"[", b"]", b'"', b",", b":", b"\n", b"\\", b"e", b"%", b"@", b" "]
SIZES = [struct.pack("<Q", x) for x in (0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1)]


def damage(r, whole, head=None):
    """One of: cut short; a bit; a few bytes; eight bytes that are a size; a piece taken out, or put in twice. head: where most of it happens."""
    b, kind = bytearray(whole), r.randrange(7)
    end = head if head and r.random() < 0.8 else len(b)
    at = r.randrange(max(1, min(end, len(b))))
    if kind == 0:
        return bytes(b[:at])
    if kind == 1:
        b[at] ^= 1 << r.randrange(8)
    elif kind == 2:
        for _ in range(r.randrange(1, 5)):
            b[r.randrange(max(1, min(end, len(b))))] = r.randrange(256)
    elif kind == 3:
        b[at:at + 1] = r.choice(TELLING)
    elif kind == 4:
        b[at & ~3:(at & ~3) + 8] = r.choice(SIZES)
    elif kind == 5:
        del b[at:at + r.randrange(1, 40)]
    else:
        b[at:at] = b[at:at + r.randrange(1, 40)]
    return bytes(b)


class Hostile(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.d = cls.folder.name

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def run_it(self, *args, stdin=b"", timeout=20):
        e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
        e["AQ_CACHE"] = "none"
        return subprocess.run([PROGRAM, *args], input=stdin, capture_output=True, env=e, timeout=timeout)

    def fine(self, *args):
        r = self.run_it(*args, timeout=120)
        self.assertEqual(r.returncode, 0, (args, r.stderr))
        return r.stdout

    def holds(self, story, *args, stdin=b"", statuses=(0, 3)):
        """Ends as promised, or the input is kept for whoever looks into it."""
        try:
            r = self.run_it(*args, stdin=stdin)
            err, status = r.stderr.decode(errors="replace"), r.returncode
            bare = status == 2 and "has no tokenizer: expected --tokenizer" in err  # what is left is a model without one, which a text needs
            good = (status in statuses or bare) and (status == 0 or err.startswith("aquila: error: ") and err.endswith("\n") and err[:-1].isprintable())
        except subprocess.TimeoutExpired:
            good, err, status = False, "still running after 20 s", None
        if not good:
            kept = tempfile.mkdtemp(prefix="aquila-hostile-")
            shutil.copytree(self.d, os.path.join(kept, "files"))
            self.fail(f"{story}: {args}: exit {status}, files kept in {kept}\n{err[:3000]}")
        return status, r.stdout

    def path(self, name, data=None):
        p = os.path.join(self.d, name)
        if data is not None:
            os.makedirs(os.path.dirname(p), exist_ok=True)
            with open(p, "wb") as f:
                f.write(data)
        return p

    def cases(self, name, path, commands, head=None, share=1.0, statuses=(0, 3)):
        """Damages a copy of one file again and again, putting it back in the end; commands take turns."""
        with open(path, "rb") as f:
            whole = f.read()
        harmless = 0
        for c in commands:
            self.fine(*c)
        for i in range(max(1, int(CASES * share))):
            r = random.Random(f"{SEED} {name} {i}")
            with open(path, "wb") as f:
                f.write(damage(r, whole, head))
            status, _ = self.holds(f"{name}, case {i} of seed {SEED}", *commands[i % len(commands)], statuses=statuses)
            harmless += status == 0
        with open(path, "wb") as f:
            f.write(whole)
        print(f"{name}: {max(1, int(CASES * share))} cases, {harmless} harmless")

    def test_gguf(self):
        with open("tests/data/micro_gguf.bin", "rb") as f:
            g = self.path("g.gguf", f.read())
        self.fine("show", g, "--tensors")
        self.cases("gguf", g, [["show", g, "--tensors"], ["run", g, "ab", "--template", "none", "-n", "2", "--target", "ref"],
                               ["tokenize", g], ["score", g, "--prompt-ids", "1,2", "--target", "ref"]], head=3000, share=2)

    def test_folder(self):
        folder = self.path("hf")
        shutil.copytree(TINY, folder)
        ask = ["run", folder, "--prompt-ids", "1,2", "-n", "2", "--target", "ref"]
        self.cases("config.json", os.path.join(folder, "config.json"), [["show", folder], ask])
        self.cases("model.safetensors", os.path.join(folder, "model.safetensors"), [["show", folder, "--tensors"], ask], head=2500)

    def test_torch(self):
        for form in ("flagai-fused-module", "hf-strided"):
            folder = self.path(form)
            shutil.copytree(f"tests/data/forms/{form}", folder)
            self.cases(form, os.path.join(folder, "pytorch_model.bin"), [["show", folder, "--tensors"], [
                "run", folder, "--prompt-ids", "1,2", "-n", "2", "--target", "ref"]], head=4000)

    def test_compiled(self):
        """The same through the compiler: sizes of a file must not become machine code that leaves its buffers."""
        with open("tests/data/micro_gguf.bin", "rb") as f:
            g = self.path("c.gguf", f.read())
        self.cases("gguf, compiled", g, [["run", g, "--prompt-ids", "1,2", "-n", "2"]], head=3000, share=0.3)

    def test_tokenizers(self):
        bytes_of = {c: i for i, c in enumerate([chr(b) for b in (*range(33, 127), *range(161, 173), *range(174, 256))])}
        vocab = {**bytes_of, **{chr(256 + i): len(bytes_of) + i for i in range(256 - len(bytes_of))}}
        merges = ["h e", "l l", "he ll", "hell o"]
        for m in merges:
            vocab[m.replace(" ", "")] = len(vocab)
        added = [{"id": len(vocab), "content": "<|end|>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}]
        whole = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "post_processor": None, "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
                           "fuse_unk": False, "byte_fallback": False, "vocab": vocab, "merges": merges}}
        self.path("tj/tokenizer.json", json.dumps(whole, ensure_ascii=False).encode())
        self.path("tv/vocab.json", json.dumps(vocab).encode())
        self.path("tv/merges.txt", ("#version: 0.2\n" + "\n".join(merges) + "\n").encode())
        self.path("tv/added_tokens.json", b'{"<|end|>": %d}' % (len(vocab)))
        self.path("tv/special_tokens_map.json", b'{"eos_token": "<|end|>", "unk_token": {"content": "<|end|>"}}')
        self.path("tv/tokenizer_config.json", b'{"model_max_length": 512, "bos_token": null, "chat_template": "{{ x }}"}')
        text = self.path("text", "hello <|end|> w\u00f6rld\n\u4f60".encode())
        for folder in ("tj", "tv"):
            self.fine("tokenize", self.path(folder), "--file", text)
            names = sorted(os.listdir(self.path(folder)))
            for name in names:
                self.cases(name, self.path(f"{folder}/{name}"), [["tokenize", self.path(folder), "--file", text]], share=1 if len(names) == 1 else 0.5)

    def test_texts(self):
        graph = self.fine("opt", "models/aquila/aquila.aq", "--config", "tiny", "--bind", "L=1")
        nest = self.fine("exec", "models/aquila/aquila.aq", "--config", "tiny", "--kernel", "3", "--show", "nest")
        g, n, out = self.path("g.aq", graph), self.path("n.aq", nest), self.path("o.aq")
        self.cases("graph text", g, [["opt", g, "-o", out], ["exec", g, "--target", "ref"]], statuses=(0, 2, 3))
        self.cases("nest text", n, [["exec", n, "--target", "ref"]], statuses=(0, 2, 3))
        self.cases("nest text, compiled", n, [["exec", n]], share=0.3, statuses=(0, 2, 3))

    def test_plans(self):
        plan = self.path("p.aqp")
        self.fine("compile", TINY, "-o", plan)
        self.cases("plan", plan, [["run", plan, "--weights", TINY, "--prompt-ids", "1,2", "-n", "2"], ["show", plan]], share=2)

    def test_cache(self):
        """A damaged plan or packed weight in the cache is made again, without a word and with the same answer."""
        cache = self.path("cache")
        ask = ["run", TINY, "--prompt-ids", "1,2", "-n", "4", "--temperature", "0", "--weights-type", "q4_0", "--cache", cache]
        want = self.fine(*ask)
        for i in range(max(2, int(CASES * 0.4))):
            r = random.Random(f"{SEED} cache {i}")
            files = sorted(os.path.join(f, x) for f, _, names in os.walk(cache) for x in names)
            self.assertGreaterEqual(len(files), 2, "no plan and packed weights in the cache")
            one = files[i % len(files)]
            with open(one, "rb") as f:
                whole = f.read()
            with open(one, "wb") as f:
                f.write(damage(r, whole, 400))
            p = self.run_it(*ask, timeout=120)   # it compiles: under sanitizers on a busy machine that takes its time
            self.assertEqual((p.returncode, p.stderr, p.stdout), (0, b"", want), f"case {i} of seed {SEED}: {one}")

    def test_arrays(self):
        head = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"
        head += b" " * (-(10 + len(head) + 1) % 64) + b"\n"
        x = self.path("t.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head.replace(b"<f4", b"<i4") + struct.pack("<3i", 1, 2, 3))
        out = self.path("out.npy")
        ask = ["exec", "models/aquila/aquila.aq", "--config", "tiny", "--bind", "O=1", "--target", "ref", "--in", "%tok=" + x, "--out", "%0=" + out]
        self.fine(*ask)
        os.remove(out)
        with open(x, "rb") as f:
            whole = f.read()
        for i in range(CASES):
            with open(x, "wb") as f:
                f.write(damage(random.Random(f"{SEED} npy {i}"), whole))
            status, _ = self.holds(f"npy, case {i} of seed {SEED}", *ask)
            self.assertEqual(os.path.exists(out), status == 0, f"npy, case {i}: a result beside a refusal, or none")
            if status == 0:
                os.remove(out)
            self.assertFalse([f for f in os.listdir(self.d) if f.startswith("out.npy")], "a half-written file")

    def test_messages(self):
        with open("tests/data/micro_gguf.bin", "rb") as f:
            g = self.path("m.gguf", f.read())
        m = self.path("m.json", json.dumps([{"role": "system", "content": "a \u00e9 \\ \"b\""}, {"role": "user", "content": "ab"}]).encode())
        ask = ["run", g, "--messages", m, "--template", "chatml", "-n", "0"]
        self.fine(*ask)
        self.cases("messages", m, [ask])

    def test_texts_as_input(self):
        """What users pipe in is no file of ours: any bytes are a prompt, and any line of --batch is answered or refused."""
        for i in range(int(CASES * 0.4)):
            r = random.Random(f"{SEED} input {i}")
            b = bytes(r.randrange(256) for _ in range(r.randrange(200)))
            self.holds(f"prompt, case {i}", "tokenize", "tests/data/micro_gguf.bin", stdin=b)
            self.holds(f"ids, case {i}", "tokenize", "tests/data/micro_gguf.bin", "--decode", stdin=damage(r, b"1 2 3 4 5 0"))
            self.holds(f"lines, case {i}", "tokenize", "tests/data/micro_gguf.bin", "--batch", stdin=damage(r, b'{"text": "a\\u00e9"}\n{"bytes": "YWI="}\n'))

    @unittest.skipUnless(MODEL, "AQ_TEST_MODEL is not set")
    def test_real_model(self):
        """Cut at many places, and its head changed: a sparse file holds the rest."""
        with open(MODEL, "rb") as f:
            head = f.read(4 << 20)
        size = os.path.getsize(MODEL)
        g = self.path("real.gguf")
        for i in range(CASES):
            r = random.Random(f"{SEED} real {i}")
            if i % 3 == 0:
                cut = r.randrange(size)
                with open(g, "wb") as f:
                    f.write(head[:cut])
                    f.truncate(cut)
            else:
                with open(g, "wb") as f:
                    f.write(damage(r, head, 6000 if i % 3 == 1 else len(head)))
                    f.truncate(size)
            status, _ = self.holds(f"real model, case {i} of seed {SEED}", "show", g, "--tensors")
            if i % 3 == 0:
                self.assertEqual(status, 3, f"cut at {cut} of {size}")
            self.holds(f"real model, case {i} of seed {SEED}", "tokenize", g, stdin=b"hello")


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
