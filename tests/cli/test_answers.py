#!/usr/bin/env python3
"""test_answers.py: what the program answers, against an independent implementation's logits (tests/data, made by tests/oracle/logits.py), and
what run, score, chat, compile and memory promise of their form. AQ_PROGRAM names the program; AQ_TEST_MODEL, if set, the real model.
AQ_TEST_TARGETS: the targets to hold against the oracle, apart by spaces (default: ref and cpu)."""
import json, math, os, signal, subprocess, sys, tempfile, time, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
MODEL = os.environ.get("AQ_TEST_MODEL")
TINY = "tests/data/tiny-hf"
# What a target's arithmetic may differ by: relative L2 of logits; the same bound, times the spread of the logits, decides which greedy
# choices count.
TARGETS = {"ref": 1e-5, "cpu": 5e-3}
if os.environ.get("AQ_TEST_TARGETS"):
    TARGETS = {t: TARGETS[t] for t in os.environ["AQ_TEST_TARGETS"].split()}
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def run(*args, stdin=b"", env=None):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    e.update(env or {})
    return subprocess.run([PROGRAM, *args], input=stdin if isinstance(stdin, bytes) else stdin.encode(), capture_output=True, env=e, timeout=600)


def oracle(name):
    with open(f"tests/data/{name}_logits.json") as f:
        return json.load(f)


def ids(tokens):
    return ",".join(map(str, tokens))


class Case(unittest.TestCase):
    def document(self, *args, **more):
        r = run(*args, "--json", **more)
        self.assertEqual(r.returncode, 0, (args[:3], r.stderr.decode()))
        return json.loads(r.stdout)

    def refused(self, status, message, *args, **more):
        r = run(*args, **more)
        err = r.stderr.decode()
        self.assertEqual(r.returncode, status, (args[:3], err))
        self.assertTrue(err.startswith("aquila: error: ") and err.count("\n") == 1, err)
        self.assertIn(message, err)

    def near(self, got, want, tolerance, story):
        """Relative L2 distance over the ids that the oracle kept."""
        of = {x["id"]: x["logit"] for x in got}
        error = math.sqrt(sum((of[i] - x) ** 2 for i, x in want) / sum(x * x for _, x in want))
        self.assertLessEqual(error, tolerance, story)
        return error

    def check_logits(self, model, data, target, tolerance, vocab, longest):
        worst = 0
        for p in data["prompts"]:
            if len(p["ids"]) > longest:
                continue
            got = self.document("score", model, "--target", target, "--prompt-ids", ids(p["ids"]), "--top-logits", str(vocab))
            want = [(i, x) for i, x in (p["top"] if not p.get("logits") else enumerate(p["logits"]))]
            worst = max(worst, self.near(got["top_logits"], want, tolerance, f"{model} on {target}, prompt {p['name']}"))
        print(f"{os.path.basename(model)} on {target}: worst relative L2 of logits {worst:.2e}")

    def check_greedy(self, model, data, target, tolerance, most):
        spread = max(x for _, x in data["prompts"][0]["top"]) or 1
        for g in data["greedy"]:
            n = min(most, len(g["tokens"]))
            got = self.document("run", model, "--target", target, "--prompt-ids", ids(g["prompt"]), "-n", str(n), "--temperature", "0")
            for k, (a, b, gap) in enumerate(zip(got["tokens"], g["tokens"], g["gaps"])):
                if gap <= 2 * tolerance * spread:
                    break    # either choice is right, and then the texts go their own ways
                self.assertEqual(a, b, f"{model} on {target}: token {k} of {got['tokens']}")

    def check_perplexity(self, model, data, target, share, part):
        """A part of the text, as the reference is slow: the oracle's log-probabilities of the same tokens tell what to expect."""
        p = data["perplexity"]
        got = self.document("score", model, "--target", target, "--prompt-ids", ids(p["ids"][:part]))
        want = math.exp(-sum(p["logprobs"][:part - 1]) / (part - 1))
        self.assertEqual(got["tokens"], p["ids"][:part])
        self.assertIsNone(got["logprobs"][0])
        self.assertLessEqual(abs(got["perplexity"] / want - 1), share, f"{model} on {target}: {got['perplexity']} against {want}")
        for a, b in zip(got["logprobs"][1:], p["logprobs"]):
            self.assertLessEqual(abs(a - b), 100 * share * max(1, abs(b)))


