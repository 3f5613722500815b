#!/usr/bin/env python3
"""test_batch.py: `run --prompts-file`: every answer is the one that the prompt gets alone, whatever stands beside it, however many sequences there
are, in whatever parts prompts go in; lines that are refused; the three forms of output. AQ_PROGRAM names the program; AQ_TEST_MODEL, if set, the
real model. AQ_TEST_TARGETS: as in test_answers.py."""
import json, os, random, signal, subprocess, sys, tempfile, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
MODEL = os.environ.get("AQ_TEST_MODEL")
TINY = "tests/data/tiny-hf"
TARGETS = (os.environ.get("AQ_TEST_TARGETS") or "ref cpu").split()
FIELDS = ("text", "tokens", "logprobs", "prompt_tokens", "model_input", "stop_reason")
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def run(*args, stdin=b""):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return subprocess.run([PROGRAM, *args], input=stdin, capture_output=True, env=env, timeout=600)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def file(self, *lines):
        path = os.path.join(self.folder, "prompts")
        with open(path, "w") as f:
            f.writelines((x if isinstance(x, str) else json.dumps(x)) + "\n" for x in lines)
        return path

    def many(self, model, lines, *args, status=0):
        r = run("run", model, "--prompts-file", self.file(*lines), *args, "--json", "--cache", self.folder)
        self.assertEqual(r.returncode, status, r.stderr.decode())
        return json.loads(r.stdout), r.stderr.decode()

    def alone(self, model, line, *args):
        """The same request by options."""
        names = {"max_new_tokens": "-n", "temperature": "--temperature", "top_k": "--top-k", "top_p": "--top-p", "seed": "--seed"}
        more = [a for key, name in names.items() if key in line for a in (name, str(line[key]))]
        if "ids" in line:
            more += ["--prompt-ids", ",".join(map(str, line["ids"]))]
        if "messages" in line:
            path = os.path.join(self.folder, "messages")
            with open(path, "w") as f:
                json.dump(line["messages"], f)
            more += ["--messages", path]
        for stop in [line["stop"]] if isinstance(line.get("stop"), str) else line.get("stop", []):
            more += ["--stop", stop]
        r = run("run", model, *([line["prompt"]] if "prompt" in line else []), *more, *args, "--json", "--cache", self.folder)
        self.assertEqual(r.returncode, 0, r.stderr.decode())
        return json.loads(r.stdout)

    def equal(self, got, want, story):
        for field in FIELDS:
            self.assertEqual(got[field], want[field], f"{story}: {field}")


class Equal(Case):
    def check(self, model, target, lines, ways):
        want = [self.alone(model, line, "--target", target, "--seed", "5") if "seed" not in line else self.alone(model, line, "--target", target) for line in lines]
        self.assertGreater(len({tuple(w["tokens"]) for w in want}), len(lines) // 2, "the answers are too much alike to prove anything")
        for way in ways:
            got, _ = self.many(model, lines, "--target", target, *map(str, way))
            self.assertEqual([a["line"] for a in got["answers"]], list(range(1, len(lines) + 1)))
            for i, (a, w) in enumerate(zip(got["answers"], want)):
                self.equal(a, w, f"{target} {way}, prompt {i + 1}")

    def tiny(self, target, count, longest):
        r = random.Random(7)
        lines = [{"ids": [r.randrange(512) for _ in range(r.choice([1, 2, 7, 8, 9, 30, longest]))], "max_new_tokens": r.randrange(1, 12),
                  "temperature": r.choice([0, 0.8, 3]), "top_k": r.choice([0, 5, 30]), "top_p": r.choice([1, 0.95, 0.5]), "seed": r.randrange(99)}
                 for _ in range(count)]
        self.check(TINY, target, lines, [(), ("--sequences", 3, "--batch", 5), ("--sequences", 1, "-t", 1)])

    @unittest.skipUnless("ref" in TARGETS, "ref is not among the targets")
    def test_tiny_on_ref(self):
        self.tiny("ref", 7, 40)

    @unittest.skipUnless("cpu" in TARGETS, "cpu is not among the targets")
    def test_tiny_on_cpu(self):
        self.tiny("cpu", 12, 150)

    @unittest.skipUnless(MODEL and "cpu" in TARGETS, "AQ_TEST_MODEL is not set")
    def test_real_model(self):
        long = " ".join(f"The {n}th number is {n * n}." for n in range(60))
        lines = [{"prompt": p, "max_new_tokens": 24, "temperature": t, "seed": i, "stop": ["\n\n"]}
                 for i, (p, t) in enumerate([("What is the capital of France?", 0), ("Tell me a story.", 0.8), (long, 0), ("Hello!", 1.5), ("2 + 2 =", 0)])]
        lines.append({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}, {"role": "user", "content": "Who are you?"}]})
        self.check(MODEL, "cpu", lines, [("--seed", "5"), ("--seed", "5", "--sequences", 4, "--batch", 32, "-t", 1)])

    def test_steps_are_shared(self):
        got, _ = self.many(TINY, [{"ids": [i, 2, 3]} for i in range(1, 7)], "-n", "9", "--temperature", "0", "--target", TARGETS[-1])
        t = got["timings"]
        self.assertEqual((t["steps"], t["prompt_tokens"], t["new_tokens"]), (9, 18, 54))
        self.assertGreater(got["memory"]["peak_bytes"], 1 << 20)


