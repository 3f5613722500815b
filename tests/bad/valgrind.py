#!/usr/bin/env python3
"""valgrind.py: the program under valgrind's memcheck: every verb on small models, then every refusal of this folder (test_bad.py's cases). No read or write
out of bounds, no jump on a value that nobody set, no block that is still there at the end, reachable or not. What libraries keep of their own is in
valgrind.supp, by the library; nothing of ours is. Valgrind knows no AVX-512: machine code is that of cpu:v3. Takes minutes: not a part of run.sh.

    python3 tests/bad/valgrind.py [verbs | bad] [WORD]       all; or one part; WORD: only runs whose arguments hold it

AQ_PROGRAM names the program: a release build (with -g1, as the preset has it), not one with sanitizers. AQ_VALGRIND_JOBS: at once, default 1."""
import concurrent.futures, os, subprocess, sys, tempfile, time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
sys.dont_write_bytecode = True
sys.path.insert(0, HERE)
import test_bad
from make_lora import case as lora_case
from small import *

JOBS = int(os.environ.get("AQ_VALGRIND_JOBS", "1"))
VALGRIND = ["valgrind", "-q", "--leak-check=full", "--show-leak-kinds=all", "--errors-for-leak-kinds=all", "--error-exitcode=99", "--num-callers=40",
            f"--suppressions={HERE}/valgrind.supp"]
CPU, REF = ["--target", "cpu:v3"], ["--target", "ref"]


def check(args, stdin=b"", statuses=(0,), prefix=()):
    """None, or what valgrind says."""
    e = {k: v for k, v in os.environ.items() if not k.startswith("AQ_")}
    e.setdefault("AQ_CACHE", "none")
    with tempfile.NamedTemporaryFile(prefix="aquila-valgrind-") as log:
        r = subprocess.run([*VALGRIND, f"--log-file={log.name}", test_bad.PROGRAM, *args], input=stdin, capture_output=True, env=e, cwd=ROOT, timeout=1800)
        said = log.read().decode(errors="replace")
    if said or r.returncode not in statuses:
        return f"aquila {' '.join(map(str, args))[:200]}: exit {r.returncode}\n{said[:6000]}{r.stderr[-500:].decode(errors='replace') if r.returncode not in (0, 99) else ''}"
    return None


