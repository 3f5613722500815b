#!/usr/bin/env python3
"""test_edits.py: what compile --print gives can be edited and given back: schedules, nests, the model's text, regions by a nest. AQ_PROGRAM names it."""
import json, os, re, subprocess, sys, tempfile, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
MODEL = "tests/data/micro_gguf.bin"
IDS = "1,5,0,2,4,3"


def run(*args):
    return subprocess.run([PROGRAM, *args], capture_output=True, text=True, timeout=300, env={**os.environ, "AQ_CACHE": "none"})


class Edits(unittest.TestCase):
    def setUp(self):
        t = tempfile.TemporaryDirectory()
        self.addCleanup(t.cleanup)
        self.folder = t.name

    def file(self, text, name="edits"):
        path = os.path.join(self.folder, name)
        with open(path, "w", encoding="utf-8") as f:
            f.write(text)
        return path

    def printed(self, what):
        r = run("compile", MODEL, "--print", what)
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout

    def scores(self, *args):
        r = run("score", MODEL, "--prompt-ids", IDS, "--json", *args)
        self.assertEqual((r.returncode, r.stderr), (0, ""), r.stderr)
        return json.loads(r.stdout)["logprobs"]

    def refused(self, status, says, *args):
        r = run("score", MODEL, "--prompt-ids", IDS, *args)
        self.assertEqual((r.returncode, r.stdout), (status, ""))
        self.assertEqual(r.stderr.count("\n"), 1)
        self.assertIn(says, r.stderr)

    def test_what_is_printed_is_taken_back(self):
        plain = self.scores()
        for what in ("schedules", "nests"):
            self.assertEqual(self.scores("--edits", self.file(self.printed(what))), plain)
        self.assertEqual(self.scores("--model-text", "models/aquila/aquila.aq"), plain)

    def test_an_edit_takes_effect(self):
        plain, text = self.scores(), self.printed("schedules")
        kernel = re.search(r"schedule (t8\.\d+\.rms\.2dot\.silu) \{", text).group(1)
        path = self.file(f"# one kernel, narrower\nschedule {kernel} {{ t 2; n 16 lanes; d 8 }}\n")
        for a, b in zip(self.scores("--edits", path)[1:], plain[1:]):
            self.assertAlmostEqual(a, b, places=4)
        plan = os.path.join(self.folder, "p.aqp")
        self.assertEqual(run("compile", MODEL, "-o", plan, "--edits", path).returncode, 0)
        self.assertRegex(run("show", plan, "-v").stdout, re.escape(kernel) + r".*\[edits\]")
        nests = self.printed("nests")
        wrong = re.sub(r"(nest t8\.\d+\.rms\.2dot\.silu.*?)silu\(", r"\1sigmoid(", nests, count=1, flags=re.S)
        self.assertNotEqual(self.scores("--edits", self.file(wrong)), plain)

    def test_fused_text_is_the_file_of_fusion_choices(self):
        """What the passes made is a model's text; one of its regions is carried out by a nest that stands there too."""
        r = run("opt", "models/aquila/aquila.aq", "--config", MODEL, "--weights-type", "as-stored", "--passes=expand,canon,cse,dce,quant,fuse")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        plain, text = self.scores(), r.stdout
        self.assertEqual(self.scores("--model-text", self.file(text, "fused.aq")), plain)
        head = re.search(r"(?ms)fused\([^)]*%want[^)]*\) \{.*?^    \}\n", text).group(0)
        by = text.replace(head, head.rstrip() + " by nest @head\n").rstrip()[:-1]
        self.refused(3, "expected a nest of that name", "--model-text", self.file(by + "}\n", "by.aq"))
        nest = re.search(r"(?ms)^nest t8\.\d+\.rows\.rms\.dot(\(.*?^\}\n)", run("compile", MODEL, "--print", "nests", "--model-text", self.file(text, "fused.aq")).stdout)
        own = self.file(by + "  nest head" + nest.group(1) + "}\n", "by.aq")
        self.assertEqual(self.scores("--model-text", own), plain)
        other = self.file(by + "  nest head" + nest.group(1).replace("rsqrt", "sqrt") + "}\n", "by.aq")
        self.assertNotEqual(self.scores("--model-text", other), plain)

    def test_a_schedule_of_the_text_is_its_own_regions_alone(self):
        """Equal regions share a kernel, but not where one of them says how: layer 1 does, layer 0 does not."""
        r = run("opt", "models/aquila/aquila.aq", "--config", "tiny:random", "--weights-type", "as-stored", "--passes=expand,canon,cse,dce,quant,fuse")
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        head = re.search(r"(?ms)fused\([^)]*@w3\.1\) \{.*?^      \}\n", r.stdout).group(0)
        path, plan = self.file(r.stdout.replace(head, head.rstrip() + " schedule cpu { t 2; n 16 lanes; d 8 }\n"), "own.aq"), os.path.join(self.folder, "p.aqp")
        c = run("compile", "tiny:random", "-o", plan, "--model-text", path)
        self.assertEqual((c.returncode, c.stderr), (0, ""))
        steps = re.findall(r"(?m)^ +t1\.\d+\.rms\.2dot\.silu +layer +(\d).*\[(.*)\]$", run("show", plan, "-v").stdout)
        self.assertEqual(steps, [("0", "default"), ("1", "model text")])
        for target, word, why in (("cpu:v3", "cpu.v3", ""), ("cpu:v4+vnni", "cpu.v3", ""), ("cpu:v4+bf16+vnni", "cpu.v4.vnni", ""), ("cpu:v3", "cpu.v4", "does not hold for cpu:v3"),
                                  ("cpu:v4+bf16", "cpu.v4.vnni", "does not hold for cpu:v4+bf16"), ("cpu:v4", "ref", "does not hold for cpu:v4"),
                                  ("cpu:v4", "cpu.v", "no such target"), ("cpu:v4", "cpu.v44", "no such target"), ("cpu:v4", "cuda.sm90a", "no such target")):
            own = self.file(r.stdout.replace(head, head.rstrip() + f" schedule {word} {{ t 2; n 16 lanes; d 8 }}\n"), "own.aq")
            c = run("compile", "tiny:random", "-o", plan, "--model-text", own, "--target", target)
            self.assertEqual((c.returncode, "own.aq: schedule " + word + ": " + why in c.stderr or f"own.aq: schedule {word} {why}" in c.stderr), (3, True) if why else (0, False), c.stderr)

    def test_refusals(self):
        text = self.printed("schedules")
        self.refused(3, "edits: line 1: no kernel is called t1.77", "--edits", self.file("schedule t1.77 { t 1 }"))
        self.refused(3, "edits:2:", "--edits", self.file("\nnonsense"))
        self.refused(3, "has no end", "--edits", self.file("schedule t1.00.rows { t 1 # }"))
        self.refused(3, "a second schedule", "--edits", self.file(text + text))
        self.refused(3, "edits:3:", "--edits", self.file("\n\n" + text.replace("r 64", "r ?", 1)))
        self.refused(3, "mark for a GPU", "--edits", self.file(re.sub(r"(t1\.\d+\.dot\.add \{) n 16 tiles", r"\1 n 32 tiles 16 warps", text)))
        nests = self.printed("nests")
        self.refused(3, "argument 2 is out %tok: i32[T]: expected in %tok: i32[T]", "--edits", self.file(nests.replace("in %tok", "out %tok", 1)))
        self.refused(2, "ref interprets", "--target", "ref", "--edits", self.file(text))
        self.refused(3, "nowhere", "--edits", "/nowhere")
        self.assertEqual(run("compile", MODEL).returncode, 2)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
