#!/usr/bin/env python3
"""test_bad.py: every reason for which a file is refused (frontend/reasons.def) has one small file that hits exactly it, and every such file a reason.

Cases: an entry NUMBER-short-name of this folder (a file, or a folder of files), or a function make_NUMBER of make.py or make_*.py, which writes the
files at the time of the test. An entry's command is by its number's range (commands below); a file NUMBER-short-name.case beside it, or CASE inside
the folder, holds other arguments, {} standing for the path. A made one returns its arguments.

Wanted of each: exit status 3, nothing on standard output, exactly one line on standard error that ends in [RNUMBER], within 5 s, and no more heap
than 64 MiB + 4 x the size of its files beyond what `help` takes: the limit of the data segment (heap, private maps, data of libraries) is set to
that, and the program would end with 5 (not under the address sanitizer, which maps far more for itself).
The lists are compared: a number without a case or a case without a number, a number twice, a reason that the code names never or twice: all fail.
AQ_PROGRAM names the program; arguments: numbers to try alone."""
import concurrent.futures, functools, glob, importlib, os, re, shlex, subprocess, sys, tempfile, unittest

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
PROGRAM = os.path.abspath(os.environ.get("AQ_PROGRAM", "build/release/aquila"))
SECONDS, MEMORY = 5, 64 << 20
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
if not os.access(PROGRAM, os.X_OK):
    sys.exit(f"{PROGRAM}: no program to test")
with open(PROGRAM, "rb") as f:
    SANITIZED = b"__asan_init" in f.read()


def command_of(number, path):
    if 500 <= number < 600:
        return ["tokenize", path]
    if 700 <= number < 800:
        return ["score", os.path.join(ROOT, "tests/data/tiny-hf"), "--target", "ref", "--prompt-ids", "1", "--lora", path]
    return ["show", "--json", path]


def reasons():
    """[(name, number)] in the order of the table."""
    with open(os.path.join(ROOT, "frontend/reasons.def")) as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.S)
    return [(m[1], int(m[2])) for m in re.finditer(r"^REASON\((\w+),\s*(\d+),", text, flags=re.M)]


def stored_case(path):
    number = int(os.path.basename(path).split("-")[0])

    def make(folder):
        inside, beside = os.path.join(path, "CASE"), path + ".case"
        for other in (inside, beside):
            if os.path.exists(other):
                with open(other) as f:
                    return [a.replace("{}", path) for a in shlex.split(f.read())]
        return command_of(number, path)
    return number, make, os.path.basename(path)


def cases():
    """[(number, function of an empty folder to arguments, name)]"""
    out = [stored_case(p) for p in sorted(glob.glob(os.path.join(HERE, "[0-9]*-*"))) if not p.endswith(".case")]
    for module in sorted(glob.glob(os.path.join(HERE, "make*.py"))):
        m = importlib.import_module(os.path.basename(module)[:-3])
        if m.__name__ != "small":
            out += [(int(n[5:]), getattr(m, n), f"{m.__name__}.{n}") for n in dir(m) if re.fullmatch(r"make_\d+", n)]
    return sorted(out, key=lambda c: c[0])


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(path) for f in files if os.path.isfile(os.path.join(d, f)))


def limit_to(heap): return ["sh", "-c", f'ulimit -d {heap >> 10} && exec "$0" "$@"']


def execute(args, heap=None):
    """(status, stdout, stderr); status None where it had to be killed. heap: bytes."""
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    e["AQ_CACHE"] = "none"
    try:
        r = subprocess.run([*(limit_to(heap) if heap and not SANITIZED else []), PROGRAM, *args], stdin=subprocess.DEVNULL, capture_output=True, env=e, timeout=SECONDS * (4 if SANITIZED else 1))
        return r.returncode, r.stdout, r.stderr
    except subprocess.TimeoutExpired as late:
        return None, late.stdout, late.stderr


