#!/usr/bin/env python3
"""test_convert.py: the verb convert as a person uses it: forms guessed from names, what is said, what is refused; and kill -9 at random moments of a
conversion and of cache writing: what stands there afterwards is the old model or the new one (a folder may say that it is unfinished), and the next run
removes what was left over. AQ_PROGRAM names the program."""
import gzip, hashlib, json, os, random, shutil, signal, struct, subprocess, sys, tempfile, time, unittest, zipfile

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
TINY = os.path.abspath("tests/data/tiny-hf")
SEED = int(os.environ.get("AQ_SEED", "1"))
KILLS = 100
sys.dont_write_bytecode = True
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def run(*args, **more):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, env=e, timeout=120, **more)


def digest(path):
    """All names and bytes under a path, but for temporary files."""
    h = hashlib.sha256()
    files = [path] if os.path.isfile(path) else [os.path.join(path, n) for n in sorted(os.listdir(path))] if os.path.isdir(path) else []
    for f in files:
        if ".tmp." not in f:
            with open(f, "rb") as x:
                h.update(os.path.basename(f).encode() + b"\0" + x.read())
    return h.hexdigest()


def contents(path):
    with open(path, "rb") as f:
        return f.read()


def leftovers(folder):
    return [n for _, _, names in os.walk(folder) for n in names if ".tmp." in n]


