#!/usr/bin/env python3
"""test_json.py: `--json` of every verb gives one document with exactly the keys of the table below: programs rely on them. A key that is added
stands here too; one that is renamed or lost is a broken promise. AQ_PROGRAM names the program."""
import json, os, subprocess, sys, tempfile, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")

AQ, GGUF, RANDOM = "models/aquila/aquila.aq", "tests/data/micro_gguf.bin", "tiny:random"

# Shapes: a dict has these keys and no others, a list this element (it may be empty), "" is a leaf, ANY whatever stands there.
ANY = object()
TIMINGS = dict.fromkeys("load_ms compile_ms prefill_ms decode_ms prefill_tokens_per_s decode_tokens_per_s first_token_ms".split(), "")
MEMORY = dict.fromkeys("peak_bytes weights_bytes plan_bytes".split(), "")
ANSWER = {"text": "", "tokens": [""], "logprobs": [""], "prompt_tokens": [""], "model_input": "", "stop_reason": ""}
ONE_OF_MANY = {"line": "", **ANSWER, "timings": {"prefill_ms": "", "decode_ms": ""}}
MANY = {"load_ms": "", "compile_ms": "", "answers_ms": "", "steps": "", "prompt_tokens": "", "new_tokens": "", "tokens_per_s": "", "new_tokens_per_s": ""}
TURN = dict.fromkeys("text stop_reason tokens prompt_tokens prefilled left_out prefill_tokens_per_s decode_tokens_per_s".split(), "")
CONFIG = dict.fromkeys("name family dim layers heads kv_heads head_dim ffn vocab max_length bos eos pad norm_eps rope_theta rope_scaling rope_factor "
                       "tied".split(), "")
CONFIG["ends"] = [""]
MODEL = {"path": "", "config": CONFIG, "tokenizer": "", "chat_template": "", "template": "", "parameters": "", "bytes": "", "n_tensors": ""}
TENSOR = {"name": "", "file_name": "", "dtype": "", "shape": [""], "bytes": ""}
KINDS = "cache activations local tables session weights_packed weights_mapped plan total free".split()
MEMORY_OF = {"context": "", "sequences": "", "batch": "", "threads": "", **{k + "_bytes": "" for k in KINDS}}
LIMITS = dict.fromkeys("read_gb_per_s f32_gflops bf16_gflops int16_gops int8_gops".split(), "")
RATE = dict.fromkeys("n_prompt n_gen depth threads tokens_per_s stddev share_of_limit limit".split(), "")
PLAN_STEP = dict.fromkeys("kernel layer phases local_bytes schedule sum_class provenance".split(), "")
PLAN = {"path": "", "target": "", "hash": "", "options": "", "model": "", "manifest": "", "bytes": "", "code_bytes": "", "weights": "",
        "weights_bytes": "", "graphs": [{"name": "", "variants": [{"t_lo": "", "t_hi": "", "buffers": "", "steps": [PLAN_STEP]}]}]}
KERNEL = dict.fromkeys("kernel t_lo t_hi steps phases local_bytes sum_class schedule provenance".split(), "")
COMPILED = dict.fromkeys("path target bytes kernels steps buffers context memory_bytes passes_ms lower_ms emit_ms".split(), "")
COSTS = dict.fromkeys("ops bytes bytes_unfused bytes_saved flops roofline_us".split(), "")
PASS = dict.fromkeys("pass nodes_before nodes_after ms".split(), "")
GRAPH = {"graph": "", "kernels": [{"kernel": "", "uses": "", "uses_per_layer": "", "computes": "", "yields": "", "bound_by": "", **COSTS}],
         "edges": [dict.fromkeys("value maker reader fused why count".split(), "")], "total": COSTS, "layers": "", "launches": "", "kernels_per_layer": "",
         "kernels_outside_layers": ""}
EXPLAIN = {"target": "", "read_gb_per_s": "", "gflops": "", "figures": "", "sizes": "", "graphs": [GRAPH], "passes": [PASS]}
RAN = {"ran": "", "target": "", "sizes": "", "threads": "", "outputs": [{"name": "", "dtype": "", "shape": [""], "norm": ""}]}
COMPARED = {**RAN, "outputs": [{**RAN["outputs"][0], "relative_l2": ""}], "relative_l2": "", "tolerance": "", "ok": ""}
TIMED = {"limits": dict.fromkeys("read_gb_per_s f32_gflops int16_gops".split(), ""), "ms": "",
         "kernels": [dict.fromkeys("kernel computes uses us gb_per_s gflops share_of_limit".split(), "")]}
VERB = {"verb": "", "operands": "", "summary": "", "details": "",
        "options": [{"name": "", "letter": "", "argument": "", "default": "", "meaning": ""}]}
DOCTOR = {"cpu": dict.fromkeys("name features target cores".split(), ""), "memory_bytes": "", "libraries": [ANY]}

