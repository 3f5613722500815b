#!/usr/bin/env python3
"""test_hurt.py: files made to hurt whoever opens them, beyond those of single reasons (test_bad.py): pipes and devices in place of files, texts that a
terminal would obey, weights that are no numbers, figures at their bounds. Each ends in time, with status 0 or a refusal of one line; what must be refused
is so with no more heap than test_bad.py grants. What takes the square of its length is in test_large.py, what other users and processes can do in
test_others.py. AQ_PROGRAM names the program."""
import json, os, pty, struct, subprocess, sys, tempfile, unittest

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


class Case(unittest.TestCase):
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


class Hurt(Case):
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
        model = os.path.join(path, "m.gguf")
        r = subprocess.run([PROGRAM, "chat", model, "--target", "ref", "--template", "none", "--system", ""], input=f"a\n/save {path}/saved\n".encode(), capture_output=True, env=ENVIRONMENT)
        self.assertIn(b"messages saved", r.stderr)
        self.assertTrue(r.stderr.decode().replace("\n", "").isprintable(), r.stderr)
        # a model that says it: every row of the tied embedding is zero but the token's, and what comes in is that token
        g.tensors["token_embd.weight"][2] = bytes(2 * WIDTH * 5) + struct.pack("<32e", *[1.0] * 32)
        g.tensors["output_norm.weight"][2] = struct.pack("<32f", *[1.0] * 32)
        model = g.save(self.d)
        for args in (["run", model, evil, "--template", "none", "-n", "2", "--temperature", "0", "--target", "ref"],
                     ["run", model, "--prompts-file", prompts, "--template", "none", "--temperature", "0", "--target", "ref"]):
            out = self.on_terminal(*args)
            self.assertIn(b"2J", out, args)
            self.assertTrue(out.decode().replace("\n", "").isprintable(), (args, out))

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
