#!/usr/bin/env python3
"""test_program.py: the program from outside: help, tables, refusals, pipes, signals, tokenize. AQ_PROGRAM names it."""
import base64, json, os, pathlib, pty, re, select, shlex, signal, subprocess, sys, tempfile, time, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def run(*args, stdin=b"", env=None, stdout=subprocess.PIPE):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    e.update(env or {})
    return subprocess.run([PROGRAM, *args], input=stdin if isinstance(stdin, bytes) else stdin.encode(), stdout=stdout, stderr=subprocess.PIPE,
                          env=e, timeout=120)


AQ = os.path.abspath("models/aquila/aquila.aq")


def catches(pid, number):
    """Has this process a handler for it already?"""
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("SigCgt:")[2].split()[0], 16) >> (number - 1) & 1


def verbs():
    listed = run("help").stdout.decode().split("\n\n")[2]
    return [line.split()[0] for line in listed.splitlines()]


def compiles():
    return json.loads(run("doctor", "--json").stdout)["libraries"][0]["found"]


class Case(unittest.TestCase):
    def refused(self, status, message, *args, **more):
        """One line on standard error that says so, nothing on standard output."""
        r = run(*args, **more)
        err = r.stderr.decode()
        self.assertEqual(r.returncode, status, (args, err))
        self.assertTrue(err.startswith("aquila: error: ") and err.count("\n") == 1, err)
        self.assertIn(message, err)
        self.assertEqual(r.stdout, b"")

    def fine(self, *args, **more):
        r = run(*args, **more)
        self.assertEqual(r.returncode, 0, (args, r.stderr.decode()))
        return r.stdout.decode()


class Help(Case):
    def test_every_verb(self):
        self.assertIn("tokenize", verbs())
        self.assertEqual(self.fine("help"), self.fine("--help"))
        for v in verbs():
            text = self.fine(v, "--help")
            self.assertIn("usage: aquila " + v, text)
            self.assertEqual(text, self.fine("help", v))
            told = json.loads(self.fine(v, "--help", "--json"))
            self.assertEqual((told["verb"], told), (v, json.loads(self.fine("help", v, "--json"))))
            flat = " ".join(text.split())
            self.assertTrue(all("--" + o["name"] in text and o["meaning"] in flat for o in told["options"]))
        self.assertEqual([v["verb"] for v in json.loads(self.fine("help", "--json"))], verbs())
        self.assertEqual(set(json.loads(self.fine("version", "--json"))), {"version", "plan_version"})
        self.refused(2, "no JSON form", "man", "--json")

    def test_completion_is_bash(self):
        script = self.fine("completion", "bash")
        for line, want in (("tokenize --de", b"--decode"), ("comp", b"compile completion"), ("show dev", b"devices"), ("help ver", b"version"),
                           ("run --layout as", b"as-stored"), ("run m.gguf x", b""), ("show kern", b"kernels")):
            words = line.split()
            probe = script + f'\nCOMP_WORDS=(aquila {line}) COMP_CWORD={len(words)}; _aquila; echo "${{COMPREPLY[*]}}"'
            self.assertEqual(subprocess.run(["bash", "-c", probe], capture_output=True).stdout, want + b"\n", line)

    def test_version(self):
        self.assertRegex(self.fine("--version"), r"^aquila \d+\.\d+\.\d+, plans of version \d+\n$")

    def test_manual(self):
        text = self.fine("man")
        for v in verbs():
            self.assertIn(".SS " + v, text)

    def test_examples(self):
        """Each is a command line that its verb takes, and stands in the manual too."""
        seen, page = 0, self.fine("man").replace("\\-", "-").replace("\\e", "\\")
        for v in verbs():
            _, _, examples = self.fine(v, "--help").partition("\nexamples:\n")
            for line in examples.splitlines()[::2]:
                words = shlex.split(line)
                self.assertEqual(words[:2], ["aquila", v])
                self.fine(*words[1:], "--help")
                self.assertIn(line.strip(), page)
                seen += 1
        self.assertGreater(seen, 15)

    def test_readme(self):
        """Every command line of the README names a verb, and options that it has."""
        options = {v["verb"]: {"--" + o["name"] for o in v["options"]} for v in json.loads(self.fine("help", "--json"))}
        text = pathlib.Path("README.md").read_text()
        lines = re.findall(r"^    (aquila [a-z].*)|`(aquila [a-z][^`]*)`", text, re.M)
        self.assertGreater(len(lines), 20)
        for line in (a or b for a, b in lines):
            verb = line.split()[1]
            self.assertIn(verb, options, line)
            for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", re.split(r"  +|#", line)[0]):
                self.assertIn(option, options[verb], line)

    def test_wrong_command_lines(self):
        self.refused(2, "did you mean tokenize", "tokenise", "x")
        self.refused(2, "did you mean --decode", "tokenize", "--decoed", "x")
        self.refused(2, "no verb")
        self.refused(2, "expected bash", "completion", "fish")
        self.refused(2, "no such verb", "help", "nothing")
        self.refused(2, "did you mean tokenize", "help", "tokenise")
        for later in ("train", "serve", "tune"):
            self.refused(2, "is not built yet", later, "x")
            self.assertNotIn(later, verbs())
        self.refused(2, "cuda:0 is not built yet", "run", "tiny:random", "--target", "cuda:0", "--prompt-ids", "1")
        self.refused(2, "aquila show tables", "show", "nothing")
        self.refused(2, "did you mean devices", "show", "devcies")
        self.refused(2, "did you mean kernels", "show", "kernel")
        self.refused(2, "show kernels MODEL", "show", "kernels")
        self.refused(2, "x is one too many", "show", "ops", "x")