# (arguments, standard input, shape); $D is a folder of the test's own. "code": compiles, so LLVM has to be there.
SAID = [
    (["run", RANDOM, "--prompt-ids", "1,2", "-n", "2"], "", {**ANSWER, "timings": TIMINGS, "memory": MEMORY}),
    (["run", GGUF, "hi", "-n", "0", "--template", "chatml"], "", {**ANSWER, "timings": TIMINGS, "memory": MEMORY}),
    (["run", GGUF, "--prompts-file", "-", "-n", "2", "--template", "none"], "a\nb\n", {"answers": [ONE_OF_MANY], "timings": MANY, "memory": MEMORY}),
    (["chat", GGUF, "-n", "2", "--template", "chatml"], "hi\n", TURN),
    (["score", RANDOM, "--prompt-ids", "1,2,3", "--top-logits", "2"], "",
     {"tokens": [""], "logprobs": [""], "perplexity": "", "top_logits": [{"id": "", "logit": ""}]}),
    (["compile", RANDOM, "-o", "$D/p.aqp"], "code", COMPILED),
    (["convert", RANDOM, "-o", "$D/m.gguf"], "", {"output": "", "bytes": "", "files": [""], "types": ANY, "notes": [""]}),
    (["memory", RANDOM], "code", MEMORY_OF),
    (["memory", RANDOM, "--fit", "64MiB"], "code", MEMORY_OF),
    (["bench", RANDOM, "-p", "4", "-n", "2", "-r", "1", "-t", "1"], "code", {"cpu": "", "limits": LIMITS, "results": [RATE]}),
    (["tokenize", GGUF], "a", {"ids": [""]}),
    (["tokenize", GGUF, "--decode"], "[1, 2]", {"text": ""}),
    (["tokenize", GGUF, "--stats"], "a", {"texts": [{"file": "", "texts": "", "bytes": "", "tokenizers": [{"model": "", "tokens": "", "tokens_per_text": ""}]}]}),
    (["opt", AQ, "--config", "tiny"], "", {"passes": [PASS], "text": ""}),
    (["opt", AQ, "--config", "tiny", "--verify"], "", {"passes": [PASS], "verified": "", "text": ""}),
    (["opt", AQ, "--config", "tiny", "--explain", "--target", "cpu:v4"], "", EXPLAIN),
    (["exec", AQ, "--config", "tiny", "--target", "ref"], "", RAN),
    (["exec", AQ, "--config", "tiny", "--check", "ref"], "code", COMPARED),
    (["exec", AQ, "--config", "tiny", "--check", "ref", "--time", "-r", "1"], "code", {**COMPARED, **TIMED}),
    (["show", RANDOM], "", MODEL),
    (["show", GGUF, "--tensors"], "", {**MODEL, "tensors": [TENSOR]}),
    (["show", "$D/p.aqp"], "code", PLAN),
    (["show", "kernels", "$D/p.aqp"], "code", [KERNEL]),
    (["show", "cache"], "", {"folder": "", "bytes": "", "limit_bytes": "", "files": [{"path": "", "kind": "", "bytes": "", "used": ""}]}),
    (["show", "cache", "--clear"], "", {"removed": "", "bytes": ""}),
    (["show", "tables"], "", [{"table": "", "holds": ""}]),
    (["show", "devices"], "", [dict.fromkeys("device name target threads memory meaning".split(), "")]),
    (["show", "switches"], "", [{"switch": "", "default": "", "meaning": ""}]),
    (["doctor"], "", DOCTOR),
    (["help"], "", [VERB]),
    (["help", "run"], "", VERB),
    (["version"], "", {"version": "", "plan_version": ""}),
]
PLAIN = ["completion", "man"]  # a script and a page


def run(args, stdin, folder, *more):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    env["AQ_CACHE"] = os.path.join(folder, "cache")
    return subprocess.run([PROGRAM, *(a.replace("$D", folder) for a in args), *more], input=stdin.encode(), capture_output=True, env=env, timeout=120)


class Json(unittest.TestCase):
    def fits(self, got, want, place):
        if want is ANY:
            return
        if isinstance(want, dict):
            self.assertIsInstance(got, dict, place)
            self.assertEqual(sorted(got), sorted(want), place)
            for key in want:
                self.fits(got[key], want[key], f"{place}.{key}")
        elif isinstance(want, list):
            self.assertIsInstance(got, list, place)
            for x in got:
                self.fits(x, want[0], place + "[]")
        else:
            self.assertNotIsInstance(got, (dict, list), place)

    def test_every_verb(self):
        with tempfile.TemporaryDirectory() as d:
            libraries = json.loads(run(["doctor"], "", d, "--json").stdout)["libraries"]
            for args, stdin, shape in SAID:
                if stdin == "code" and not libraries[0]["found"]:
                    continue
                r = run(args, "" if stdin == "code" else stdin, d, "--json")
                self.assertEqual(r.returncode, 0, (args, r.stderr))
                self.fits(json.loads(r.stdout.decode()), shape, " ".join(args))

    def test_no_verb_is_left_out(self):
        with tempfile.TemporaryDirectory() as d:
            verbs = {v["verb"] for v in json.loads(run(["help"], "", d, "--json").stdout)}
            self.assertEqual(verbs, {args[0] for args, _, _ in SAID} | set(PLAIN))

    def test_lines(self):
        """The two that give a document a line."""
        with tempfile.TemporaryDirectory() as d:
            r = run(["run", GGUF, "--prompts-file", "-", "-n", "2", "--template", "none", "--stream-json"], "a\nb\n", d)
            lines = [json.loads(x) for x in r.stdout.decode().splitlines()]
            self.assertEqual(sorted(x["line"] for x in lines), [1, 2])
            for x in lines:
                self.fits(x, ONE_OF_MANY, "--stream-json")
            r = run(["chat", GGUF, "-n", "1", "--template", "chatml"], "a\n/stats\n", d, "--json")
            turn, stats = (json.loads(x) for x in r.stdout.decode().splitlines())
            self.fits(turn, TURN, "chat")
            self.assertEqual(list(stats), ["stats"])
            r = run(["chat", GGUF, "-n", "1", "--template", "chatml", "--context", "32"], "/nosuch\n" + 200 * "a" + "\na\n", d, "--json")
            lines = [json.loads(x) for x in r.stdout.decode().splitlines()]
            self.assertEqual([list(x)[0] for x in lines], ["error", "error", "text"])      # one for each
            self.assertEqual(r.stderr.decode().count("aquila: error: "), 2)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
