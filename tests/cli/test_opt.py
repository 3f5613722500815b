#!/usr/bin/env python3
"""test_opt.py: opt and exec from outside: what is printed is read again, explanations count kernels, exec agrees with ref, files in and out."""
import json, os, random, struct, subprocess, sys, tempfile, unittest

PROGRAM = os.environ.get("AQ_PROGRAM", "build/release/aquila")
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")
MODEL = "models/aquila"
GRAPH = """model m {
  sym T in 1..64
  weight @g: f32[64]
  weight @w: q4_0[96, 64]
  graph first(%x: f32[T, 64]) -> f32[T, 96] { return matmul (rmsnorm %x, @g {eps=1e-5}), @w }
  graph second(%x: f32[T, 64], %y: f32[T, 64]) -> f32[T, 64] { %z = add (mul %x, 2), %y return %z }
}
"""
NEST = """# rows times a vector
nest scale(in %x: f32[T, 32], in @g: f32[32], out %y: f32[T, 32]) {
  axis t: T, e: 32
  phase { tiles t by 4 { tiles e by 16 lanes 16 { store %y[t, e] = mul(%x[t, e], @g[e]) } } }
}
"""


def run(*args, stdin=""):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return subprocess.run([PROGRAM, *args], input=stdin.encode() if isinstance(stdin, str) else stdin, capture_output=True, env=e, timeout=300)