class Show(Case):
    def test_every_table(self):
        tables = json.loads(self.fine("show", "tables", "--json"))
        self.assertGreater(len(tables), 4)
        for t in tables:
            rows = json.loads(self.fine("show", t["table"], "--json"))
            self.assertTrue(rows, t)
            text = self.fine("show", t["table"]).splitlines()
            self.assertEqual(len(text), len(rows) + 1)

    def test_devices(self):
        """This processor, under the name that doctor gives it and the target that it takes."""
        cpu, ref = json.loads(self.fine("show", "devices", "--json"))
        told = json.loads(self.fine("doctor", "--json"))["cpu"]
        self.assertEqual((cpu["device"], cpu["name"], cpu["target"]), ("cpu", told["name"], told["target"]))
        self.assertEqual((ref["device"], ref["target"]), ("ref", "ref"))
        here = {t["target"]: t["here"] for t in json.loads(self.fine("show", "targets", "--json"))}
        self.assertTrue(set(here.values()) <= {"yes", "no"})
        self.assertEqual(here.get(cpu["target"], "yes"), "yes")

    @unittest.skipUnless(compiles(), "no LLVM")
    def test_kernels(self):
        with tempfile.TemporaryDirectory() as d:
            plans = [os.path.join(d, f"{jobs}.aqp") for jobs in (1, 2, 5)]
            for jobs, plan in zip((1, 2, 5), plans):
                self.fine("compile", "tiny:random", "-o", plan, "--jobs", str(jobs))
            same = {pathlib.Path(p).read_bytes() for p in plans}
            self.assertEqual(len(same), 1)
            rows = json.loads(self.fine("show", "kernels", plans[0], "--json"))
            self.assertEqual(rows, json.loads(self.fine("show", "kernels", "tiny:random", "--json")))
            plan = json.loads(self.fine("show", plans[0], "--json"))
            steps = [s for v in plan["graphs"][0]["variants"] for s in v["steps"]]
            self.assertEqual(sum(k["steps"] for k in rows), len(steps))
            self.assertEqual({k["kernel"] for k in rows}, {s["kernel"] for s in steps})
            text = self.fine("show", "kernels", plans[0])
            self.assertTrue(all(k["kernel"] in text and k["schedule"] not in text for k in rows))
            self.assertTrue(all(k["schedule"] in self.fine("show", "kernels", plans[0], "-v") for k in rows[:3]))

    def test_files_that_are_none(self):
        with tempfile.TemporaryDirectory() as d:
            self.refused(3, d, "show", d)
            for name, b in (("a.gguf", b"GGUX" + bytes(60)), ("c.gguf", b"")):
                with open(os.path.join(d, name), "wb") as f:
                    f.write(b)
                self.refused(3, name, "show", os.path.join(d, name))
            self.refused(3, "missing.gguf", "show", os.path.join(d, "missing.gguf"))

    def test_a_random_model(self):
        m = json.loads(self.fine("show", "tiny:random", "--tensors", "--json"))
        self.assertEqual(len(m["tensors"]), m["n_tensors"])
        self.assertEqual(m["config"]["head_dim"] * m["config"]["heads"] >= m["config"]["dim"], True)
        self.assertIn("tensors", self.fine("show", "tiny:random"))
        self.refused(3, "nothing", "show", "nothing:random")


