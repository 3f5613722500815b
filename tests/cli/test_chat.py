#!/usr/bin/env python3
"""test_chat.py: conversations from outside, through pipes and on a pseudo-terminal. Waits for texts, never for times: the machine may be busy.
AQ_PROGRAM names the program."""
import fcntl, json, os, pty, re, select, signal, stat, struct, subprocess, sys, tempfile, termios, unicodedata, unittest

PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
MICRO = "tests/data/micro_gguf.bin"
PASTE, PASTED = b"\033[200~", b"\033[201~"
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")


def environment(**more):
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    return {**e, "AQ_CACHE": "none", "TERM": "xterm", **more}


def run(*args, stdin=""):
    return subprocess.run([PROGRAM, *args], input=stdin.encode(), capture_output=True, env=environment(), timeout=120)


def make_tokenizer(folder):
    """One token a byte."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    table, extra = {b: chr(b) for b in plain}, 0
    for b in range(256):
        if b not in table:
            table[b] = chr(256 + extra)
            extra += 1
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({table[b]: b for b in range(256)}, f)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n")


class Case(unittest.TestCase):
    def setUp(self):
        d = tempfile.TemporaryDirectory()
        self.addCleanup(d.cleanup)
        self.folder = d.name

    def path(self, name, text=None):
        p = os.path.join(self.folder, name)
        if text is not None:
            with open(p, "w") as f:
                f.write(text if isinstance(text, str) else json.dumps(text))
        return p

    def fine(self, *args, **more):
        r = run(*args, **more)
        self.assertEqual(r.returncode, 0, (args, r.stderr.decode()))
        return r

    def said(self, *args, stdin):
        """The JSON lines of a conversation through a pipe."""
        return [json.loads(x) for x in self.fine("chat", MICRO, "--target", "ref", "--json", *args, stdin=stdin).stdout.decode().splitlines()]


class Piped(Case):
    def test_messages_of_many_lines(self):
        lines = 'a \\\nb\\\\\n\\\\\n"""\n\n c\n\n"""\n"""d\ne"""\n\n"""f"""\n""""""\n"g"\\\n\nopen\\\n'
        got = [x["model_input"] for x in self.said("--template", "none", "-n", "0", stdin=lines)]
        self.assertEqual(got, ["a \nb\\\\", "\\\\", "\n c\n", "d\ne", "f", '"g"\n', "open"])
        self.assertEqual(self.said("--template", "none", "-n", "0", stdin='"""\nopen')[0]["model_input"], "open")

    def test_saved_and_resumed(self):
        saved = self.path("talk.json")
        first = self.said("--template", "chatml", "--system", "Be brief.", "-n", "3", stdin=f"hello\nwhy?\n/save {saved}\n/exit\nnot read\n")
        self.assertEqual([x["stop_reason"] in ("eos", "length", "stop") for x in first], [True, True])
        with open(saved) as f:
            messages = json.load(f)
        self.assertEqual([m["role"] for m in messages], ["system", "user", "assistant", "user", "assistant"])
        self.assertEqual((messages[0]["content"], messages[3]["content"]), ("Be brief.", "why?"))
        asked = self.said("--template", "chatml", "-n", "0", "--messages", saved, stdin="and?\n")[0]["model_input"]
        self.assertIn("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n", asked)
        self.assertTrue(asked.endswith("<|im_start|>user\nand?<|im_end|>\n<|im_start|>assistant\n"))
        self.assertEqual(asked, self.said("--template", "chatml", "-n", "0", stdin=f"/load {saved}\nand?\n")[0]["model_input"])
        r = run("chat", MICRO, "--target", "ref", "--template", "chatml", "--system", "x", "--messages", saved)
        self.assertEqual((r.returncode, b"one expected" in r.stderr), (2, True))
        r = run("chat", MICRO, "--target", "ref", "--template", "chatml", "--messages", self.path("bad.json", [1]))
        self.assertEqual((r.returncode, b"[R615]" in r.stderr), (3, True))

    def test_retry_undo_system_reset(self):
        got = self.said("--template", "chatml", "-n", "2", "--temperature", "0", "--context", "1024", stdin="a\n/retry\n/stats\nb\n/undo\n/stats\n/reset\n/retry\n/undo\n/save x\n/stats\n")
        self.assertEqual(got[0]["text"], got[1]["text"])
        self.assertLess(got[1]["prefilled"], got[1]["prompt_tokens"])     # the question is in the cache
        self.assertEqual(got[2]["stats"]["messages"], 2)
        self.assertEqual(got[2]["stats"]["all"]["answers"], 2)
        self.assertEqual(got[2]["stats"]["last"]["reused"], got[1]["prompt_tokens"] - got[1]["prefilled"])
        self.assertEqual([list(x) for x in got[5:8]], [["error"]] * 3)       # /retry, /undo, /save with nothing said
        self.assertEqual((got[4]["stats"]["messages"], got[8]["stats"]["messages"]), (2, 0))
        r = run("chat", MICRO, "--target", "ref", "--template", "chatml", stdin="/retry\n/nothing\n/load nowhere.json\n/load\n/save\n")
        self.assertEqual(r.returncode, 0)
        self.assertEqual(r.stderr.count(b"aquila: error: "), 5, r.stderr)

    def test_a_new_answer_that_fails_leaves_the_old_one(self):
        said = [{"role": "user", "content": "long " * 100}, {"role": "assistant", "content": "old"}]
        at, out, t = self.path("m.json", said), self.path("out.json"), self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        r = run("chat", "tiny:random", "--tokenizer", t, "--target", "ref", "--template", "vicuna", "--context", "64", "--messages", at, stdin=f"/retry\n/save {out}\n")
        self.assertIn(b"aquila: error: ", r.stderr)
        with open(out) as f:
            self.assertEqual(json.load(f), said)

    def test_commands_say_what_they_did(self):
        r = run("chat", MICRO, "-n", "0", "--template", "chatml", stdin="/reset\n/system x\n/system\n/usr/bin\n")
        self.assertEqual(r.stderr.decode().splitlines(), ["the conversation starts again", "new system text; the conversation starts again", "no system text; the conversation starts again",
                                                          "aquila: error: /usr/bin: no such command: /help lists them; with a space before it, it is a message"])

    def test_a_tokenizer_of_more_tokens_than_the_model(self):
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        with open(os.path.join(t, "vocab.json")) as f:
            vocab = json.load(f)
        with open(os.path.join(t, "vocab.json"), "w") as f:
            json.dump({**vocab, **{f"w{i}": i for i in range(256, 600)}}, f)
        for args in (("run", "tiny:random", "x", "--tokenizer", t), ("convert", "tiny:random", "-o", self.path("out"), "--tokenizer", t)):
            r = run(*args)
            self.assertEqual((r.returncode, r.stderr.decode()), (2, f"aquila: error: --tokenizer {t}: 600 tokens: expected at most 512, the vocabulary of tiny:random\n"))
        self.assertFalse(os.path.exists(self.path("out")))

    def test_stopped_at_the_last_moment(self):
        """The mark of a character that never came is text as any other."""
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        ask = ("run", "tiny:random:4", "--tokenizer", t, "--target", "ref", "--template", "none", "--temperature", "0", "-n", "1", "--json", "--prompt-ids")
        for i in range(256):
            a = json.loads(self.fine(*ask, str(i)).stdout)
            if a["text"] == "\ufffd" and a["tokens"][0] >= 0xc2:
                break
        b = json.loads(self.fine(*ask, str(i), "--stop", "\ufffd").stdout)
        self.assertEqual((a["stop_reason"], b["text"], b["stop_reason"]), ("length", "", "stop"))

    def test_a_full_context_is_told_once(self):
        lines = "".join(f"message number {i}, long enough to fill some of it\n" for i in range(12)) + "/stats\n"
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        r = self.fine("chat", "tiny:random", "--tokenizer", t, "--target", "ref", "--template", "vicuna", "-n", "4", "--context", "256", "--json", "--seed", "1", stdin=lines)
        got = [json.loads(x) for x in r.stdout.decode().splitlines()]
        left = [x["left_out"] for x in got[:-1]]
        told = r.stderr.count(b"the context of 256 positions is full")
        self.assertEqual(len(left), 12, r.stderr)
        self.assertGreater(left[-1], 4)
        self.assertEqual(left, sorted(left))
        self.assertEqual(told, len(set(left) - {0}))
        self.assertLess(told, 6)                                            # more goes at once than must
        again = [x["prefilled"] for before, x in zip(got, got[1:-1]) if x["left_out"] == before["left_out"]]
        self.assertTrue(again and max(again) < 128, again)                  # else everything would be fed anew
        self.assertTrue(all(x["prompt_tokens"] <= 252 for x in got[:-1]))