@functools.cache
def heap_of_help():
    """What the program takes when it does nothing: the least limit, in steps of 1 MiB, with which `help` works."""
    if SANITIZED:
        return 0
    low, high = 0, 1 << 10
    while high - low > 1:
        middle = (low + high) // 2
        if execute(["help"], middle << 20)[0] == 0:
            high = middle
        else:
            low = middle
    return high << 20


def heap_limit(size):
    """Words before a command that refuses files of `size` bytes."""
    return [] if SANITIZED else limit_to(heap_of_help() + MEMORY + 4 * size)


def try_case(case, base):
    """None, or the story of what is wrong."""
    number, make, name = case
    with tempfile.TemporaryDirectory(prefix="aquila-bad-") as folder:
        args = make(folder)
        stored = [a for a in args if os.path.exists(a) and not a.startswith(folder)]
        size = size_of(folder) + sum(map(size_of, stored))
        status, out, err = execute(args, base + MEMORY + 4 * size)
    text = err.decode(errors="backslashreplace") if err else ""
    story = f"R{number} ({name}): aquila {' '.join(map(str, args))[:300]}: "
    if status is None:
        return story + f"still running after {SECONDS} s"
    if status != 3:
        return story + f"exit {status}, expected 3\n{text[:2000]}"
    if not text.endswith("\n") or text.count("\n") != 1 or not text[:-1].isprintable() or not text.startswith("aquila: error: "):
        return story + f"expected one line \"aquila: error: ...\" on standard error:\n{text[:2000]}"
    if not text.endswith(f" [R{number}]\n"):
        return story + f"another reason: {text}"
    return story + f"{len(out)} bytes on standard output: none expected" if out else None


class Bad(unittest.TestCase):
    only = []

    def test_lists(self):
        table, have = reasons(), [c[0] for c in cases()]
        names, numbers = [n for n, _ in table], [k for _, k in table]
        problems = [f"number {k} is given twice in reasons.def" for k in sorted({k for k in numbers if numbers.count(k) > 1})]
        problems += [f"{n} is twice in reasons.def" for n in sorted({n for n in names if names.count(n) > 1})]
        problems += [f"two cases for R{k}" for k in sorted({k for k in have if have.count(k) > 1})]
        problems += [f"reason {n} (R{k}) has no case in tests/bad" for n, k in table if k not in have]
        problems += [f"case R{k} has no reason in reasons.def" for k in sorted(set(have) - set(numbers))]
        said = {}
        for source in glob.glob(os.path.join(ROOT, "frontend/**/*.[ch]"), recursive=True):
            with open(source) as f:
                text = re.sub(r"/\*.*?\*/|//[^\n]*", "", f.read(), flags=re.S)
            for name in re.findall(r"\bAQ_WHY_(?!##)(\w+)", text):
                said.setdefault(name, []).append(os.path.relpath(source, ROOT))
        problems += [f"reason {n} (R{k}): the code names it {len(said.get(n, []))} times: {said.get(n, [])}: once expected"
                     for n, k in table if len(said.get(n, [])) != 1]
        if problems:
            self.fail(f"{len(problems)} problems:\n" + "\n".join(problems))

    def test_cases(self):
        base = heap_of_help()
        todo = [c for c in cases() if not self.only or c[0] in self.only]
        with concurrent.futures.ThreadPoolExecutor(max(2, min(4, os.cpu_count() or 2))) as pool:
            stories = [s for s in pool.map(lambda c: try_case(c, base), todo) if s]
        if stories:
            self.fail(f"{len(stories)} of {len(todo)} cases:\n" + "\n".join(stories))
        print(f"{len(todo)} reasons, each refused by its number" + (f"; help takes {base >> 20} MiB" if base else ""))


if __name__ == "__main__":
    Bad.only = [int(a) for a in sys.argv[1:] if a.isdigit()]
    unittest.main(argv=[a for a in sys.argv if not a.isdigit()])