class Doctor(Case):
    def test_json(self):
        d = json.loads(self.fine("doctor", "--json"))
        self.assertEqual([x["name"] for x in d["libraries"]][0], "LLVM")
        for x in d["libraries"]:
            self.assertEqual(x["found"], x["path"] is not None)
            self.assertEqual(x["found"], "install" not in x)
        self.assertGreater(d["cpu"]["cores"], 0)

    def test_a_switch_names_the_library(self):
        d = json.loads(self.fine("doctor", "--json", env={"AQ_LLVM": "/nowhere/libLLVM.so"}))
        self.assertFalse(d["libraries"][0]["found"])
        self.assertIn("/nowhere/libLLVM.so", d["libraries"][0]["reason"])


def printable():
    """GPT-2's alphabet: byte to character."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    return table


def make_tokenizer(folder):
    p = printable()
    vocab = {p[b]: i for i, b in enumerate(range(256))}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("hell", "o")]
    for a, b in merges:
        vocab[a + b] = len(vocab)
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump(vocab, f)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    return vocab


class Tokenize(Case):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.t = cls.folder.name
        cls.vocab = make_tokenizer(cls.t)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_there_and_back(self):
        text = "hello, w\u00f6rld\n\u4f60\u597d \U0001f600"
        ids = self.fine("tokenize", self.t, stdin=text)
        self.assertEqual(int(ids.split()[0]), self.vocab["hello"])
        self.assertEqual(self.fine("tokenize", self.t, "--decode", stdin=ids), text)
        as_json = json.loads(self.fine("tokenize", self.t, "--json", stdin=text))
        self.assertEqual(as_json["ids"], [int(x) for x in ids.split()])
        back = json.loads(self.fine("tokenize", self.t, "--decode", "--json", stdin=json.dumps(as_json["ids"])))
        self.assertEqual(back, {"text": text})
        path = os.path.join(self.t, "text")
        with open(path, "w") as f:
            f.write(text)
        self.assertEqual(self.fine("tokenize", self.t, "--file", path), ids)
        self.assertEqual(self.fine("tokenize", self.t, stdin=""), "\n")

    def test_lines(self):
        texts = ["hello", "", "a\0b", "quote \" back \\ \u2028 \U0001f600", "\\u0000"]
        lines = "".join(json.dumps({"text": t}) + "\n" for t in texts)
        lines += json.dumps({"bytes": base64.b64encode(bytes(range(256))).decode()})   # no newline at the end
        got = [json.loads(x)["ids"] for x in self.fine("tokenize", self.t, "--batch", stdin=lines).splitlines()]
        self.assertEqual(len(got), 6)
        alone = self.fine("tokenize", self.t, stdin=b"a\0b")
        self.assertEqual(got[2], [int(x) for x in alone.split()])
        self.assertEqual(len(got[4]), 6)
        self.assertEqual(len(got[5]), 256)
        back = self.fine("tokenize", self.t, "--batch", "--decode", stdin="".join(json.dumps({"ids": g}) + "\n" for g in got[:5]))
        self.assertEqual([json.loads(x)["text"] for x in back.split("\n")[:-1]], texts)

    def test_lines_answered_one_by_one(self):
        p = subprocess.Popen([PROGRAM, "tokenize", self.t, "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(3):
            p.stdin.write(b'{"text": "hello"}\n')
            p.stdin.flush()
            self.assertEqual(json.loads(p.stdout.readline())["ids"], [self.vocab["hello"]])
        p.stdin.close()
        self.assertEqual(p.wait(), 0)
        p.stdout.close()

    def test_refusals(self):
        for line in ('{"text": 1}', "{}", "[1", '{"text": "a"} x', '{"bytes": "*"}', '{"bytes": "A"}', '"x"'):
            self.refused(3, "standard input:1", "tokenize", self.t, "--batch", stdin=line + "\n")
        self.refused(3, "UTF-8", "tokenize", self.t, "--batch", stdin=b'{"text": "\xff"}\n')
        for ids in ("1 x", "-1", "260", "99999999999999999999", "1.5"):
            self.refused(3, "", "tokenize", self.t, "--decode", stdin=ids)
        for line in ('{"ids": [1, 1e9]}', '{"ids": [1.5]}', '{"ids": 1}', '{"ids": ["1"]}'):
            self.refused(3, "standard input:1", "tokenize", self.t, "--batch", "--decode", stdin=line)
        self.refused(3, "nowhere", "tokenize", "/nowhere")
        self.refused(2, "too many", "tokenize", self.t, self.t)

    def test_in_flagais_way(self):
        with tempfile.TemporaryDirectory() as folder:
            vocab = make_tokenizer(folder)
            vocab["<|endoftext|>"] = 260
            with open(os.path.join(folder, "vocab.json"), "w") as f:
                json.dump(vocab, f)
            with open(os.path.join(folder, "special_tokens_map.json"), "w") as f:
                json.dump({"cls_token": {"content": "[CLS]"}, "sep_token": {"content": "</s>"}}, f)
            text = "hello [UNK] </s>\x1c he"
            h, e, space = vocab["h"], vocab["he"], vocab[printable()[32]]
            self.assertEqual(self.fine("tokenize", "flagai-v1:" + folder, stdin=text), f"{vocab['hello']} 260 268 {e}\n")
            self.assertIn(f" 268 {vocab[printable()[28]]} {space} {e}\n", self.fine("tokenize", folder, stdin=text))
            self.assertEqual(self.fine("tokenize", "flagai-v1:" + folder, "--decode", stdin=f"{h} 260 263 265"), "h[UNK][gMASK]")
            for given, first in (("flagai-v1:" + folder, 260), (folder, vocab["["])):
                got = json.loads(self.fine("run", "tiny:random", "[UNK]", "--tokenizer", given, "--template", "none", "-n", "0", "--json"))
                self.assertEqual(got["prompt_tokens"][0], first)
        self.refused(2, "flagai-v1:FOLDER", "run", "tiny:random", "x", "--tokenizer", "flagai-v1")
        self.refused(2, "only a way to read", "convert", "tiny:random", "-o", "x", "--tokenizer", "flagai-v1:" + self.t)

    def test_stats(self):
        got = json.loads(self.fine("tokenize", "--stats", self.t, self.t, "--json", stdin="hello hello"))
        self.assertEqual([t["tokens"] for t in got["texts"][0]["tokenizers"]], [3, 3])
        lines = '{"text": "hello"}\n{"text": "xyz"}\n'
        got = json.loads(self.fine("tokenize", "--stats", self.t, "--batch", "--json", stdin=lines))
        self.assertEqual(got["texts"][0]["tokenizers"][0]["tokens_per_text"], 2)
        self.assertIn("tokens per text", self.fine("tokenize", "--stats", self.t, stdin="x"))


class World(Case):
    def test_full_disk(self):
        with open("/dev/full", "wb") as full:
            r = run("help", stdout=full)
        self.assertEqual(r.returncode, 1)
        self.assertIn(b"aquila: error: standard output", r.stderr)

    def test_a_limit_on_files(self):
        """ulimit -f: one line, and nothing is left of the file that was being written."""
        with tempfile.TemporaryDirectory() as d:
            r = subprocess.run(["sh", "-c", f'ulimit -f 8; exec "$0" convert tiny:random -o {d}/m.gguf', PROGRAM], capture_output=True)
            self.assertEqual((r.returncode, r.stderr.count(b"\n"), os.listdir(d)), (1, 1, []), r.stderr)
            self.assertIn(b"File too large", r.stderr)

    @unittest.skipUnless(compiles(), "no LLVM")
    def test_a_cache_that_cannot_be_written(self):
        """The answer comes all the same, and it is said why the next start will be as slow."""
        for where in ("/proc/none", "/dev/null/x"):  # a folder that cannot be made, a name that is taken
            r = run("run", "tiny:random", "--prompt-ids", "1", "-n", "1", "--cache", where)
            self.assertEqual(r.returncode, 0)
            self.assertRegex(r.stderr.decode(), r"^packed weights are not kept: /\S+: (cannot make the folder: .*|is not a folder) \(the next start packs them again\)\n$")

    def test_closed_pipe_is_quiet(self):
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb", closefd=True) as closed:
            r = run("show", "ops", stdout=closed)
            to_file = run("opt", "models/aquila/aquila.aq", "--config", "tiny", "-o", "-", stdout=closed)
        self.assertEqual((r.returncode, r.stderr), (1, b""))
        self.assertEqual((to_file.returncode, to_file.stderr), (1, b""))

    def test_interrupt(self):
        with tempfile.TemporaryDirectory() as t:
            make_tokenizer(t)
            p = subprocess.Popen([PROGRAM, "tokenize", t, "--batch"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            p.stdin.write(b'{"text": "hello"}\n')
            p.stdin.flush()
            p.stdout.readline()
            time.sleep(0.1)
            p.send_signal(signal.SIGINT)
            _, err = p.communicate(timeout=20)
            self.assertEqual((p.returncode, err), (130, b"aquila: error: interrupted\n"))

    def test_interrupt_of_what_does_not_look(self):
        """Passes, machine code, packing, the reference: one Ctrl-C is enough, one line is said, and no half file is left."""
        work = (("opt", AQ, "--config", "aquila-33b", "--explain", "--target", "cpu:v4"), ("exec", AQ, "--config", "smollm2-135m", "--target", "ref"),
                ("compile", "aquila-7b:random", "-o", "plan.aqp"), ("run", "aquila-7b:random", "--prompt-ids", "1", "--weights-type", "q4_0"))
        with tempfile.TemporaryDirectory() as d:
            for args in work:
                p = subprocess.Popen([os.path.abspath(PROGRAM), *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=d,
                                     env={**os.environ, "AQ_CACHE": os.path.join(d, "cache")})
                self.addCleanup(p.kill)
                while p.poll() is None and not catches(p.pid, signal.SIGINT):
                    time.sleep(0.01)
                time.sleep(0.2)
                p.send_signal(signal.SIGINT)
                out, err = p.communicate(timeout=20)
                if p.returncode != 0:  # on a fast machine it may be over before
                    self.assertEqual((p.returncode, err, out), (130, b"aquila: error: interrupted\n", b""), args)
            left = [f for _, _, files in os.walk(d) for f in files]
            self.assertFalse([f for f in left if ".tmp." in f], left)

    def on_a_terminal(self, *args, env=None):
        """A child with a terminal of its own, and that terminal's end."""
        e = {**{k: v for k, v in os.environ.items() if not k.startswith("AQ_")}, "AQ_CACHE": "none", **(env or {})}
        child, end = pty.fork()
        if not child:
            os.execve(PROGRAM, [PROGRAM, *args], e)
        self.addCleanup(os.close, end)
        return child, end

    def told(self, end, until=None):
        """What comes until that text does, or the end."""
        out = b""
        while until is None or until not in out:
            if not select.select([end], [], [], 60)[0]:
                self.fail(f"nothing for 60 s after {out}")
            try:
                out += os.read(end, 4096)
            except OSError:
                break
        return out

    def test_ctrl_c_at_an_empty_line_keeps_the_conversation(self):
        child, end = self.on_a_terminal("chat", "tests/data/micro_gguf.bin", "--target", "ref", "--template", "chatml")
        self.told(end, b"> ")
        for _ in range(5):  # the signal may come between the prompt and the read: none may be lost
            os.write(end, b"half a li\x03")
            self.assertIn(b"/exit leaves", self.told(end, b"leaves)\r\n> "))
        os.write(end, b"/stats\n")
        self.assertIn(b"0 messages", self.told(end, b"/s\r\n> "))
        os.write(end, b"\x04")
        self.told(end)
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 0)

    def test_typed_chinese(self):
        """Whatever the locale is called."""
        with tempfile.TemporaryDirectory() as t:
            for locale in ("C", "C.UTF-8"):
                saved = os.path.join(t, locale)
                child, end = self.on_a_terminal("chat", "tests/data/micro_gguf.bin", "--target", "ref", "--template", "chatml", "-n", "1", env={"LC_ALL": locale})
                self.told(end, b"> ")
                os.write(end, "/system 你好吗\n".encode())
                self.told(end, b"\r\n> ")
                os.write(end, f"/save {saved}\n/exit\n".encode())
                self.told(end)
                os.waitpid(child, 0)
                with open(saved, encoding="utf-8") as f:
                    self.assertIn("你好吗", f.read())

    def test_colour_and_progress_on_a_terminal(self):
        for env, colour in (({}, True), ({"NO_COLOR": "1"}, False)):
            child, end = self.on_a_terminal("run", "tiny:random", "words", env=env)
            self.assertEqual(b"\033[1;31m" in self.told(end), colour)
            self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), 2)
        child, end = self.on_a_terminal("run", "tiny:random", "--prompt-ids", "1", "-n", "1", "--target", "ref")
        self.assertRegex(self.told(end), rb"making weights \.\.\.\033\[K.*\r\033\[K\d+\r\n$")   # what was in progress is wiped before the answer
        os.waitpid(child, 0)

    def test_no_colours_in_pipes(self):
        self.assertNotIn(b"\033", run("nothing").stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
