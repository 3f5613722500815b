#!/usr/bin/env python3
"""test_score.py: `score`: what a text's tokens are worth is what `run` says of them when it writes them, to the last bit, in whatever parts they are
fed; texts beyond the context; same seed, same answer. AQ_PROGRAM names the program; AQ_TEST_TARGETS: as in test_answers.py."""
import json, math, os, random, shutil, struct, subprocess, sys, tempfile, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
TINY = "tests/data/tiny-hf"
TARGETS = (os.environ.get("AQ_TEST_TARGETS") or "ref cpu").split()
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def read_tensors(path):
    with open(path, "rb") as f:
        n, = struct.unpack("<Q", f.read(8))
        header, data = json.loads(f.read(n)), f.read()
    return {k: (v["dtype"], v["shape"], data[slice(*v["data_offsets"])]) for k, v in header.items() if k != "__metadata__"}


def write_tensors(path, tensors):
    header, data = {}, b""
    for name, (dtype, shape, content) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


class Score(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)

    def run_program(self, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
        return subprocess.run([PROGRAM, *map(str, args), "--cache", self.folder.name], capture_output=True, env=env, timeout=600)

    def document(self, *args):
        r = self.run_program(*args, "--json")
        self.assertEqual(r.returncode, 0, r.stderr.decode())
        return json.loads(r.stdout)

    def score(self, ids, *args):
        return self.document("score", TINY, "--prompt-ids", ",".join(map(str, ids)), *args)

    def test_what_was_written_is_worth_what_it_said(self):
        for target in TARGETS:
            for temperature in (0, 1):
                a = self.document("run", TINY, "--prompt-ids", "5,6,7", "-n", 60, "--temperature", temperature, "--seed", 3, "--target", target)
                again = self.document("run", TINY, "--prompt-ids", "5,6,7", "-n", 60, "--temperature", temperature, "--seed", 3, "--target", target, "-t", 1)
                self.assertEqual((a["tokens"], a["logprobs"]), (again["tokens"], again["logprobs"]), "same seed, other threads")
                self.assertTrue(all(x < 0 for x in a["logprobs"]))
                s = self.score([5, 6, 7] + a["tokens"], "--target", target)
                self.assertEqual(s["logprobs"][3:], a["logprobs"], f"{target}: temperature {temperature}")
                self.assertIsNone(s["logprobs"][0])
                self.assertAlmostEqual(s["perplexity"], math.exp(-sum(s["logprobs"][1:]) / (len(s["tokens"]) - 1)), places=9)

    @unittest.skipUnless("cpu" in TARGETS, "cpu is not among the targets")
    def test_parts_change_no_bit(self):
        r = random.Random(5)
        ids = [r.randrange(512) for _ in range(250)]
        want = self.score(ids, "--top-logits", 5)
        for part in (1, 7, 64, 128, 300):
            self.assertEqual(self.score(ids, "--top-logits", 5, "--batch", part), want, f"--batch {part}")

    def test_windows(self):
        target = TARGETS[-1]
        r = random.Random(6)
        ids = [r.randrange(512) for _ in range(97)]
        for context, stride in ((40, 10), (40, 39), (64, 1), (97, 5), (500, 7)):
            got = self.score(ids, "--target", target, "--context", context, "--stride", stride, "--top-logits", 3)
            want, begin = self.score(ids[:context], "--target", target)["logprobs"], 0
            while len(want) < len(ids):
                begin += stride
                window = self.score(ids[begin:begin + context], "--target", target)
                want += window["logprobs"][len(want) - begin:]
                if begin > 3 * stride and stride < 5:   # enough of the many
                    break
            self.assertEqual(got["logprobs"][:len(want)], want, (context, stride))
            self.assertEqual(len(got["logprobs"]), len(ids))
            self.assertEqual(len(got["top_logits"]), 3)

    def test_adapters_that_bring_the_models_own_embedding(self):
        """PEFT's save_embedding_layers: embedding and output beside the adapter; with other values, or a norm's, they would be left out wrongly."""
        adapter, base = read_tensors("tests/data/lora/peft/adapter_model.safetensors"), read_tensors(f"{TINY}/model.safetensors")
        folder = os.path.join(self.folder.name, "adapter")
        want = self.score([1, 17, 300], "--lora", "tests/data/lora/peft", "--target", "ref", "--top-logits", 5)
        own = {f"base_model.model.{n}": base[n] for n in ("model.embed_tokens.weight", "lm_head.weight")}
        other = {n: (d, s, bytes(c[:-1]) + bytes([c[-1] ^ 1])) for n, (d, s, c) in own.items()}
        norm = {"base_model.model.model.norm.weight": (base["model.norm.weight"][:2]) + (bytes(len(base["model.norm.weight"][2])),)}
        for extra, status in ((own, 0), (other, 3), (norm, 3)):
            shutil.copytree("tests/data/lora/peft", folder, dirs_exist_ok=True)
            write_tensors(os.path.join(folder, "adapter_model.safetensors"), {**adapter, **extra})
            if status:
                r = self.run_program("score", TINY, "--prompt-ids", "1", "--target", "ref", "--lora", folder)
                self.assertEqual((r.returncode, b"replaces a weight of the model" in r.stderr, r.stderr.count(b"\n")), (3, True, 1), r.stderr)
            else:
                self.assertEqual(self.score([1, 17, 300], "--lora", folder, "--target", "ref", "--top-logits", 5), want)

    def test_refusals(self):
        for status, message, args in ((3, "the text has 5 tokens: expected at most 4, the context, or --stride N", ["--context", 4]),
                                      (2, "--stride 4: expected less than the context of 4", ["--context", 4, "--stride", 4]),
                                      (2, "stride", ["--stride", 0])):
            r = self.run_program("score", TINY, "--prompt-ids", "1,2,3,4,5", *args)
            self.assertEqual((r.returncode, message in r.stderr.decode(), r.stderr.count(b"\n")), (status, True, 1), r.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=0)
