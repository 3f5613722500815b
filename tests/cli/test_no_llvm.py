#!/usr/bin/env python3
"""test_no_llvm.py: a plan made ahead of time runs where LLVM is not: elsewhere, with a path to it that leads nowhere, and with no trace of it in
the process's maps while it answers. Without LLVM what has to compile says so (exit 4), what has not goes on. AQ_PROGRAM names the program."""
import json, os, resource, signal, subprocess, sys, tempfile, time, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
MODELS = [os.path.abspath("tests/data/tiny-hf"), "tiny:random"]
NOWHERE = {"AQ_LLVM": "/nonexistent/libLLVM.so", "LD_LIBRARY_PATH": "/nonexistent", "PATH": "/nonexistent"}
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def environment(more):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    e.update(more)
    return e


def run(*args, env=None, cwd=None):
    return subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, env=environment(env or {}), cwd=cwd, timeout=120)


def maps_while_it_answers(args, env, cwd):
    """What is mapped while tokens come: the process is stopped after the first ones, looked at, and let go on."""
    p = subprocess.Popen([PROGRAM, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment(env), cwd=cwd)
    seen = ""
    while p.poll() is None:
        try:
            p.send_signal(signal.SIGSTOP)
            with open(f"/proc/{p.pid}/maps") as f:
                seen += f.read()
        except (ProcessLookupError, FileNotFoundError):
            pass
        p.send_signal(signal.SIGCONT)
        time.sleep(0.003)
    out, err = p.communicate()
    return p.returncode, out, err, seen


class NoLlvm(unittest.TestCase):
    def test_a_plan_runs_elsewhere(self):
        for model in MODELS:
            with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as elsewhere:
                r = run("compile", model, "-o", "a.aqp", "--cache", "none", cwd=made)
                self.assertEqual(r.returncode, 0, r.stderr)
                plan = os.path.join(elsewhere, "b.aqp")
                os.rename(os.path.join(made, "a.aqp"), plan)
                ask = ["--prompt-ids", "1,2,3", "--temperature", "0", "--cache", "none", "-t", "2"]
                want = run("run", model, "-n", "200", *ask)
                status, out, err, maps = maps_while_it_answers(["run", "b.aqp", "--weights", model, "-n", "200", *ask], NOWHERE, elsewhere)
                self.assertEqual((status, err), (0, b""))
                self.assertEqual(out, want.stdout, "the plan answers otherwise than what is compiled here and now")
                self.assertIn(os.path.basename(PROGRAM), maps, "the process was never seen")
                self.assertNotIn("LLVM", maps)

    def test_maps_do_show_it(self):
        """The probe sees LLVM where it is: without this the test above would pass for a probe that is blind."""
        _, _, err, maps = maps_while_it_answers(["run", MODELS[0], "--prompt-ids", "1", "-n", "2", "--cache", "none"], {}, None)
        self.assertIn("LLVM", maps, err)

    def test_what_must_compile_says_so(self):
        with tempfile.TemporaryDirectory() as d:
            plan = os.path.join(d, "a.aqp")
            for args in (["compile", MODELS[0], "-o", plan], ["run", MODELS[0], "--prompt-ids", "1", "-n", "1", "--cache", "none"],
                         ["exec", "models/aquila/aquila.aq", "--config", "tiny"]):
                r = run(*args, env=NOWHERE)
                err = r.stderr.decode()
                self.assertEqual(r.returncode, 4, (args, err))
                self.assertTrue(err.startswith("aquila: error: ") and "LLVM" in err and err.count("\n") == 1, err)
                self.assertEqual(r.stdout, b"")
            self.assertEqual(os.listdir(d), [], "something of the plan was left behind")

    def test_too_few_addresses_for_it(self):
        """LLVM aborts where it gets no memory: so it is not opened, and that is said."""
        def limited(*args):
            limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (200_000_000, 200_000_000))
            return subprocess.run([PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, env=environment({}), timeout=120, preexec_fn=limit)
        if limited("version").returncode:
            return  # the address sanitizer's shadow alone takes more
        r = limited("run", MODELS[0], "--prompt-ids", "1", "-n", "1", "--cache", "none")
        self.assertEqual((r.returncode, r.stdout, r.stderr.count(b"\n")), (5, b"", 1), r.stderr)
        self.assertIn(b"LLVM needs 256 MiB of addresses", r.stderr)
        self.assertEqual(limited("run", MODELS[0], "--prompt-ids", "1", "-n", "1", "--target", "ref").returncode, 0)
        r = limited("doctor", "--json")
        llvm = [x for x in json.loads(r.stdout)["libraries"] if x["name"] == "LLVM"][0]
        self.assertEqual((r.returncode, llvm["found"], llvm.get("install")), (0, False, None), llvm)
        self.assertIn("LLVM needs 256 MiB of addresses", llvm["reason"])
        self.assertIn(b"LLVM         not opened: for compiling for the CPU: LLVM needs 256 MiB", limited("doctor").stdout)

    def test_what_need_not_goes_on(self):
        for args in (["run", MODELS[0], "--prompt-ids", "1", "-n", "1", "--target", "ref"], ["show", MODELS[0]], ["doctor"],
                     ["opt", "models/aquila/aquila.aq", "--config", "tiny"], ["run", MODELS[0], "--prompt-ids", "1", "-n", "0"]):
            r = run(*args, env=NOWHERE)
            self.assertEqual(r.returncode, 0, (args, r.stderr))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q"])