def npy(shape, values, kind="<f4"):
    head = ("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }" % (kind, "".join("%d, " % d for d in shape))).encode()
    head += b" " * (63 - (10 + len(head)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + struct.pack("<%d%s" % (len(values), "f" if kind == "<f4" else "i"), *values)


def numbers(path):
    with open(path, "rb") as f:
        raw = f.read()
    n = struct.unpack("<H", raw[8:10])[0]
    return struct.unpack("<%df" % ((len(raw) - 10 - n) // 4), raw[10 + n:])


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def path(self, name, content=None):
        p = os.path.join(self.folder.name, name)
        if content is not None:
            with open(p, "wb") as f:
                f.write(content.encode() if isinstance(content, str) else content)
        return p

    def fine(self, *args, **more):
        r = run(*args, **more)
        self.assertEqual(r.returncode, 0, (args, r.stderr.decode()))
        return r.stdout.decode()

    def refused(self, status, message, *args, **more):
        r = run(*args, **more)
        err = r.stderr.decode()
        self.assertEqual(r.returncode, status, (args, err))
        self.assertTrue(err.startswith("aquila: error: ") and err.count("\n") == 1, err)
        self.assertIn(message, err)
        self.assertEqual(r.stdout, b"")


class Opt(Case):
    def test_five_kernels_a_layer(self):
        """The promise: at most five kernels a layer, plus embedding and head, for one token and for many, whatever the weights are."""
        for config in ["smollm2-135m", "tiny", "tiny-mha", "tiny-tied", "aquila-7b", "aquila2-34b"]:
            for tokens in ["1", "512"]:
                for kind in ["bf16", "q4_1", "q8_0", "f32"]:
                    e = json.loads(self.fine("opt", MODEL, "--config", config, "--explain", "--json", "--tokens", tokens, "--weights-type", kind, "--target", "cpu:v4+vnni"))
                    g = e["graphs"][0]
                    self.assertLessEqual(g["kernels_per_layer"], 5, (config, tokens, kind))
                    self.assertEqual(g["kernels_outside_layers"], 2)
                    self.assertEqual(g["launches"], sum(k["uses"] for k in g["kernels"]))
                    self.assertAlmostEqual(g["total"]["bytes"], sum(k["bytes"] * k["uses"] for k in g["kernels"]), delta=1)
                    self.assertGreater(g["total"]["bytes_saved"], 0)
                    self.assertTrue(all(k["roofline_us"] > 0 and k["bound_by"] for k in g["kernels"]))
                    self.assertTrue(any(not x["fused"] for x in g["edges"]) and all(x["why"] for x in g["edges"]))

    def test_table_for_people(self):
        text = self.fine("opt", MODEL, "--config", "tiny", "--explain", "--target", "cpu:v4")
        self.assertIn("step: 5 kernels a layer, 2 layers, 2 outside them; 12 launches of 7 kernels", text)
        self.assertIn("several kernels read it", text)
        self.assertIn("measured now", self.fine("opt", MODEL, "--config", "tiny", "--explain", "--target", "cpu"))

    def test_what_is_printed_is_read_again(self):
        for passes in ["none", "expand", "expand,canon", "expand,canon,cse,dce,quant", "expand,canon,quant,fuse", None]:
            more = ["--passes", passes] if passes else []
            text = self.fine("opt", MODEL, "--config", "tiny", "--weights-type", "q4_0", *more)
            self.assertEqual(text, self.fine("opt", "-", "--passes", "none", stdin=text))
        whole = self.fine("opt", MODEL, "--config", "tiny")
        half = self.fine("opt", MODEL, "--config", "tiny", "--passes", "expand,canon,cse,dce,quant")
        self.assertEqual(whole, self.fine("opt", "-", "--passes", "fuse,cost,layout,order,buffers", stdin=half))

    def test_print_after_and_output(self):
        out = self.path("o.aq")
        after = self.fine("opt", MODEL, "--config", "tiny", "--print-after", "canon", "-o", out)
        self.assertTrue(after.startswith("# after canon\nmodel aquila {"))
        self.assertEqual(after.split("\n", 1)[1], self.fine("opt", "-", "--passes", "none", stdin=after))
        with open(out) as f:
            self.assertEqual(f.read(), self.fine("opt", MODEL, "--config", "tiny"))
        self.assertEqual(self.fine("opt", MODEL, "--config", "tiny", "--print-after", "all").count("# after "), 10)

    def test_verify(self):
        for config in ["tiny", "smollm2-135m", "aquila2-34b"]:
            for kind in ["bf16", "q4_1"]:
                r = run("opt", MODEL, "--config", config, "--verify", "--weights-type", kind, "-o", self.path("x"))
                self.assertEqual(r.returncode, 0, r.stderr)
                self.assertIn(b"verified", r.stderr)

    def test_types_as_stored(self):
        text = self.fine("opt", MODEL, "--config", "tiny:random:3", "--weights-type", "as-stored", "--verify", "-q")
        self.assertIn("weight @wq.0: bf16[64, 64]", text)

    def test_graphviz(self):
        text = self.fine("opt", "-", "--dot", stdin=GRAPH)
        self.assertEqual(text.count("digraph"), 2)
        self.assertIn("fused", text)

    def test_refusals(self):
        self.refused(3, "no such file", "opt", self.path("none.aq"))
        self.refused(3, "expected", "opt", MODEL)
        self.refused(2, "no pass", "opt", MODEL, "--config", "tiny", "--passes", "expand,fold")
        self.refused(2, "expected quant before it", "opt", MODEL, "--config", "tiny", "--passes", "expand,canon,fuse")
        self.refused(2, "NAME=NUMBER", "opt", MODEL, "--config", "tiny", "--bind", "L")
        self.refused(2, "no symbol of that name", "opt", MODEL, "--config", "tiny", "--bind", "QQ=3")
        self.refused(2, "--weights-type", "opt", MODEL, "--config", "tiny", "--weights-type", "i32")
        self.refused(3, "", "opt", MODEL, "--config", "tiny", "--weights-type", "as-stored")
        self.refused(2, "as-stored", "opt", "-", "--weights-type", "as-stored", stdin=GRAPH)
        self.refused(2, "expected one of them", "opt", MODEL, "--config", "tiny", "--dot", "--explain")
        self.refused(2, "in no region", "opt", MODEL, "--config", "tiny", "--explain", "--passes", "expand")

    def test_hostile_text(self):
        """Cut and changed texts: exit 0 or one line and 2 or 3, nothing else."""
        text = self.fine("opt", MODEL, "--config", "tiny", "--bind", "L=1").encode()
        r = random.Random(5)
        for i in range(60):
            bad = bytearray(text[:r.randrange(len(text))] if i % 2 else text)
            for _ in range(r.randrange(4)):
                if bad:
                    bad[r.randrange(len(bad))] = r.choice(b"0123456789{}%@$,[]*/ \n\0\xffaT")
            for verb in [["opt", "-"], ["exec", "-", "--target", "ref"]]:
                p = run(*verb, stdin=bytes(bad))
                self.assertIn(p.returncode, (0, 2, 3), (bytes(bad), p.stderr))
                self.assertEqual(p.stderr.count(b"\n"), 0 if p.returncode == 0 else 1, p.stderr)


class Exec(Case):
    def check(self, *args, **more):
        e = json.loads(self.fine("exec", *args, "--check", "ref", "--json", **more))
        self.assertTrue(e["ok"] and e["relative_l2"] <= e["tolerance"], e)
        return e

    def test_whole_models(self):
        for kind in ["bf16", "f32", "q4_1", "q8_0"]:
            for sizes in [["T=1"], ["T=7", "B=2"], ["T=33"]]:
                e = self.check(MODEL, "--config", "tiny", "--weights-type", kind, *[x for s in sizes for x in ("--bind", s)])
                self.assertEqual([o["name"] for o in e["outputs"]], ["%0", "$k.0", "$k.1", "$v.0", "$v.1"])

    def test_kernels_one_by_one(self):
        for k in range(7):
            e = self.check(MODEL, "--config", "smollm2-135m", "--weights-type", "q4_0", "--kernel", str(k), "--bind", "T=3", "--depth", "100")
            self.assertEqual(e["ran"], f"kernel {k}")
        self.refused(2, "expected 0 to 6", "exec", MODEL, "--config", "tiny", "--kernel", "7")

    def test_graphs_by_name_and_threads(self):
        self.assertEqual(self.check("-", stdin=GRAPH)["ran"], "graph first")
        self.assertEqual(self.check("-", "--graph", "second", "-t", "1", stdin=GRAPH)["ran"], "graph second")
        self.refused(2, "no graph of that name", "exec", "-", "--graph", "third", stdin=GRAPH)

    def test_files_in_and_out(self):
        x = [i / 8 for i in range(128)]
        y = [float(i % 5) for i in range(128)]
        a, b, o = self.path("x.npy", npy([2, 64], x)), self.path("y.npy", npy([2, 64], y)), self.path("z.npy")
        for target in ["ref", "cpu"]:
            out = self.fine("exec", "-", "--graph", "second", "--target", target, "--in", "%x=" + a, "--in", "%y=" + b, "--out", "%z=" + o, stdin=GRAPH)
            self.assertIn("T=2", out)
            self.assertEqual(list(numbers(o)), [2 * p + q for p, q in zip(x, y)])
        self.refused(3, "expected 64", "exec", "-", "--in", "%x=" + self.path("b.npy", npy([2, 63], x[:126])), stdin=GRAPH)
        self.refused(3, "rank", "exec", "-", "--in", "%x=" + self.path("b.npy", npy([128], x)), stdin=GRAPH)
        self.refused(3, "T of 1 to 64", "exec", "-", "--in", "%x=" + self.path("b.npy", npy([65, 64], [0.5] * 65 * 64)), stdin=GRAPH)
        self.refused(2, "none of the inputs", "exec", "-", "--in", "%q=" + a, stdin=GRAPH)
        self.refused(2, "none of the results", "exec", "-", "--out", "%q=" + o, stdin=GRAPH)
        self.refused(3, "", "exec", "-", "--in", "%x=" + self.path("c.npy", b"\x93NUMPY junk"), stdin=GRAPH)

    def test_token_ids_out_of_range(self):
        """Ids from a file may be anything: rows of no table are row 0, on both sides."""
        ids = self.path("t.npy", npy([3], [-1, 2 ** 31 - 1, 5], "<i4"))
        want = self.path("w.npy", npy([1], [2], "<i4"))
        self.check(MODEL, "--config", "tiny", "--in", "%tok=" + ids, "--in", "%want=" + want)

    def test_a_failed_check_says_so(self):
        r = run("exec", MODEL, "--config", "tiny", "--check", "ref", "--weights-type", "q4_1", "--activations", "int8", "--tolerance", "0")
        self.assertEqual(r.returncode, 6)
        self.assertIn(b"from ref by relative L2: expected at most 0", r.stderr)

    def test_same_seed_same_bits(self):
        a = [self.fine("exec", MODEL, "--config", "tiny", "--seed", "9", "-t", t).split("\n", 1)[1] for t in ("1", "2", "2")]
        self.assertEqual(a[0], a[1])
        self.assertEqual(a[1], a[2])
        self.assertNotEqual(a[0], self.fine("exec", MODEL, "--config", "tiny", "--seed", "10", "-t", "1").split("\n", 1)[1])

    def test_show(self):
        more = [MODEL, "--config", "tiny", "--kernel", "3"]
        self.assertTrue(self.fine("exec", *more, "--show", "nest").startswith("nest k.00"))
        self.assertIn("schedule cpu", self.fine("exec", *more, "--show", "schedule"))
        self.assertIn("vfmadd", self.fine("exec", *more, "--show", "asm", "--target", "cpu:v3"))
        ir = self.fine("exec", *more, "--show", "ir")
        self.assertIn("graph kernel", ir)

    def test_nests(self):
        self.assertEqual(self.check("-", stdin=NEST)["ran"], "nest scale")
        self.assertIn("nest scale", self.fine("exec", "-", "--target", "ref", stdin=NEST))
        self.assertTrue(self.fine("exec", "-", "--show", "nest", stdin=NEST).startswith("nest scale"))
        x = self.path("x.npy", npy([3, 32], [1.5] * 96))
        g = self.path("g.npy", npy([32], [float(i) for i in range(32)]))
        o = self.path("y.npy")
        self.fine("exec", "-", "--in", "%x=" + x, "--in", "@g=" + g, "--out", "%y=" + o, stdin=NEST)
        self.assertEqual(list(numbers(o)), [1.5 * i for i in range(32)] * 3)

    def test_a_nest_that_leaves_its_buffer(self):
        """Subscripts are text; the reference looks at them before machine code follows them."""
        bad = NEST.replace("%x[t, e]", "%x[add(t, 1000000), e]", 1)
        r = run("exec", "-", stdin=bad)
        self.assertIn(r.returncode, (3, 6), r.stderr)
        self.assertEqual(r.stderr.count(b"\n"), 1)

    def test_slices_between_kernels(self):
        """A slice or transpose that no kernel takes in moves elements: it becomes a kernel and is not passed on as a view."""
        text = """model m {
          sym T in 1..100
          weight @w: f32[32, 48]
          graph g(%x: f32[T, 64]) -> f32[T, 32], f32[48, T] {
            %s = slice %x {begin=8, end=56}
            return (matmul %s, @w), (transpose %s {perm=[1, 0]})
          }
        }"""
        for t in ("1", "7"):
            self.fine("exec", "-", "--check", "ref", "--bind", "T=" + t, stdin=text)

    def test_time(self):
        e = json.loads(self.fine("exec", MODEL, "--config", "tiny", "--time", "--repeat", "3", "--json"))
        self.assertEqual(sum(k["uses"] for k in e["kernels"]), 12)
        self.assertTrue(all(k["us"] > 0 and k["share_of_limit"] > 0 for k in e["kernels"]) and e["ms"] > 0)
        self.refused(2, "--target ref", "exec", MODEL, "--config", "tiny", "--target", "ref", "--time")


if __name__ == "__main__":
    unittest.main(verbosity=1)