class Oracle(Case):
    def test_tiny(self):
        data = oracle("tiny")
        for target, tolerance in TARGETS.items():
            self.check_logits(TINY, data, target, tolerance, 512, 200)
            self.check_greedy(TINY, data, target, tolerance, 48)
            self.check_perplexity(TINY, data, target, 1e-3, 200)

    @unittest.skipUnless(MODEL, "AQ_TEST_MODEL is not set")
    def test_real_model(self):
        data = oracle("smollm2")
        for target, tolerance in TARGETS.items():
            slow = target == "ref"
            self.check_logits(MODEL, data, target, tolerance, 49152, 40 if slow else 1000)
            if not slow:
                self.check_greedy(MODEL, data, target, tolerance, 64)
                self.check_perplexity(MODEL, data, target, 1e-3, 1000)


TARGET = list(TARGETS)[-1]


class Run(Case):
    def test_form(self):
        d = self.document("run", TINY, "--target", TARGET, "--prompt-ids", "1,2,3", "-n", "5", "--seed", "7")
        self.assertEqual(set(d), {"text", "tokens", "logprobs", "prompt_tokens", "model_input", "stop_reason", "timings", "memory"})
        self.assertEqual(set(d["timings"]), {"load_ms", "compile_ms", "prefill_ms", "decode_ms", "prefill_tokens_per_s", "decode_tokens_per_s",
                                             "first_token_ms"})
        self.assertEqual(set(d["memory"]), {"peak_bytes", "weights_bytes", "plan_bytes"})
        self.assertEqual((d["prompt_tokens"], len(d["tokens"]), len(d["logprobs"]), d["stop_reason"]), ([1, 2, 3], 5, 5, "length"))
        self.assertTrue(all(x < 0 for x in d["logprobs"]))

    def test_a_seed_repeats(self):
        a = [self.document("run", TINY, "--target", TARGET, "--prompt-ids", "1,2,3", "-n", "12", "--seed", s)["tokens"] for s in ("7", "7", "8")]
        self.assertEqual(a[0], a[1])
        self.assertNotEqual(a[0], a[2])
        b = self.document("run", TINY, "--target", TARGET, "--prompt-ids", "1,2,3", "-n", "12", env={"AQ_SEED": "7"})["tokens"]
        self.assertEqual(a[0], b)

    def test_random_models(self):
        a = [self.document("run", m, "--target", TARGET, "--prompt-ids", "1,2,3", "-n", "8", "--temperature", "0")["tokens"]
             for m in ("tiny:random", "tiny:random:0", "tiny:random:5")]
        self.assertEqual(a[0], a[1])
        self.assertNotEqual(a[0], a[2])

    def test_weights_types(self):
        scores = {t: self.document("score", TINY, "--target", TARGET, "--prompt-ids", "1,2,3,4,5", "--weights-type", t)["perplexity"]
                  for t in ("as-stored", "f32", "bf16", "q8_0", "q4_0")}
        self.assertLess(abs(scores["f32"] / scores["as-stored"] - 1), 1e-2)
        self.assertLess(abs(scores["q8_0"] / scores["as-stored"] - 1), 5e-2)
        self.assertNotEqual(scores["q4_0"], scores["q8_0"])

    def test_only_saying(self):
        d = self.document("run", TINY, "--prompt-ids", "1,2,3", "-n", "0")
        self.assertEqual((d["prompt_tokens"], d["tokens"]), ([1, 2, 3], []))
        if MODEL:
            d = self.document("run", MODEL, "Hi", "-n", "0")
            self.assertTrue(d["model_input"].endswith("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"))
            self.assertEqual(self.document("run", MODEL, "Hi", "-n", "0", "--template", "none")["model_input"], "Hi")
            self.assertEqual(run("run", MODEL, "-n", "0", "--template", "none", stdin="piped").stdout, b"piped\n")
            with tempfile.NamedTemporaryFile("w", suffix=".json") as f:
                json.dump([{"role": "system", "content": "S"}, {"role": "user", "content": "U"}], f)
                f.flush()
                d = self.document("run", MODEL, "--messages", f.name, "-n", "0")
            self.assertEqual(d["model_input"], "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n")

    def test_refusals(self):
        self.refused(2, "several prompts", "run", TINY, "x", "--prompt-ids", "1")
        self.refused(2, "no tokenizer", "run", TINY, "x")
        self.refused(3, "512", "run", TINY, "--prompt-ids", "512")
        self.refused(2, "from 0 to 1", "run", TINY, "--top-p", "2")
        self.refused(2, "--weights", "run", "x.aqp", "--prompt-ids", "1")
        self.refused(2, "is none", "run", TINY, "--weights", TINY, "--prompt-ids", "1")
        self.refused(2, "has its target", "run", "x.aqp", "--weights", TINY, "--target", "ref", "--prompt-ids", "1")
        self.refused(2, "has its target", "run", "x.aqp", "--weights", TINY, "--activations", "int8", "--prompt-ids", "1")
        self.refused(2, "weights", "run", TINY, "--weights-type", "q9", "--prompt-ids", "1")
        self.refused(2, "nonsense", "run", TINY, "--target", "nonsense", "--prompt-ids", "1")
        self.refused(3, "tokens", "run", TINY, "--target", TARGET, "--context", "2", "--prompt-ids", "1,2,3")
        self.refused(3, "nowhere", "run", "/nowhere", "--prompt-ids", "1")