def verbs(d):
    """[(arguments, standard input, statuses)]; one after the other, since some read what others wrote."""
    g, tiny = Gguf().save(d), "tests/data/tiny-hf"
    g2 = os.path.join(d, "micro.gguf")
    with open(os.path.join(ROOT, "tests/data/micro_gguf.bin"), "rb") as f:
        put(g2, f.read())
    p = lambda *names: os.path.join(d, *names)
    messages = put(p("messages.json"), json.dumps([{"role": "user", "content": "ab"}]))
    prompts = put(p("prompts"), '{"prompt": "ab", "seed": 3}\n{"ids": [1, 2]}\n{"prompt": 3}\n')
    lora_case(p("lora"))
    lora = p("lora")
    plan, flagai, hf, cache = p("p.aqp"), p("flagai"), p("hf"), p("cache")
    plain, ids = ["--template", "none", "-n", "4"], ["--prompt-ids", "1,2,3", "-n", "4"]
    graph = ["models/aquila/aquila.aq", "--config", "tiny"]
    out = [(["help"],), (["version"],), (["help", "run"],), (["run", "--help"],), (["doctor"], b"", (0, 4)), (["doctor", "--json"], b"", (0, 4))]
    out += [(["show", t],) for t in ("ops", "passes", "dtypes", "targets", "templates", "switches", "models")]
    out += [(["show", g, "--tensors"],), (["show", "--json", tiny],), (["show", "tests/data/forms/flagai-fused-module"],), (["memory", g],), (["memory", "tiny:random", "--json"],)]
    out += [(["tokenize", g], b"ab two words"), (["tokenize", g, "--decode"], b"1 2 3"), (["tokenize", g, "--batch"], b'{"text": "ab"}\n{"bytes": "YWI="}\n')]
    out += [(["convert", g, "-o", p("q8.gguf"), "--weights-type", "q8_0"],), (["convert", g, "-o", hf],), (["convert", g, "-o", flagai, "--to", "flagai"],),
            (["convert", flagai, "-o", p("back.gguf")],), (["convert", hf, "-o", p("bf16.gguf"), "--weights-type", "bf16", "--json"],),
            (["convert", tiny, "-o", p("lora.gguf"), "--lora", lora],)]
    out += [(["opt", *graph, "--explain"],), (["opt", *graph, "--verify"],), (["opt", *graph, "--dot"],), (["exec", *graph, "--bind", "O=1", *REF],),
            (["exec", *graph, "--kernel", "3", "--show", "nest", *CPU],), (["run", tiny],  b"", (2, 3)), (["nonsense"], b"", (2,)),
            (["score", tiny, "--prompt-ids", "1,2,3", "--lora", lora, *REF],), (["run", tiny, *ids, "--lora", lora, "--lora-mode", "dots", *REF],)]
    saved = p("saved.json").encode()
    for how in (REF, [*CPU, "--cache", cache]):  # LLVM compiles once: the rest finds the plan
        out += [(["run", g2, "ab", *plain, *how],), (["score", g2, "--prompt-ids", "1,2,3", *how],), (["run", g2, *plain, *how, "--json"], b"ab"),
                (["run", g2, "--messages", messages, "--template", "chatml", "-n", "4", *how],), (["run", g2, "--prompts-file", prompts, *plain, *how], b"", (3,)),
                (["chat", g2, *plain, *how, "--history", "none"], b"ab\na\n/stats\n/save " + saved + b"\n/undo\n/reset\n/load " + saved + b"\nb\n/exit\n"),
                (["chat", g2, *plain, *how, "--json"], b"ab\na\n")]
    out += [(["show", "cache", "--cache", cache, "--check"],), (["bench", g2, "-p", "4", "-n", "2", "-r", "1", "-t", "1", *CPU, "--cache", cache],),
            (["compile", g2, "-o", plan, *CPU],), (["run", plan, "--weights", g2, *ids],), (["show", plan],), (["compile", g2, "--print", "schedules", *CPU],),
            (["exec", *graph, "--kernel", "3", *CPU, "--check", "ref"],), (["run", g2, *ids, *CPU, "--weights-type", "q4_0", "--cache", cache],),
            (["run", g2, *ids, *CPU, "--weights-type", "q4_0", "--cache", cache],), (["show", "cache", "--cache", cache, "--clear"],)]
    return out


def report(done, bad, what, began):
    print(f"{what}: {done} runs, {len(bad)} with something to say, {time.time() - began:.0f} s", flush=True)


def run_verbs(word):
    began, bad, n = time.time(), [], 0
    with tempfile.TemporaryDirectory(prefix="aquila-valgrind-") as d:
        for run in verbs(d):
            if word and not any(word in a for a in run[0]):
                continue
            said = check(*run)
            n += 1
            if sys.stdout.isatty():
                print(f"\r{n}", end="", flush=True)
            if said:
                bad.append(said)
                print(said, flush=True)
    report(n, bad, "verbs", began)
    return bad


def one_refusal(case):
    with tempfile.TemporaryDirectory(prefix="aquila-valgrind-") as d:
        return check(case[1](d), statuses=(3,))


def run_bad(word):
    began, bad, n = time.time(), [], 0
    todo = [c for c in test_bad.cases() if not word or word in str(c[0])]
    with concurrent.futures.ThreadPoolExecutor(JOBS) as pool:
        for case, said in zip(todo, pool.map(one_refusal, todo)):
            n += 1
            if said:
                bad.append(said)
                print(f"R{case[0]}: {said}", flush=True)
    report(n, bad, "refusals", began)
    return bad


if __name__ == "__main__":
    parts = {"verbs": run_verbs, "bad": run_bad}
    chosen = [a for a in sys.argv[1:] if a in parts] or list(parts)
    words = [a for a in sys.argv[1:] if a not in parts]
    if test_bad.SANITIZED:
        sys.exit("AQ_PROGRAM: a build with sanitizers: expected one without")
    sys.exit(1 if sum(len(parts[p](words[0] if words else "")) for p in chosen) else 0)