class Names(Case):
    def test_defaults_of_a_name(self):
        r = self.fine("run", "AquilaCode-7B-NV:random", "--prompt-ids", "1", "-v", "--target", "ref", "-n", "0")
        self.assertIn(b"AquilaCode-7B-NV (aquila show models): template none, temperature 0.1, top-k 30,", r.stderr)
        r = self.fine("run", "aquilachat2_34b:random", "--prompt-ids", "1", "-v", "--top-k", "7", "-n", "0")
        self.assertIn(b"AquilaChat2-34B (aquila show models): template aquila-legacy, temperature 1, top-k 7, top-p 0.9, sampling aquila2,", r.stderr)
        rows = json.loads(self.fine("show", "models", "--json").stdout)
        self.assertEqual([x["context"] for x in rows if x["model"] in ("Aquila-7B", "AquilaChat2-7B-16K")], ["2048", "16384"])

    def test_what_a_template_feeds(self):
        def fed(*args, model="tiny:random"):
            t = self.path("t")
            if not os.path.exists(t):
                os.mkdir(t)
                make_tokenizer(t)
            return json.loads(self.fine("run", model, "--tokenizer", t, "-n", "0", "--json", *args).stdout)
        S = "A chat between a curious human and an artificial intelligence assistant. The assistant gives helpful, detailed, and polite answers to the human's questions."
        x = fed("hi", "--template", "aquila-chat", "--instruction", "Rhyme.")
        self.assertEqual(x["model_input"], S + "###System: Rhyme.###Human: hi###Assistant:")
        self.assertEqual(bytes(x["prompt_tokens"]).decode(), x["model_input"])
        self.assertEqual((x["text"], x["tokens"], x["stop_reason"]), ("", [], "length"))
        self.assertEqual(fed("hi", model="AquilaChat-7B:random")["model_input"], S + "###Human: hi###Assistant:")
        self.assertEqual(fed("hi", model="AquilaChat2-7B:random")["model_input"], "<|startofpiece|>hi<|endofpiece|> ")   # as Aquila2's predict
        self.assertEqual(fed("hi", "--sampling", "aquila", model="AquilaChat2-7B:random")["model_input"], "<|startofpiece|>hi<|endofpiece|>")
        self.assertEqual(fed("hi", model="Aquila2-7B:random")["model_input"], "hi")
        m = self.path("m.json", [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}])
        self.assertEqual(fed("--messages", m, "--template", "aquila")["model_input"], S + "###Human: a###Assistant: b</s>Human: c###Assistant:")
        r = run("run", MICRO, "hi", "-n", "0", "--template", "aquila", "--instruction", "x")
        self.assertEqual((r.returncode, b"no place for an instruction" in r.stderr), (2, True))


