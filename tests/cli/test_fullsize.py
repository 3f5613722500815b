#!/usr/bin/env python3
"""test_fullsize.py: weights, memory and the cache from outside: what does not fit is told before any work, the cache is found again, shown, checked,
emptied and bounded, adapters come in by option. AQ_PROGRAM names the program. Sizes are small: only outlines of the large models are made."""
import json, os, re, subprocess, sys, tempfile, time, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")
TINY, IDS = "tests/data/tiny-hf", ("--prompt-ids", "1,17,300,42,511,7")


def run(*args, env=None):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, env={**e, "AQ_CACHE": "none", **(env or {})}, timeout=200)


class Fullsize(unittest.TestCase):
    def fine(self, *args, **more):
        r = run(*args, **more)
        self.assertEqual(r.returncode, 0, (args, r.stderr.decode()))
        return r.stdout.decode()

    def test_what_does_not_fit_is_told_at_once(self):
        start = time.time()
        r = run("run", "aquila2-70b:random", "--weights-type", "f32", "--prompt-ids", "1,2,3", "-n", "16")
        err = r.stderr.decode()
        if r.returncode == 0:
            self.skipTest("a machine of half a terabyte")
        self.assertEqual((r.returncode, r.stdout), (5, b""), err)
        self.assertRegex(err, r"^aquila: error: aquila2-70b:random: needs \d+\.\d\d GiB \(weights 2\d\d\.\d\d, session \d+\.\d\d with a context of \d+\): "
                              r"\d+\.\d\d GiB are free \(.*--memory-limit 0 tries all the same\)\n$")
        self.assertLess(time.time() - start, 100)
        r = run("score", TINY, *IDS, "--memory-limit", "100KiB")
        self.assertEqual(r.returncode, 5, r.stderr)

    def test_memory_is_exact(self):
        """What `memory` says of weights is the size of the packed file and of what is mapped."""
        with tempfile.TemporaryDirectory() as cache:
            for model, options in ((TINY, ()), (TINY, ("--weights-type", "q8_0")), (TINY, ("--layout", "as-stored")),
                                   (TINY, ("--lora", "tests/data/lora/peft", "--lora-mode", "dots"))):
                m = json.loads(self.fine("memory", model, *options, "--json", "--cache", cache))
                self.fine("run", model, *options, *IDS, "-n", "1", "--cache", cache)
                files = [f for f in json.loads(self.fine("show", "cache", "--json", "--cache", cache))["files"] if f["kind"] == "weights"]
                packed = m["weights_packed_bytes"]
                self.assertEqual(len(files), 1 if packed else 0)
                if packed:
                    self.assertTrue(packed <= files[0]["bytes"] <= packed + 4096 + 65536, (model, options, packed, files))
                self.assertGreater(m["free_bytes"], 1 << 20)
                self.fine("show", "cache", "--clear", "--cache", cache)

    def test_the_cache(self):
        with tempfile.TemporaryDirectory() as cache:
            first = self.fine("run", TINY, *IDS, "-n", "4", "--temperature", "0", "--cache", cache)
            r = run("run", TINY, *IDS, "-n", "4", "--temperature", "0", "--cache", cache, "-v")
            self.assertEqual(r.stdout.decode(), first)
            self.assertIn(b"(cached)", r.stderr)
            shown = json.loads(self.fine("show", "cache", "--json", "--cache", cache))
            self.assertEqual(sorted(f["kind"] for f in shown["files"]), ["plan", "weights"])
            self.assertEqual(shown["limit_bytes"], 64 << 30)
            self.assertIn("weights", self.fine("show", "cache", "--check", "--cache", cache))
            path = [f["path"] for f in shown["files"] if f["kind"] == "weights"][0]
            with open(path, "r+b") as f:
                f.seek(20000)
                byte = f.read(1)
                f.seek(20000)
                f.write(bytes([byte[0] ^ 1]))
            r = run("show", "cache", "--check", "--cache", cache)
            self.assertEqual(r.returncode, 6, r.stderr)
            self.assertIn(b"its bytes differ from those written", r.stderr)
            self.assertFalse(os.path.exists(path))
            self.assertEqual(self.fine("run", TINY, *IDS, "-n", "4", "--temperature", "0", "--cache", cache), first)
            self.fine("run", TINY, *IDS, "-n", "1", "--weights-type", "f32", "--cache", cache, env={"AQ_CACHE_LIMIT": "1000"})
            kinds = [f["kind"] for f in json.loads(self.fine("show", "cache", "--json", "--cache", cache))["files"]]
            self.assertEqual(sorted(kinds), ["plan", "weights"])  # the newest of each stays
            self.assertIn("2 files removed", self.fine("show", "cache", "--clear", "--cache", cache))
            self.assertEqual(json.loads(self.fine("show", "cache", "--json", "--cache", cache))["files"], [])
        r = run("score", TINY, *IDS, env={"AQ_CACHE_LIMIT": "much"})
        self.assertEqual((r.returncode, r.stderr.count(b"\n")), (2, 1))

    def test_a_disk_that_is_full(self):
        """No file may grow beyond 64 KiB: the weights are packed in memory, with a note."""
        with tempfile.TemporaryDirectory() as cache:
            self.fine("run", TINY, *IDS, "-n", "1", "--cache", cache)
            for f in os.listdir(os.path.join(cache, "weights")):
                os.remove(os.path.join(cache, "weights", f))
            r = subprocess.run(["sh", "-c", 'trap "" XFSZ; ulimit -f 128; exec "$0" "$@"', PROGRAM, "run", TINY, *IDS, "-n", "1", "--cache", cache], capture_output=True)
            self.assertEqual(r.returncode, 0, r.stderr)
            self.assertIn(b"packed weights are not kept: ", r.stderr)
            self.assertEqual([n for n in os.listdir(os.path.join(cache, "weights"))], [])

    def test_adapters(self):
        plain = self.fine("score", TINY, *IDS, "--target", "ref")
        dots = self.fine("score", TINY, *IDS, "--target", "ref", "--lora", "tests/data/lora/peft", "--lora-mode", "dots")
        merged = self.fine("score", TINY, *IDS, "--target", "ref", "--lora", "tests/data/lora/peft", "--weights-type", "f32")
        numbers = [float(re.search(r"perplexity ([\d.]+)", t)[1]) for t in (plain, dots, merged)]
        self.assertGreater(abs(numbers[0] / numbers[1] - 1), 0.01)
        self.assertLess(abs(numbers[2] / numbers[1] - 1), 1e-5)
        none = self.fine("score", TINY, *IDS, "--target", "ref", "--lora", "tests/data/lora/peft:0", "--lora-mode", "dots")
        self.assertEqual(none, plain)


if __name__ == "__main__":
    unittest.main(verbosity=1)