@unittest.skipUnless("cpu" in TARGETS, "cpu is not among the targets")
class Plans(Case):
    def test_ahead_of_time(self):
        with tempfile.TemporaryDirectory() as d:
            plan, again = os.path.join(d, "a.aqp"), os.path.join(d, "b.aqp")
            first = self.document("compile", TINY, "-o", plan)
            self.assertEqual(first["bytes"], os.path.getsize(plan))
            self.document("compile", TINY, "-o", again, "--cache", d)
            with open(plan, "rb") as a, open(again, "rb") as b:
                self.assertEqual(a.read(), b.read(), "two compilations gave different bytes")
            want = self.document("run", TINY, "--prompt-ids", "1,2,3", "-n", "9", "--temperature", "0", "--cache", "none")["tokens"]
            got = self.document("run", plan, "--weights", TINY, "--prompt-ids", "1,2,3", "-n", "9", "--temperature", "0", "--cache", "none")
            self.assertEqual(got["tokens"], want)
            self.assertEqual(got["timings"]["compile_ms"], 0)
            self.assertIn("plan for cpu", run("show", plan).stdout.decode())
            shown = json.loads(run("show", plan, "--json").stdout)
            self.assertEqual(shown["graphs"][0]["name"], "step")

    def test_no_llvm_in_the_process(self):
        """The loader's own log of every library it opened, dlopen included."""
        with tempfile.TemporaryDirectory() as d:
            plan = os.path.join(d, "a.aqp")
            r = run("compile", TINY, "-o", plan, env={"LD_DEBUG": "files"})
            self.assertIn(b"libLLVM", r.stderr)
            r = run("run", plan, "--weights", TINY, "--prompt-ids", "1,2", "-n", "3", env={"LD_DEBUG": "files"})
            self.assertEqual(r.returncode, 0)
            self.assertNotIn(b"libLLVM", r.stderr)
            for llvm in (True, False):                       # compiled, then from the cache
                r = run("run", TINY, "--prompt-ids", "1,2", "-n", "3", "--cache", d, env={"LD_DEBUG": "files"})
                self.assertEqual(b"libLLVM" in r.stderr, llvm)

    def test_without_llvm(self):
        self.refused(4, "LLVM", "compile", TINY, "-o", "/dev/null", env={"AQ_LLVM": "/nowhere/libLLVM.so"})

    def test_trace(self):
        r = run("run", TINY, "--prompt-ids", "1,2", "-n", "3", env={"AQ_TRACE": "1"})
        self.assertIn(b" times ", r.stderr)

    def test_damage_is_refused(self):
        with tempfile.TemporaryDirectory() as d:
            plan, bad = os.path.join(d, "a.aqp"), os.path.join(d, "bad.aqp")
            self.document("compile", TINY, "-o", plan)
            with open(plan, "rb") as f:
                whole = f.read()
            for at in range(0, len(whole), max(1, len(whole) // 60)):
                for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1:]):
                    with open(bad, "wb") as f:
                        f.write(damaged)
                    self.refused(3, "bad.aqp", "run", bad, "--weights", TINY, "--prompt-ids", "1", "-n", "1")

    def test_threads_change_no_bit(self):
        a = [self.document("score", TINY, "--prompt-ids", ids(range(100)), "--top-logits", "512", "-t", t) for t in ("1", "2", "2")]
        self.assertEqual(a[0], a[1])
        self.assertEqual(a[1], a[2])

    def test_cache(self):
        with tempfile.TemporaryDirectory() as d:
            one = self.document("run", TINY, "--prompt-ids", "1,2", "-n", "3", "--temperature", "0", "--cache", d)
            two = self.document("run", TINY, "--prompt-ids", "1,2", "-n", "3", "--temperature", "0", "--cache", d)
            self.assertGreater(one["timings"]["compile_ms"], 0)
            self.assertEqual(two["timings"]["compile_ms"], 0)
            self.assertEqual(one["tokens"], two["tokens"])
            for folder, _, files in os.walk(d):      # a damaged cache is made again
                for f in files:
                    with open(os.path.join(folder, f), "r+b") as x:
                        x.seek(os.path.getsize(os.path.join(folder, f)) // 2)
                        x.write(b"\xa5" * 16)
            three = self.document("run", TINY, "--prompt-ids", "1,2", "-n", "3", "--temperature", "0", "--cache", d)
            self.assertEqual(one["tokens"], three["tokens"])

    def test_memory_foretold(self):
        m = self.document("memory", TINY, "--context", "128", "--batch", "32")
        self.assertEqual(m["session_bytes"], m["cache_bytes"] + m["activations_bytes"] + m["local_bytes"] + m["tables_bytes"])
        more = self.document("memory", TINY, "--context", "256", "--batch", "32")
        self.assertEqual(more["cache_bytes"], 2 * m["cache_bytes"])
        fit = self.document("memory", TINY, "--batch", "32", "--fit", str(more["total_bytes"]))
        self.assertGreaterEqual(fit["context"], 256)
        self.assertLessEqual(fit["total_bytes"], more["total_bytes"] + 65536)
        self.refused(5, "fit", "memory", TINY, "--fit", "1KiB")
        one, many = (self.document("memory", TINY, "--context", "64", "--sequences", n) for n in ("1", "16"))
        self.assertEqual(one["batch"], 64)     # no step is larger than all that fits
        self.assertGreaterEqual(many["activations_bytes"] - one["activations_bytes"], 15 * 512 * 4, "logits of each sequence")

    def test_threads_are_the_processors_it_may_use(self):
        may = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(may)})
        try:
            self.assertEqual(self.document("memory", TINY, "--context", "64")["threads"], 1)
        finally:
            os.sched_setaffinity(0, may)

    def test_memory_of_what_this_machine_cannot_hold(self):
        """No weight is made to tell it, with a cache or without: the plan of 33 thousand million weights is small."""
        with tempfile.TemporaryDirectory() as d:
            told = [self.document("memory", "aquila2-34b:random", "--weights-type", "q4_0", "--cache", c) for c in ("none", d, d)]
        for x in told:
            x.pop("free_bytes")    # the machine's, not the model's
        self.assertEqual(told[0], told[1])
        self.assertEqual(told[1], told[2])
        self.assertGreater(told[0]["total_bytes"], 17 << 30)
        self.refused(2, "ref", "memory", TINY, "--target", "ref")

    def test_bench(self):
        b = self.document("bench", TINY, "-p", "16", "-n", "4", "-d", "0,32", "-t", "1", "-r", "2")
        self.assertEqual([(r["n_prompt"], r["n_gen"], r["depth"]) for r in b["results"]], [(16, 0, 0), (0, 4, 0), (16, 0, 32), (0, 4, 32)])
        self.assertTrue(all(r["tokens_per_s"] > 0 and r["share_of_limit"] > 0 for r in b["results"]))

    def test_bench_names_the_limit_of_the_activations(self):
        for weights, activations, limit in (("bf16", "f32", "f32_gflops"), ("bf16", "bf16", "bf16_gflops"), ("q8_0", "int16", "int16_gops")):
            b = self.document("bench", TINY, "--weights-type", weights, "--activations", activations, "-p", "4", "-n", "0", "-t", "1", "-r", "1")
            if b["limits"][limit] > 0:
                self.assertEqual([r["limit"] for r in b["results"]], [limit])