class Screen:
    """What a terminal of that width shows of a program's output, in as many rows as it takes. A wide character takes two cells, the second empty."""

    def __init__(self, width):
        self.width, self.rows, self.y, self.x = width, [[]], 0, 0

    def put(self, c):
        n = 2 if unicodedata.east_asian_width(c) in "WF" else 1
        if self.x + n > self.width:      # only now: a row may be full
            self.down()
            self.x = 0
        row = self.rows[self.y]
        row += [" "] * (self.x + n - len(row))
        row[self.x:self.x + n] = [c] + [""] * (n - 1)
        self.x += n

    def down(self):
        self.y += 1
        self.rows += [[] for _ in range(self.y + 1 - len(self.rows))]

    def command(self, numbers, letter):
        n = int(numbers) if numbers.isdigit() else 0
        self.x = min(self.x, self.width - 1)
        if letter == "A":
            self.y -= n or 1
        elif letter == "B":
            for _ in range(n or 1):
                self.down()
        elif letter in "CD":
            self.x += (n or 1) * (1 if letter == "C" else -1)
        elif letter == "G":
            self.x = n - 1
        elif letter in "JK":
            del self.rows[self.y][self.x:]
            if letter == "J":
                del self.rows[self.y + 1:]
        elif letter not in "hlm":
            raise ValueError(f"ESC [ {numbers} {letter}")

    def show(self, output):
        for numbers, letter, c in re.findall("\033\\[([0-9;?]*)([A-Za-z@])|([^\0])", output.decode(), re.S):
            if letter:
                self.command(numbers, letter)
            elif c == "\r":
                self.x = 0
            elif c == "\n":
                self.down()
            elif c == "\b":
                self.x = min(self.x, self.width - 1) - 1
            elif c >= " ":
                self.put(c)
        return self

    def __str__(self):
        return "\n".join("".join(row).rstrip() for row in self.rows)

    def resize(self, width):
        """As terminals do it: what was broken only because a row was full is broken anew."""
        joined, place = [[]], None
        for i, row in enumerate(self.rows):
            if i == self.y:
                place = len(joined) - 1, len(joined[-1]) + self.x
            joined[-1] += row
            if len(row) < self.width:
                joined.append([])
        self.__init__(width)
        for i, row in enumerate(joined[:-1] if not joined[-1] else joined):
            if i:
                self.down()
                self.x = 0
            top = self.y
            for c in row:
                if c:
                    self.put(c)
            if i == place[0]:
                y, x = top + place[1] // width, place[1] % width
        self.y, self.x = y, x


