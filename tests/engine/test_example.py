#!/usr/bin/env python3
"""test_example.py: the two public headers from outside: example.c, compiled as C99 with -pedantic, gives what the program gives for the same text,
and says what the program says where it is refused. AQ_EXAMPLE names it."""
import os, subprocess, sys, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
EXAMPLE = os.environ.get("AQ_EXAMPLE") or os.path.join(os.path.dirname(PROGRAM), "example_engine")
MODEL = os.environ.get("AQ_TEST_MODEL")
if not os.access(EXAMPLE, os.X_OK):
    print(f"{EXAMPLE}: not built (it is where the tests are): nothing to run")
    sys.exit(0)


def run(*args):
    env = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return subprocess.run(args, capture_output=True, env={**env, "AQ_CACHE": "none"}, timeout=300)


class Example(unittest.TestCase):
    def same(self, model, text, target):
        a = run(EXAMPLE, model, text, target)
        b = run(PROGRAM, "run", model, text, "--template", "none", "--temperature", "0", "-n", "16", "--target", target)
        self.assertEqual((a.returncode, a.stdout), (b.returncode, b.stdout), (a.stderr, b.stderr))
        return a.stdout

    def test_small(self):
        self.assertEqual(self.same("tests/data/micro_gguf.bin", "b", "ref"), b"b" * 16 + b"\n")
        self.assertEqual(self.same("tests/data/micro_gguf.bin", "ab", "ref"), b"\n")  # its end comes first

    @unittest.skipUnless(MODEL, "no model")
    def test_real(self):
        self.assertIn(b" ", self.same(MODEL, "Once upon a time", "cpu"))

    def test_refused(self):
        r = run(EXAMPLE, "nowhere.gguf", "x")
        self.assertEqual(r.returncode, 3)
        self.assertIn(b"nowhere.gguf: no such file or folder", r.stderr)
        r = run(EXAMPLE, "tiny:random", "x", "ref")
        self.assertEqual(r.returncode, 3)
        self.assertIn(b"has no tokenizer", r.stderr)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
