#!/usr/bin/env python3
"""test_hurt.py: files made to hurt whoever opens them, beyond those of single reasons (test_bad.py): pipes and devices in place of files, files cut while
they are read, texts that a terminal would obey, inputs made to take the square of their length, weights that are no numbers, figures at their bounds.
Each ends in time, with status 0 or a refusal of one line; what must be refused is so with no more heap than test_bad.py grants. AQ_PROGRAM names the program."""
import json, os, pty, signal, struct, subprocess, sys, tempfile, time, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import test_bad
from small import *

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")
with open(PROGRAM, "rb") as f:
    SLOW = 6 if b"__asan_init" in f.read() else 1
ENVIRONMENT = {**{k: v for k, v in os.environ.items() if not k.startswith("AQ_")}, "AQ_CACHE": "none"}


class Hurt(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="aquila-hurt-")
        self.d = self.folder.name

    def tearDown(self):
        self.folder.cleanup()

    def path(self, *names): return os.path.join(self.d, *names)

    def ends(self, *args, statuses=(0, 3), seconds=10, stdin=b"", size=0):
        """(status, standard output) of what ends in time as promised."""
        limit = test_bad.heap_limit(size or test_bad.size_of(self.d)) if statuses == (3,) else []
        try:
            r = subprocess.run([*limit, PROGRAM, *args], input=stdin, capture_output=True, env=ENVIRONMENT, timeout=seconds * SLOW)
        except subprocess.TimeoutExpired:
            self.fail(f"{args}: still running after {seconds * SLOW} s")
        err = r.stderr.decode(errors="backslashreplace")
        self.assertIn(r.returncode, statuses, (args, err[:2000]))
        if r.returncode:
            self.assertTrue(err.startswith("aquila: error: ") and err.count("\n") == 1 and err[:-1].isprintable(), (args, err[:2000]))
            if r.returncode == 3:
                self.assertRegex(err, r"\[R\d+\]\n$", args)
        return r.returncode, r.stdout

    def refused(self, *args, **more): self.ends(*args, statuses=(3,), **more)

    def test_not_files(self):
        """Where a file is expected there is a pipe, a device, a folder, a link to itself."""
        pipe, loop = self.path("x.gguf"), self.path("loop.gguf")
        os.mkfifo(pipe)
        os.symlink(loop, loop)
        for p in (pipe, loop, "/dev/zero", "/dev/null", "/proc/self/mem"):
            self.refused("show", p)
            self.refused("tokenize", p)
        for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors.index.json"):
            for make in (os.mkfifo, os.mkdir, lambda p: os.symlink("/dev/zero", p), lambda p: os.symlink(p, p)):
                with tempfile.TemporaryDirectory(dir=self.d) as d:
                    m = Hf()
                    if name == "model.safetensors.index.json":
                        m.weights = None
                    m.save(d)
                    p = os.path.join(d, name)
                    if os.path.exists(p):
                        os.remove(p)
                    make(p)
                    self.ends("show", d)

    def test_cut_while_read(self):
        """A mapped file becomes shorter under a running program: one line and status 1, no crash."""
        model = Gguf().save(self.d)
        chat = subprocess.Popen([PROGRAM, "chat", model, "-q", "--template", "none", "-n", "2", "--target", "ref"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=ENVIRONMENT)
        chat.stdin.write(b"ab\n")
        chat.stdin.flush()
        chat.stdout.read(1)  # the first answer comes: the weights are mapped
        time.sleep(0.5 * SLOW)
        os.truncate(model, 4096)
        out, err = chat.communicate(b"ab\nab\n", timeout=20 * SLOW)
        self.assertEqual((chat.returncode, err.decode()), (1, f"aquila: error: {model}: it became shorter while it was read, or its disk failed\n"))

    def test_cut_while_converted(self):
        """The same while another file is made of it: the half of that goes too."""
        g, out = Gguf(), self.path("out")
        rows = 500000
        g.tensors["token_embd.weight"][0][1], g.tensors["token_embd.weight"][2] = rows, bytes(rows * WIDTH * 2)
        os.mkdir(out)
        for kind in ("f16", "q8_0"):  # one is written from the map, the other read there first
            for _ in range(20):
                model = g.save(self.d)
                p = subprocess.Popen([PROGRAM, "convert", model, "-o", os.path.join(out, "x.gguf"), "--weights-type", kind, "-t", "1"], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, env=ENVIRONMENT)
                while p.poll() is None and not os.listdir(out):
                    pass
                p.send_signal(signal.SIGSTOP)
                is_at_work = any(".tmp." in n and os.path.getsize(os.path.join(out, n)) < rows * WIDTH for n in os.listdir(out))
                os.truncate(model, 4096)
                p.send_signal(signal.SIGCONT)
                _, err = p.communicate(timeout=20 * SLOW)
                if is_at_work and p.returncode:
                    break
                for n in os.listdir(out):
                    os.remove(os.path.join(out, n))
            self.assertEqual((p.returncode, os.listdir(out)), (1, []), err)
            self.assertEqual(err.decode(), f"aquila: error: {model}: it became shorter while it was read, or its disk failed\n")

    def test_terminal(self):
        """No control character of a file's texts reaches a terminal."""
        g = Gguf()
        g.keys["general.name"] = (STRING, string(b"\x1b]0;title\x07\r\nb\xc2\x9b31m\x00c"))
        g.keys["tokenizer.chat_template"] = (STRING, string(b"\x1b[2J"))
        status, out = self.ends("show", g.save(self.d), "--tensors", statuses=(0,))
        self.assertTrue(out.decode().replace("\n", "").isprintable(), out[:500])
        for key in (b"\x1b[31mred\n", b"\xff\xfe", b"a\0b"):
            g = Gguf()
            g.keys[key] = (13, b"")
            self.refused("show", g.save(self.d))
            m = Hf()
            m.tensors[key.decode(errors="replace")] = ["F16", [1], bytes(2)]
            self.refused("show", m.save(self.path("hf")))

    def on_terminal(self, *args, stdin=b""):
        """What a terminal gets from a program that ends well, line ends apart."""
        ours, theirs = pty.openpty()
        r = subprocess.Popen([PROGRAM, *args], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, env=ENVIRONMENT)
        os.close(theirs)
        _, err = r.communicate(stdin, timeout=60)
        out = b""
        try:
            while more := os.read(ours, 65536):
                out += more
        except OSError:  # how a terminal ends that nobody writes to
            pass
        os.close(ours)
        self.assertEqual(r.returncode, 0, (args, err))
        return out.replace(b"\r\n", b"\n")

    def test_terminal_output(self):
        """Nor one of a token's text, nor of a path, by whatever verb shows it; into a file they go as they are."""
        g, evil = Gguf(), "\x1b]0;t\x07\u009b2J\x7f"
        g.keys["tokenizer.ggml.tokens"] = strings("<end>", "a", "b", "ab", "[PAD4]", evil)
        model = g.save(self.d)
        prompts = put(self.path("prompts"), json.dumps({"prompt": evil, "max_new_tokens": 1}))
        # the output projection sees only zeros: the first token with the largest logit is 0, so the answer is empty; -n 0 shows what was asked
        shown = [(["tokenize", model, "--decode"], b"5 1"), (["tokenize", model, "-v"], evil.encode()), (["tokenize", model, "--decode", "--json"], b"5"),
                 (["tokenize", model, "--decode", "--batch"], b'{"ids": [5]}'), (["run", model, evil, "--template", "none", "-n", "0"], b""),
                 (["run", model, evil, "--template", "none", "-n", "0", "--json"], b"")]
        for args, stdin in shown:
            out = self.on_terminal(*args, stdin=stdin)
            self.assertTrue(out.decode().replace("\n", "").replace("\t", "").isprintable(), (args, out))
            self.assertIn(b"2J", out, args)
        self.assertEqual(self.ends("tokenize", model, "--decode", stdin=b"5", statuses=(0,))[1], evil.encode())
        path = self.path(evil.replace("/", ""))
        os.mkdir(path)
        os.rename(model, os.path.join(path, "m.gguf"))
        self.assertTrue(self.on_terminal("show", os.path.join(path, "m.gguf")).decode().replace("\n", "").isprintable())
        # a model that says it: every row of the tied embedding is zero but the token's, and what comes in is that token
        g.tensors["token_embd.weight"][2] = bytes(2 * WIDTH * 5) + struct.pack("<32e", *[1.0] * 32)
        g.tensors["output_norm.weight"][2] = struct.pack("<32f", *[1.0] * 32)
        model = g.save(self.d)
        for args in (["run", model, evil, "--template", "none", "-n", "2", "--temperature", "0", "--target", "ref"],
                     ["run", model, "--prompts-file", prompts, "--template", "none", "--temperature", "0", "--target", "ref"]):
            out = self.on_terminal(*args)
            self.assertIn(b"2J", out, args)
            self.assertTrue(out.decode().replace("\n", "").isprintable(), (args, out))

    def test_a_plan_of_others(self):
        """A plan is code: one of the cache that somebody else may have written is made again; what is written nobody else may change, whatever the umask."""
        model, cache = Gguf().save(self.d), self.path("cache")
        ask = ["run", model, "--prompt-ids", "1,2", "-n", "1", "--json", "--cache", cache]
        compiled = lambda: json.loads(subprocess.run([PROGRAM, *ask], capture_output=True, env=ENVIRONMENT, umask=0, check=True).stdout)["timings"]["compile_ms"] > 0
        self.assertTrue(compiled())
        self.assertFalse(compiled())
        plans = os.path.join(cache, "plans")
        plan = os.path.join(plans, *os.listdir(plans))
        for spoil in [lambda: os.chmod(plan, 0o664)] + [lambda: os.chown(plan, 65534, 65534)] * (os.geteuid() == 0):
            self.assertEqual((os.stat(plan).st_mode & 0o777, os.stat(plan).st_uid), (0o644, os.geteuid()))
            spoil()
            self.assertTrue(compiled())
            self.assertFalse(compiled())

    def test_a_cache_of_links(self):
        """What a link of a cache points to is not written over: the link is."""
        cache, mine = self.path("cache"), put(self.path("mine"), "mine")
        ask = ["run", "tests/data/tiny-hf", "--weights-type", "q4_0", "--prompt-ids", "1,2", "-n", "1", "--cache", cache]
        for wanted in (2, 2):
            subprocess.run([PROGRAM, *ask], capture_output=True, env=ENVIRONMENT, cwd=test_bad.ROOT, check=True)
            files = [os.path.join(d, n) for d, _, names in os.walk(cache) for n in names]
            self.assertEqual((len(files), [f for f in files if os.path.islink(f)]), (wanted, []))
            with open(mine) as f:
                self.assertEqual(f.read(), "mine")
            for f in files:
                os.remove(f)
                os.symlink(mine, f)

    @unittest.skipIf(os.geteuid(), "only root can give a link to somebody else")
    def test_a_link_of_others(self):
        """In a folder like /tmp a link that another user made is not followed, as the kernel has it for whoever opens one."""
        model, mine, shared = Gguf().save(self.d), put(self.path("mine"), "mine"), self.path("shared")
        os.mkdir(shared)
        os.chmod(shared, 0o1777)
        for owner, kept in ((65534, "mine"), (0, None)):
            out = os.path.join(shared, "x.gguf")
            if os.path.lexists(out):
                os.remove(out)
            os.symlink(mine, out)
            os.lchown(out, owner, owner)
            self.ends("convert", model, "-o", out, statuses=(0,))
            with open(mine, "rb") as f:
                self.assertEqual(f.read() == b"mine", kept is not None)
            self.assertEqual(os.path.islink(out), kept is None)

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

    def test_weights(self):
        """Weights that are no numbers, or as large as numbers get: answers are nonsense, the program is not."""
        for pattern in (b"\xff\xff", b"\x00\x7c", b"\xff\x7b", b"\x00\x80"):
            g = Gguf()
            for t in g.tensors.values():
                t[2] = pattern * (len(t[2]) // 2)
            p = g.save(self.d)
            for more in (["--temperature", "0"], ["--temperature", "1.5", "--top-p", "0.9"], ["--temperature", "1", "--top-k", "3"]):
                self.ends("run", p, "ab", "--template", "none", "-n", "4", "--target", "ref", *more, statuses=(0,))
            self.ends("score", p, "--prompt-ids", "1,2,3", "--target", "ref", statuses=(0,))
            if pattern in (b"\xff\xff", b"\x00\x7c"):  # an answer drawn from no numbers is empty as often as not: it is said why
                prompts = put(self.path("prompts"), "ab\nab\n")
                for what in (["run", p, "ab"], ["run", p, "ab", "--json"], ["run", p, "--prompts-file", prompts], ["chat", p]):
                    r = subprocess.run([PROGRAM, *what, "--template", "none", "-n", "4", "--target", "ref"], input=b"ab\n", capture_output=True, env=ENVIRONMENT)
                    self.assertEqual((r.returncode, r.stderr.count(b"are no numbers")), (0, 1), (what, r.stderr))

    def test_figures(self):
        """Figures at their bounds: what show accepts, run runs or says what it takes."""
        for key, kind, value in (("attention.layer_norm_rms_epsilon", F64, 5e-324), ("attention.layer_norm_rms_epsilon", F64, 1e6), ("rope.freq_base", F64, 1e12),
                                 ("rope.freq_base", F64, 1e-6), ("rope.freq_base", F64, 5e-324), ("context_length", U32, 1), ("context_length", U32, 1 << 24)):
            g = Gguf()
            g.set("llama." + key, kind, value)
            p = g.save(self.d)
            if self.ends("show", p)[0] == 0:
                self.ends("run", p, "a", "--template", "none", "-n", "2", "--target", "ref", statuses=(0, 5))

    def test_scaled_positions(self):
        """The same of what stretches positions: keys of yarn, and the factors of Llama 3."""
        figures = {"factor": (1e-6, 1, 1e6), "original_context_length": (1, 5, 1 << 24), "yarn_beta_slow": (1e-30, 1, 1e12), "yarn_beta_fast": (1e-30, 32, 1e12),
                   "attn_factor": (1e-30, 1e-6, 1e6, 1e12), "yarn_log_multiplier": (1e-30, 1e12), "yarn_attn_factor": (1e-6, 1e6)}
        for key, values in figures.items():
            for value in values:
                for base in (1e-6, 1.0, 10000.0, 1e12):
                    g = Gguf()
                    g.keys["llama.rope.scaling.type"] = (STRING, string("yarn"))
                    g.set("llama.rope.scaling.factor", F64, 4)
                    g.set("llama.rope.freq_base", F64, base)
                    g.set("llama.rope.scaling." + key, U32 if key == "original_context_length" else F64, value)
                    self.shown_is_run(g)
        for factors in ([1] * 7 + [8], [1] + [8] * 7, [8] * 8, [1e-6] * 8, [1e6] * 7 + [1], [1, 1, 1, 1.2, 2, 4, 8, 8], [1, 8, 1, 8, 1, 8, 1, 8], [1] * 6 + [1.000001, 1e6]):
            for base in (1.0, 10000.0, 1e12):
                g = Gguf()
                g.set("llama.rope.freq_base", F64, base)
                g.tensors["rope_freqs.weight"] = [[8], 0, struct.pack("<8f", *factors), None]
                self.shown_is_run(g)

    def shown_is_run(self, g):
        p = g.save(self.d)
        if self.ends("show", p)[0] == 0:
            self.ends("score", p, "--prompt-ids", "1,2,3", "--target", "ref", statuses=(0,))


if __name__ == "__main__":
    unittest.main()