class Convert(unittest.TestCase):
    def setUp(self):
        # in memory where that is to be had: killed writers need no disk
        self.folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
        self.addCleanup(shutil.rmtree, self.folder)

    def path(self, name):
        return os.path.join(self.folder, name)

    def good(self, *args):
        r = run(*args)
        self.assertEqual(r.returncode, 0, (args, r.stderr.decode()))
        return r

    def bad(self, status, says, *args):
        r = run(*args)
        err = r.stderr.decode()
        self.assertEqual(r.returncode, status, (args, err))
        self.assertEqual(err.count("\n"), 1, err)
        self.assertIn(says, err)
        self.assertEqual(r.stdout, b"")

    def test_forms_and_words(self):
        g = self.path("m.gguf")
        r = self.good("convert", TINY, "-o", g)
        self.assertIn("tensors", r.stdout.decode())
        r = json.loads(self.good("convert", g, "-o", self.path("flag"), "--to", "flagai", "--json").stdout)
        self.assertEqual([os.path.basename(f) for f in r["files"]], ["pytorch_model.bin", "config.json"])
        self.assertEqual(r["types"], {"bf16": {"tensors": 21, "bytes": r["types"]["bf16"]["bytes"]}})
        with zipfile.ZipFile(self.path("flag/pytorch_model.bin")) as z:
            self.assertIsNone(z.testzip())
            self.assertTrue(all(i.compress_type == zipfile.ZIP_STORED for i in z.infolist()))
            with open(self.path("flag/pytorch_model.bin"), "rb") as f:
                for i in z.infolist():  # data begin at multiples of 64
                    f.seek(i.header_offset)
                    head = f.read(30)
                    self.assertEqual((i.header_offset + 30 + sum(struct.unpack("<HH", head[26:30]))) % 64, 0, i.filename)
        self.good("convert", self.path("flag"), "-o", self.path("hf"))  # a folder is Hugging Face's
        with open(self.path("hf/model.safetensors"), "rb") as f:
            n, = struct.unpack("<Q", f.read(8))
            header = json.loads(f.read(n))
        self.assertEqual(header["model.layers.0.self_attn.q_proj.weight"]["dtype"], "BF16")
        ask = ["--prompt-ids", "1,2,3,4", "--temperature", "0", "-n", "8", "--cache", "none", "--target", "ref"]
        want = self.good("run", TINY, *ask).stdout
        for m in (g, self.path("flag"), self.path("hf")):
            self.assertEqual(self.good("run", m, *ask).stdout, want, m)
        r = self.good("convert", TINY, "-o", self.path("k.gguf"), "--weights-type", "q4_k")
        self.assertIn("no multiple of the block of 256", r.stderr.decode())
        r = json.loads(self.good("convert", "tiny:random", "-o", self.path("random"), "--shard-size", "50KB", "--json").stdout)
        self.assertTrue(any("model-00001-of-" in f for f in r["files"]) and any(f.endswith("index.json") for f in r["files"]))
        self.assertEqual(self.good("convert", TINY, "--to", "gguf", "-o", "-").stdout, contents(g))

    def test_flagais_own_code(self):
        """FlagAI's tokenizer finds what it looks for in the form that bears its name: two roles without ids, and a vocabulary that ends where it counts
        on (tests/oracle/flagai_logits.py has it read such a folder). Read again, every token has its id."""
        sys.path.insert(0, "tests/bad")
        from make_tokenizer import slow
        special = ["<|startofpiece|>", "<|endofpiece|>", "<|LDWANG|>", "[MASK]", "[gMASK]", "[sMASK]", "[CLS]", "</s>"]
        tokenizer = self.path("tokenizer")
        os.mkdir(tokenizer)
        slow(tokenizer, vocab_json={"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3}, added_tokens_json={s: 4 + i for i, s in enumerate(special)},
             special_tokens_map_json={"bos_token": "[CLS]", "eos_token": "</s>", "pad_token": "<|endoftext|>"})
        self.good("convert", TINY, "-o", self.path("m.gguf"), "--tokenizer", tokenizer)
        self.good("convert", TINY, "-o", self.path("flag"), "--to", "flagai", "--tokenizer", tokenizer)
        self.good("convert", self.path("m.gguf"), "-o", self.path("flag2"), "--to", "flagai")
        text = "ab[CLS]</s> <|LDWANG|>[gMASK]<|endoftext|>"
        for name in ("flag", "flag2"):
            roles = json.loads(contents(self.path(name + "/special_tokens_map.json")))
            self.assertEqual([(k, v["content"]) for k, v in roles.items()], [("cls_token", "[CLS]"), ("sep_token", "</s>")])
            self.assertEqual(json.loads(contents(self.path(name + "/vocab.json"))), {"<|endoftext|>": 0, "a": 1, "b": 2, "ab": 3})
            self.assertEqual(self.ids(self.path(name), text), self.ids(tokenizer, text))
            os.remove(self.path(name + "/tokenizer.json"))  # as FlagAI publishes it
            os.remove(self.path(name + "/added_tokens.json"))
            os.remove(self.path(name + "/tokenizer_config.json"))
            self.assertEqual(self.ids(self.path(name), text), self.ids(tokenizer, text))

    def test_splits(self):
        """Pre-tokenizers of every kind come back in a folder with the same ids, and in GGUF where it has a name for them, else that is refused."""
        with gzip.open("tests/data/tokenizer/splits.gz") as f:
            specs = [one["pre"] for one in json.load(f)]
        printable = [chr(b) for b in range(256) if 33 <= b < 127 or 161 <= b < 173 or b >= 174]
        letters = printable + [chr(256 + i) for i in range(256 - len(printable))]  # GPT-2's alphabet, in another order
        often = "ab1A.'\u0120\u010a\u00c2\u00bd(/s"
        merges = [[a, b] for a in often for b in often]
        vocab = {t: i for i, t in enumerate(letters + [a + b for a, b in merges])}
        r, named, folders = random.Random(SEED), 0, [self.path(n) for n in ("t", "hf", "again")]
        os.mkdir(folders[0])
        for i, spec in enumerate(specs[:16] + specs[16::4]):
            with open(self.path("t/tokenizer.json"), "w") as f:
                json.dump({"pre_tokenizer": spec, "decoder": {"type": "ByteLevel"}, "added_tokens": [], "model": {"type": "BPE", "vocab": vocab, "merges": merges}}, f)
            text = "".join(r.choice(["ab", "1", "11", "A", ".", "'s", " ", "\n", "\u00bd", "(", "//", "\u4e2d"]) for _ in range(300))
            want = self.ids(folders[0], text)
            self.good("convert", TINY, "-o", self.path("hf"), "--tokenizer", folders[0])
            self.assertEqual(self.ids(folders[1], text), want, spec)
            again = run("convert", folders[1], "-o", self.path("m.gguf"))
            self.assertTrue(again.returncode == 0 or b"[R843]" in again.stderr, again.stderr)
            if again.returncode == 0:
                named += 1
                self.assertEqual(self.ids(self.path("m.gguf"), text), want, spec)
                self.good("convert", self.path("m.gguf"), "-o", folders[2])
                self.assertEqual(self.ids(folders[2], text), want, spec)
            self.assertFalse(i < 16 and i not in (5, 8) and again.returncode, (i, again.stderr))  # tekken and minicpm5 go with ignore_merges
        self.assertGreaterEqual(named, 13)

    def test_a_prefix_of_splits_in_gguf(self):
        """tokenizer.ggml.add_space_prefix with a pattern that is run by steps: not looked at, as in llama.cpp; and what is made of such a file splits alike."""
        sys.path.insert(0, "tests/bad")
        from small import BOOL, STRING, Gguf, string, strings
        ids = []
        for prefix in (0, 1):
            g = Gguf()
            g.keys["tokenizer.ggml.pre"] = (STRING, string("qwen2"))
            g.keys["tokenizer.ggml.add_space_prefix"] = (BOOL, bytes([prefix]))
            g.keys["tokenizer.ggml.tokens"] = strings("<end>", "a", "b", "ab", "\u0120", "two words")
            g.keys.pop("tokenizer.ggml.token_type")
            os.mkdir(d := self.path(str(prefix)))
            ids.append(self.ids(m := g.save(d), "ab a\nb"))
            self.good("convert", m, "-o", self.path(d + "/hf"))
            self.assertEqual(self.ids(d + "/hf", "ab a\nb"), ids[0])
        self.assertEqual(ids[0], ids[1])

    def test_sentencepiece(self):
        """Scores become merges and merges scores: the same ids from the GGUF, the folder made of it, and the GGUF made of that."""
        sys.path.insert(0, "tests/bad")
        from make_spm import spm
        source = spm(self.folder, tokens=["\u2581", "a", "b", "ab", "\u2581a", "\u2581ab", "abb", "ba", "bab", "\u00e9"])[-1]
        self.good("convert", source, "-o", self.path("hf"))
        self.good("convert", self.path("hf"), "-o", self.path("back.gguf"))
        self.good("convert", self.path("back.gguf"), "-o", self.path("again"))
        self.assertEqual(contents(self.path("hf/tokenizer.json")), contents(self.path("again/tokenizer.json")))
        r = random.Random(SEED)
        for i in range(20):
            self.assertEqual(self.ids(source, text := "".join(r.choice("ab \u00e9\u4e2d") for _ in range(i))), self.ids(self.path("hf"), text), text)
            self.assertEqual(self.ids(source, text), self.ids(self.path("back.gguf"), text), text)

    def ids(self, model, text):
        with open(self.path("text"), "w") as f:
            f.write(text)
        return self.good("tokenize", model, "--file", self.path("text")).stdout

    def test_refusals(self):
        out = self.path("out")
        self.bad(2, "expected -o OUT", "convert", TINY)
        self.bad(2, "a folder holds plain types", "convert", TINY, "-o", out, "--weights-type", "q8_0")
        self.bad(2, "no such type", "convert", TINY, "-o", out, "--weights-type", "q9")
        self.bad(2, "--to hf: a folder is written", "convert", TINY, "-o", out + ".gguf", "--to", "hf")
        self.bad(2, "a folder is written", "convert", TINY, "-o", out + ".safetensors")
        self.bad(2, "--to", "convert", TINY, "-o", out, "--to", "onnx")
        self.bad(2, "both mean standard output", "convert", TINY, "-o", "-", "--to", "gguf", "--json")
        self.bad(3, "no such file", "convert", self.path("none"), "-o", out)
        self.bad(1, "no such folder", "convert", TINY, "-o", self.path("none/m.gguf"))
        self.bad(1, "holds files that convert has not written", "convert", TINY, "-o", self.theirs())
        self.bad(1, "No space left", "convert", TINY, "-o", "/dev/full", "--to", "gguf")
        self.assertFalse(os.path.exists(out))

    def theirs(self):
        folder = self.path("theirs")
        shutil.copytree(TINY, folder)
        return folder

    def test_a_full_disk(self):
        """A limit on the size of files stands for it: the writer dies by no signal, and nothing is left."""
        self.good("convert", TINY, "-o", self.path("m.gguf"))
        before = digest(self.path("m.gguf"))
        limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_DFL); resource.setrlimit(resource.RLIMIT_FSIZE, (100000, 100000)); "
        for out in (["m.gguf"], ["folder"], ["flag", "--to", "flagai"]):
            r = subprocess.run([sys.executable, "-c", limit + "import os, sys; os.execv(sys.argv[1], sys.argv[1:])", PROGRAM, "convert", TINY, "-o", self.path(out[0]), *out[1:],
                                "--weights-type", "f32"], capture_output=True, timeout=60)
            self.assertEqual((r.returncode, r.stderr.decode().count("\n")), (1, 1), r.stderr)
            self.assertIn(b"cannot write: File too large", r.stderr)
        self.assertEqual(digest(self.path("m.gguf")), before)
        self.assertEqual(leftovers(self.folder) + os.listdir(self.path("folder")) + os.listdir(self.path("flag")), [])

    def kill_at_random(self, what, make, states, kills=KILLS, late=0):
        """make(): arguments of the program. states(): what stands there, None for what may not. late: the part of its time in which nothing is written."""
        r = random.Random(f"{SEED} {what}")
        times = []
        for _ in range(4):
            args = make()
            started = time.monotonic()
            run(*args)
            times.append(time.monotonic() - started)
        seen, killed, left = {}, 0, 0
        for i in range(kills):
            args = make()
            p = subprocess.Popen([PROGRAM, *args], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep((late + r.random() * (0.95 - late)) * min(times))
            p.send_signal(signal.SIGKILL)
            killed += p.wait() == -signal.SIGKILL
            left += bool(leftovers(self.folder))
            state = states()
            self.assertIsNotNone(state, f"{what}: kill {i} of seed {SEED}: neither the old nor the new one")
            seen[state] = seen.get(state, 0) + 1
        print(f"{what}: {killed} of {kills} killed at work, {left} with temporary files left; then: "
              f"{', '.join(f'{k} {v}' for k, v in sorted(seen.items()))}", file=sys.stderr)
        self.assertGreater(killed, 0)

    def test_kill_a_file(self):
        out = self.path("m.gguf")
        digests, turn = {}, [0]
        for name, kind in (("old", "f32"), ("new", "q8_0")):
            self.good("convert", TINY, "-o", out, "--weights-type", kind)
            digests[digest(out)] = name

        def make():  # old and new in turns, so each kill may leave either
            turn[0] ^= 1
            return ["convert", TINY, "-o", out, "--weights-type", ("f32", "q8_0")[turn[0]], "-t", "1"]

        self.kill_at_random("GGUF", make, lambda: digests.get(digest(out)))
        self.good(*make())
        self.assertEqual(os.listdir(self.folder), ["m.gguf"], "leftovers of killed writers stay")

    def test_kill_a_folder(self):
        self.kill_a_folder("folder", ["--shard-size", "100KB"])

    def test_kill_a_folder_of_flagai(self):
        """In FlagAI's form, and with an adapter merged into it."""
        sys.path.insert(0, "tests/bad")
        from make_lora import case
        case(self.path("lora"))
        self.kill_a_folder("FlagAI's folder, merged", ["--to", "flagai", "--lora", self.path("lora")])

    def kill_a_folder(self, what, more):
        out = self.path("m")
        digests, turn = {}, [0]
        for name, kind in (("old", "f32"), ("new", "f16")):
            self.good("convert", TINY, "-o", out, "--weights-type", kind, *more)
            digests[digest(out)] = name

        def make():
            turn[0] ^= 1
            return ["convert", TINY, "-o", out, "--weights-type", ("f32", "f16")[turn[0]], "-t", "1", *more]

        def states():
            known = digests.get(digest(out))
            if known is None and b"unfinished" in contents(os.path.join(out, "config.json")):
                self.bad(3, "config.json", "show", out)
                return "unfinished"
            return known

        self.kill_at_random(what, make, states)
        self.good(*make())
        self.assertIsNotNone(digests.get(digest(out)))
        self.assertEqual(leftovers(out), [])

    def test_kill_a_plan(self):
        """`compile -o` by several threads; its plan goes to the disk at the very end."""
        out = self.path("m.aqp")
        digests, turn = {}, [0]
        for name, types in (("old", "f32"), ("new", "q8_0")):
            self.good("compile", TINY, "-o", out, "--weights-type", types, "--jobs", "2", "--cache", "none")
            digests[digest(out)] = name

        def make():
            turn[0] ^= 1
            return ["compile", TINY, "-o", out, "--weights-type", ("f32", "q8_0")[turn[0]], "--jobs", "2", "--cache", "none"]

        self.kill_at_random("plan", make, lambda: digests.get(digest(out)), kills=8, late=0.7)
        self.good(*make())
        self.assertEqual(os.listdir(self.folder), ["m.aqp"])

    def test_kill_a_cache(self):
        cache = self.path("cache")
        plan = self.path("m.aqp")
        self.good("compile", TINY, "-o", plan, "--cache", "none")
        ask = ["run", plan, "--weights", TINY, "--prompt-ids", "1,2,3,4", "--temperature", "0", "-n", "1", "-t", "1", "--cache", cache]
        want = self.good(*ask).stdout
        packed = [os.path.join(d, n) for d, _, names in os.walk(cache) for n in names]
        self.assertTrue(any(p.endswith(".aqw") for p in packed), packed)
        whole = {p: digest(p) for p in packed}

        def make():
            for p in whole:
                if os.path.exists(p):
                    os.remove(p)
            return ask

        def states():
            there = [p for p in whole if os.path.exists(p)]
            return ("written" if there else "not yet") if all(digest(p) == whole[p] for p in there) else None

        self.kill_at_random("cache", make, states)
        make()
        self.assertEqual(self.good(*ask).stdout, want)
        self.assertEqual(leftovers(cache), [])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
