#!/usr/bin/env python3
"""test_others.py: what other users and processes can do while the program works: files that become shorter, plans and links that somebody else put there.
AQ_PROGRAM names the program."""
import json, os, signal, subprocess, sys, time, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import test_bad
from small import *
from test_hurt import ENVIRONMENT, PROGRAM, SLOW
import test_hurt


class Others(test_hurt.Case):
    def test_cut_while_read(self):
        """A mapped file becomes shorter under a running program: one line and status 1, no crash."""
        model = Gguf().save(self.d)
        chat = subprocess.Popen([PROGRAM, "chat", model, "-q", "--template", "none", "-n", "2", "--target", "ref"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=ENVIRONMENT)
        chat.stdin.write(b"ab\n")
        chat.stdin.flush()
        chat.stdout.read(1)  # the first answer comes: the weights are mapped
        time.sleep(0.5 * SLOW)
        os.truncate(model, 4096)
        out, err = chat.communicate(b"ab\nab\n", timeout=20 * SLOW)
        self.assertEqual((chat.returncode, err.decode()), (1, f"aquila: error: {model}: it became shorter while it was read, or its disk failed\n"))

    def test_cut_while_converted(self):
        """The same while another file is made of it: the half of that goes too."""
        g, out = Gguf(), self.path("out")
        rows = 500000
        g.tensors["token_embd.weight"][0][1], g.tensors["token_embd.weight"][2] = rows, bytes(rows * WIDTH * 2)
        os.mkdir(out)
        for kind in ("f16", "q8_0"):  # one is written from the map, the other read there first
            for _ in range(20):
                model = g.save(self.d)
                p = subprocess.Popen([PROGRAM, "convert", model, "-o", os.path.join(out, "x.gguf"), "--weights-type", kind, "-t", "1"], stdout=subprocess.DEVNULL,
                                     stderr=subprocess.PIPE, env=ENVIRONMENT)
                while p.poll() is None and not os.listdir(out):
                    pass
                p.send_signal(signal.SIGSTOP)
                is_at_work = any(".tmp." in n and os.path.getsize(os.path.join(out, n)) < rows * WIDTH for n in os.listdir(out))
                os.truncate(model, 4096)
                p.send_signal(signal.SIGCONT)
                _, err = p.communicate(timeout=20 * SLOW)
                if is_at_work and p.returncode:
                    break
                for n in os.listdir(out):
                    os.remove(os.path.join(out, n))
            self.assertEqual((p.returncode, os.listdir(out)), (1, []), err)
            self.assertEqual(err.decode(), f"aquila: error: {model}: it became shorter while it was read, or its disk failed\n")

    def test_a_plan_of_others(self):
        """A plan is code: one of the cache that somebody else may have written is made again; what is written nobody else may change, whatever the umask."""
        model, cache = Gguf().save(self.d), self.path("cache")
        ask = ["run", model, "--prompt-ids", "1,2", "-n", "1", "--json", "--cache", cache]
        compiled = lambda: json.loads(subprocess.run([PROGRAM, *ask], capture_output=True, env=ENVIRONMENT, umask=0, check=True).stdout)["timings"]["compile_ms"] > 0
        self.assertTrue(compiled())
        self.assertFalse(compiled())
        plans = os.path.join(cache, "plans")
        plan = os.path.join(plans, *os.listdir(plans))
        for spoil in [lambda: os.chmod(plan, 0o664)] + [lambda: os.chown(plan, 65534, 65534)] * (os.geteuid() == 0):
            self.assertEqual((os.stat(plan).st_mode & 0o777, os.stat(plan).st_uid), (0o644, os.geteuid()))
            spoil()
            self.assertTrue(compiled())
            self.assertFalse(compiled())

    def test_a_cache_of_links(self):
        """What a link of a cache points to is not written over: the link is."""
        cache, mine = self.path("cache"), put(self.path("mine"), "mine")
        ask = ["run", "tests/data/tiny-hf", "--weights-type", "q4_0", "--prompt-ids", "1,2", "-n", "1", "--cache", cache]
        for wanted in (2, 2):
            subprocess.run([PROGRAM, *ask], capture_output=True, env=ENVIRONMENT, cwd=test_bad.ROOT, check=True)
            files = [os.path.join(d, n) for d, _, names in os.walk(cache) for n in names]
            self.assertEqual((len(files), [f for f in files if os.path.islink(f)]), (wanted, []))
            with open(mine) as f:
                self.assertEqual(f.read(), "mine")
            for f in files:
                os.remove(f)
                os.symlink(mine, f)

    def test_a_link_of_others(self):
        """In a folder like /tmp a link that another user made is not followed, as the kernel has it for whoever opens one."""
        model, mine, shared = Gguf().save(self.d), put(self.path("mine"), "mine"), self.path("shared")
        os.mkdir(shared)
        os.chmod(shared, 0o1777)
        for owner, kept in ((65534, "mine"), (0, None)):
            out = os.path.join(shared, "x.gguf")
            if os.path.lexists(out):
                os.remove(out)
            os.symlink(mine, out)
            os.lchown(out, owner, owner)
            self.ends("convert", model, "-o", out, statuses=(0,))
            with open(mine, "rb") as f:
                self.assertEqual(f.read() == b"mine", kept is not None)
            self.assertEqual(os.path.islink(out), kept is None)


if __name__ == "__main__":
    unittest.main()