class Lines(Case):
    def test_refused_lines_and_the_others(self):
        good = {"ids": [1, 2, 3]}
        bad = [({"ids": list(range(300))}, "the prompt has 300 tokens: expected at most 20 (--context)"), ({"prompt": 3}, "expected a text"),
               ({"ids": []}, "not an empty one"), ({"ids": [512]}, "from 0 to 511"), ({}, "asks nothing"), ({"ids": [1], "prompt": "x"}, "expected one of"),
               ({"ids": [1], "top_q": 1}, "top_q"), ({"ids": [1], "top_p": 2}, "from 0 to 1"), ({"ids": [1], "top_k": 1.5}, "whole"),
               ({"ids": [1], "stop": ""}, "stop"), ("[1]", "object"), ("{", "not JSON"), ({"messages": []}, "list"), ({"messages": [{"role": "x"}]}, "message 0")]
        lines = [good] + [x for x, _ in bad] + [good]
        got, err = self.many(TINY, lines, "--target", "ref", "-n", "3", "--temperature", "0", "--context", "20", status=3)
        self.assertEqual(len(err.splitlines()), len(bad), err)
        for i, (_, message) in enumerate(bad):
            a = got["answers"][i + 1]
            self.assertIn(message, a["error"])
            self.assertIn(f"prompts:{i + 2}:", a["error"])
            self.assertTrue(any(a["error"] in x for x in err.splitlines()), (a["error"], err))
        self.assertEqual(got["answers"][0]["tokens"], got["answers"][-1]["tokens"])
        self.assertEqual(len(got["answers"][0]["tokens"]), 3)

    def test_the_length_of_the_context_ends_an_answer(self):
        for n in (18, 19, 20):
            line = {"ids": [5] * n}
            got, _ = self.many(TINY, [line, {"ids": [1]}], "--target", "ref", "-n", "10", "--temperature", "0", "--context", "20")
            self.assertEqual((len(got["answers"][0]["tokens"]), got["answers"][0]["stop_reason"]), (20 - n, "length"))
            self.equal(got["answers"][0], self.alone(TINY, line, "--target", "ref", "-n", "10", "--temperature", "0", "--context", "20"), n)

    def test_lines_from_a_pipe(self):
        """As a shell's <(...) gives them."""
        for text, status in ((b'{"ids": [1]}\n{"ids": [2]}', 0), (b"", 3)):
            end, other = os.pipe()
            os.write(other, text)
            os.close(other)
            r = subprocess.run([PROGRAM, "run", TINY, "--target", "ref", "-n", "1", "--json", "--prompts-file", f"/dev/fd/{end}"], capture_output=True, pass_fds=[end], timeout=120)
            os.close(end)
            self.assertEqual(r.returncode, status, r.stderr)
            if status == 0:
                self.assertEqual([a["line"] for a in json.loads(r.stdout)["answers"]], [1, 2])
            else:
                self.assertIn(b"no prompt in it", r.stderr)

    def test_command_lines(self):
        for status, message, args in ((2, "expected one of them", ["x"]), (2, "expected one of them", ["--prompt-ids", "1"]), (3, "no prompt", [])):
            r = run("run", TINY, "--prompts-file", self.file(""), *args)
            self.assertEqual((r.returncode, message in r.stderr.decode()), (status, True), r.stderr)
        r = run("run", TINY, "--prompts-file", "/nowhere")
        self.assertEqual((r.returncode, r.stderr.count(b"\n")), (3, 1), r.stderr)
        r = run("run", TINY, "--prompts-file", self.file("hello"))
        self.assertEqual((r.returncode, b"no tokenizer" in r.stderr), (2, True), r.stderr)

    def test_forms_of_output(self):
        lines = [{"ids": [1, 2], "max_new_tokens": 6}, {"ids": [3]}, {"ids": [4, 5, 6], "max_new_tokens": 1}]
        args = ("--target", "ref", "-n", "4", "--temperature", "0")
        want = {a["line"]: a for a in self.many(TINY, lines, *args)[0]["answers"]}
        r = run("run", TINY, "--prompts-file", "-", *args, "--stream-json", stdin=("\n".join(map(json.dumps, lines))).encode())
        streamed = [json.loads(x) for x in r.stdout.splitlines()]
        self.assertEqual([a["line"] for a in streamed], [3, 2, 1], "in the order in which they end")
        for a in streamed:
            self.equal(a, want[a["line"]], a["line"])
        r = run("run", TINY, "--prompts-file", self.file(*lines), *args)
        text = "\n".join(f"==> line {n} <==\n" + " ".join(map(str, want[n]["tokens"])) + "\n" for n in sorted(want))
        self.assertEqual(r.stdout.decode(), text)


if __name__ == "__main__":
    unittest.main(verbosity=0)