@unittest.skipUnless(MODEL, "AQ_TEST_MODEL is not set")
class Chat(Case):
    def test_turns_share_the_cache(self):
        r = run("chat", MODEL, "--target", TARGET, "--json", "--temperature", "0", "-n", "6", stdin="Hello\nAnd again\n/exit\n")
        turns = [json.loads(x) for x in r.stdout.splitlines()]
        self.assertEqual((r.returncode, len(turns)), (0, 2), r.stderr.decode())
        self.assertLess(turns[1]["prefilled"], turns[0]["prefilled"], "the second turn fed the first one again")

    def test_ctrl_c_stops_the_answer_only(self):
        p = subprocess.Popen([PROGRAM, "chat", MODEL, "--target", TARGET, "--temperature", "0", "-n", "300"], stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdin.write(b"Tell me a very long story\n")
        p.stdin.flush()
        p.stdout.read(10)
        p.send_signal(signal.SIGINT)
        time.sleep(1)
        p.stdin.write(b"What is the capital of France?\n/exit\n")
        out, err = p.communicate(timeout=300)
        self.assertEqual((p.returncode, err), (0, b"(stopped)\n"))
        self.assertIn(b"Paris", out)

    def test_ctrl_c_of_run(self):
        p = subprocess.Popen([PROGRAM, "run", MODEL, "Tell me a very long story", "--target", TARGET, "--temperature", "0", "-n", "300"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(10)
        p.send_signal(signal.SIGINT)
        _, err = p.communicate(timeout=300)
        self.assertEqual((p.returncode, err), (130, b"aquila: error: interrupted\n"))

    def test_a_reader_that_leaves(self):
        p = subprocess.Popen([PROGRAM, "run", MODEL, "Tell me a very long story", "--target", TARGET, "--temperature", "0", "-n", "300"],
                             stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        p.stdout.read(10)
        p.stdout.close()
        err = p.stderr.read()
        self.assertEqual((p.wait(timeout=300), err), (1, b""))
        p.stderr.close()

    def test_commands(self):
        with tempfile.TemporaryDirectory() as d:
            path = os.path.join(d, "talk.json")
            r = run("chat", MODEL, "--target", TARGET, "--temperature", "0", "-n", "3",
                    stdin=f"/help\nHello\n/stats\n/save {path}\n/nothing\n/reset\n/exit\nnever\n")
            self.assertEqual(r.returncode, 0, r.stderr.decode())
            err = r.stderr.decode()
            self.assertIn("/system", err)
            self.assertIn("/nothing: no such command", err)
            with open(path) as f:
                self.assertEqual([m["role"] for m in json.load(f)], ["user", "assistant"])


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