class Terminal(Case):
    """A program on a terminal of its own."""

    def open(self, *args, **more):
        self.child, self.end = pty.fork()
        if not self.child:
            for key in (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):    # a shell has what runs behind an & ignore them
                signal.signal(key, signal.SIG_DFL)
            os.execve(PROGRAM, [PROGRAM, "chat", *args], environment(**more))
        self.addCleanup(self.close, self.child, self.end)
        self.seen = b""

    def close(self, child, end):
        if self.child == child:      # something failed
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(end)

    def type(self, text):
        os.write(self.end, text if isinstance(text, bytes) else text.encode())

    def wait(self, text=None):
        """What comes up to and with that text, or up to the end; the rest is kept."""
        while text is None or text not in self.seen:
            if not select.select([self.end], [], [], 60)[0]:
                self.fail(f"no {text} for 60 s in {self.seen[-2000:]}")
            try:
                self.seen += os.read(self.end, 65536)
            except OSError:
                if text is None:
                    break
                self.fail(f"the end came before {text}: {self.seen[-2000:]}")
        cut = len(self.seen) if text is None else self.seen.index(text) + len(text)
        out, self.seen = self.seen[:cut], self.seen[cut:]
        return out

    def leave(self, how="/exit\n"):
        self.type(how)
        out = self.wait()
        status = os.waitstatus_to_exitcode(os.waitpid(self.child, 0)[1])
        self.child = 0
        self.assertEqual(status, 0, out)
        return out

    def saved(self, n=0):
        """The user's texts so far, through /save."""
        p = self.path(f"saved{n}.json")
        self.type(f"/save {p}\n")
        self.wait(b"goes on from there")
        self.wait(b"> ")
        with open(p, encoding="utf-8") as f:
            return [m["content"] for m in json.load(f) if m["role"] == "user"]

    ANSWERS = (MICRO, "--target", "ref", "--template", "chatml", "-n", "1", "--context", "4096")

    def test_many_lines_and_pasted_text(self):
        self.open(*self.ANSWERS)
        self.wait(b"> ")
        self.type("one \\\n")
        self.wait(b"\r\n. ")
        self.type("two\n")
        self.wait(b"\r\n> ")
        self.type('"""\nthree\n\nfour\n"""\n')
        self.wait(b"\r\n> ")
        self.type(b"say " + PASTE + "def f():\r\treturn \"\"\"你好\"\"\" \\\nend".encode() + PASTED + b" twice")
        self.wait(b"twice")
        self.type("\n")
        self.wait(b"\r\n> ")
        self.assertEqual(self.saved(), ["one \ntwo", "three\n\nfour", 'say def f():\n\treturn """你好""" \\\nend twice'])
        self.leave()

    def test_editing_chinese(self):
        self.open(*self.ANSWERS, LC_ALL="C")
        self.wait(b"> ")
        self.type("你好吗\x7f\x7f们\x01再\x05！\n")       # two back, one more, one in front, one behind
        self.wait(b"\r\n> ")
        self.assertEqual(self.saved(), ["再你们！"])
        self.leave()

    def test_history_across_runs(self):
        kept = self.path("history")
        self.open(*self.ANSWERS, "--history", kept)
        self.wait(b"> ")
        for text in ("first\n", "second \\\nline 你好\n"):
            self.type(text)
            self.wait(b"\r\n> ")
        with open(kept, encoding="utf-8") as f:    # already, should the terminal be closed
            self.assertEqual(f.read(), "first\nsecond \\nline 你好\n")
        self.assertTrue(self.leave("\x04").replace(b"\033[?2004l", b"").endswith(b"\r\n"))
        self.assertEqual(stat.S_IMODE(os.stat(kept).st_mode), 0o600)
        with open(kept, encoding="utf-8") as f:
            self.assertEqual(f.read(), "first\nsecond \\nline 你好\n")
        self.open(*self.ANSWERS, "--history", kept)
        self.wait(b"> ")
        self.type("\033[A")
        self.wait("你好".encode())
        self.type("\n")
        self.wait(b"\r\n> ")
        self.type("\033[A\033[A")
        self.wait(b"first")
        self.type("\n")
        self.wait(b"\r\n> ")
        self.assertEqual(self.saved(), ["second \nline 你好", "first"])
        self.leave()
        with open(kept, "wb") as f:
            f.write(b"a\0b\n")
        self.open(*self.ANSWERS, "--history", kept)
        self.assertIn(b"no history: ", self.wait(b"> "))
        self.leave()
        with open(kept, "rb") as f:
            self.assertEqual(f.read(), b"a\0b\n")     # what is no history is left alone

    def test_ctrl_c_stops_the_answer_only(self):
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        self.open("tiny:random", "--tokenizer", t, "--target", "ref", "--template", "vicuna", "-n", "100000", "--context", "200000", "--temperature", "0", "--history", "none")
        self.wait(b"> ")
        for i in range(3):
            self.type("go\n")
            self.wait(b"go\r\n")
            while len(self.seen) < 3:      # something of the answer
                self.assertTrue(select.select([self.end], [], [], 60)[0])
                self.seen += os.read(self.end, 65536)
            self.type("\x03")
            for _ in range(200 * i):
                os.kill(self.child, signal.SIGINT)      # an impatient person
            self.wait(b"(stopped)")
            self.wait(b"> ")
            self.type("\n")      # whatever came too late for the answer is over when this is read
            self.wait(b"> ")
        self.type("\x03\x03")
        self.wait(b"/exit leaves)")
        self.wait(b"> ")
        self.type("/stats\n")
        self.assertIn(b"6 messages, ", self.wait(b"all answers"))
        self.wait(b"/s\r\n")
        self.leave()

    def test_a_stopped_prompt_counts_what_was_fed(self):
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        self.open("tiny:random", "--tokenizer", t, "--template", "vicuna", "-n", "1", "--context", "16000", "--history", "none")
        self.wait(b"> ")
        for i in range(3):
            self.type("some " * 500 + "\n")
            self.wait(b"some \r\n")
            os.kill(self.child, signal.SIGINT)      # while it is encoded or fed, or a moment too late
            self.wait(b"\r\n> ")
            self.type("/stats\n")
            out = self.wait(b"all answers").decode()
            held, found, fed = (int(re.search(x, out)[1]) for x in (r"holds (\d+) of", r"(\d+) of them found", r"(\d+)\s+fed"))
            self.assertGreaterEqual(held, found + fed, out)
            self.wait(b"> ")
        self.leave()

    def window(self, width):
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))

    def line(self, screen, keys, mark):
        """The last rows of the screen, behind "> ", once these keys and, at the end of the line, `mark` are drawn."""
        self.type(keys + b"\x05" + mark)
        return str(screen.show(self.wait(mark))).rpartition("> ")[2].rstrip("\n")

    def test_what_is_typed_is_drawn_as_it_is(self):
        code = "def f(x):\n\treturn x + 1\n\nprint(f(1))"
        shown = code.replace("\t", 8 * " ")
        wide = 19 * "中" + "x，" + 9 * "文"
        self.open(MICRO, "--template", "chatml", "-n", "0", "--history", "none")
        self.window(40)
        screen = Screen(40).show(self.wait(b"> "))
        self.assertEqual(self.line(screen, PASTE + code.encode() + PASTED, b"Q"), shown + "Q")                   # pasted line ends
        self.assertEqual(self.line(screen, b"\b\033[D\033[DW", b"U"), shown[:-2] + "W" + shown[-2:] + "U")       # edited behind one
        self.assertEqual(self.line(screen, b"\x01Y", b"Z"), "Y" + shown[:-2] + "W" + shown[-2:] + "UZ")           # and in front of all
        self.assertEqual(self.line(screen, b"\x15", b"X"), "X")                                                  # nothing of it is left over
        self.line(screen, b"\b" + wide.encode(), b"V")
        self.assertEqual(self.line(screen, b"\x01BEGIN ", b"T").replace("\n", ""), "BEGIN " + wide + "VT")       # in front of wide characters
        self.leave("\x15/exit\n")

    def test_a_long_paste_is_drawn_once(self):
        text = "\n".join(f"line {i}" for i in range(300))
        self.open(MICRO, "--template", "chatml", "-n", "0", "--history", "none")
        self.wait(b"> ")
        self.type(PASTE + text.encode() + PASTED + b"\x05Q")
        self.assertLess(len(self.wait(b"Q")), 3 * len(text))
        self.leave("\x15/exit\n")

    def test_a_resized_window(self):
        text = "The quick brown fox jumps over the lazy dog, and then the dog jumps over the fox."
        self.open(MICRO, "--template", "chatml", "-n", "0", "--history", "none")
        self.window(60)
        screen = Screen(60).show(self.wait(b"> "))
        self.line(screen, text.encode(), b"V")
        text += "V"
        for width, mark in ((40, "W"), (100, "X"), (60, "Y"), (30, "Z")):
            screen.resize(width)
            self.window(width)
            screen.show(self.wait(b"\033[J"))
            self.line(screen, b"", mark.encode())
            text += mark
            rows = ("> " + text)[:width], *(("> " + text)[i:i + width] for i in range(width, len(text) + 2, width))
            self.assertEqual(str(screen).rpartition("commands\n")[2], "\n".join(r.rstrip() for r in rows))
        self.leave("\x15/exit\n")

    def test_the_key_that_ends_the_program(self):
        self.open(MICRO, "--template", "chatml", "-n", "0", "--history", "none")
        self.wait(b"> ")
        self.type("half a line\x1c")
        self.wait()
        self.assertEqual(os.WTERMSIG(os.waitpid(self.child, 0)[1]), signal.SIGQUIT)
        self.child = 0

    def test_a_text_does_not_command_the_terminal(self):
        self.open(MICRO, "--template", "chatml", "--system", "a\033[31m\rb\u009b2Jc\x7f\t你", "-n", "0")
        self.wait(b"> ")
        self.type("x\n")
        self.wait("a^[[31m^Mb^[2Jc^?".encode())
        self.wait("你<|im_end|>".encode())
        self.leave()

    def test_a_cut_answer_and_a_dumb_terminal(self):
        t = self.path("t")
        os.mkdir(t)
        make_tokenizer(t)
        for kind, n, end in (("xterm", "3", b"(the answer is cut after 3 tokens: -n)\r\n"), ("dumb", "300", b"(the answer is cut: the context of 64 positions is full)\r\n")):
            self.open("tiny:random", "--tokenizer", t, "--target", "ref", "--template", "vicuna", "-n", n, "--context", "64", "--temperature", "0", "--history", "none", TERM=kind)
            out = self.wait(b"> ")
            self.type("x\n")
            out += self.wait(end)
            self.wait(b"> ")
            self.type("/nosuch\n")
            out += self.wait(b"no such command")
            self.assertEqual(b"\033[K" in out or b"\033[1;31m" in out, kind != "dumb", out)
            self.leave()

    def test_a_base_model_completes(self):
        self.open(MICRO, "--target", "ref", "--template", "none", "-n", "1")
        self.assertIn(b"every message is completed on its own", self.wait(b"> "))
        for _ in range(2):
            self.type("some text\n")
            self.wait(b"\r\n> ")
        self.leave()


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], "-q", *sys.argv[1:]])
