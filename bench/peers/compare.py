#!/usr/bin/env python3
"""compare.py: aquila beside llama.cpp: same file, machine, threads and run. README.md says how and why; --help lists the options.

Order: requantise, then rounds (every contender once in each), first tokens, perplexities, table. Samples are kept, nothing is dropped.
"""
import argparse, json, math, os, platform, re, select, statistics, subprocess, sys, tempfile, time

PROMPT = " ".join((["one two three four five six seven eight nine ten"] * 4))[:154].rsplit(" ", 1)[0]  # 31 words; a start token makes 32
TESTS = [("prompt 512", 512, 0, 0), ("decode 64", 0, 64, 0), ("decode 32 behind 1024", 0, 32, 1024)]


def arguments():
    p = argparse.ArgumentParser(description="aquila beside llama.cpp, one table")
    p.add_argument("--model", required=True, help="a .gguf file")
    p.add_argument("--llama-bin", default=os.environ.get("LLAMA_BIN"), help="folder of llama-bench and the others (LLAMA_BIN)")
    p.add_argument("--aquila", default="build/release/aquila")
    p.add_argument("--work", default=os.path.join(tempfile.gettempdir(), "aquila-peers"), help="folder for the requantised model")
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--threads", default="1,2")
    p.add_argument("--activations", help="passed on to aquila")
    p.add_argument("--text", default="tests/data/essay.txt", help="for the perplexities")
    p.add_argument("--skip", default="", help="of rates,first,perplexity, by commas")
    p.add_argument("--out", help="every sample, as JSON")
    a = p.parse_args()
    if not a.llama_bin or not os.access(os.path.join(a.llama_bin, "llama-bench"), os.X_OK):
        p.error("no llama-bench: expected --llama-bin or LLAMA_BIN (see install_llamacpp.sh)")
    if not os.access(a.aquila, os.X_OK):
        p.error(f"{a.aquila}: no program: expected a release build")
    return a


def said(text):
    print(text, file=sys.stderr, flush=True)


class Contender:
    """name, the file it runs, and how: rates(test, threads) gives {setting: tokens/s}, first(threads) a command line."""

    def __init__(self, a, name, model):
        self.a, self.name, self.model = a, name, model

    def run(self, args, **more):
        env = dict(os.environ, LD_LIBRARY_PATH=self.a.llama_bin + ":" + os.environ.get("LD_LIBRARY_PATH", ""))
        r = subprocess.run(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env, **more)
        if r.returncode:
            sys.exit(f"{' '.join(args)}: exit {r.returncode}\n{r.stderr.decode(errors='replace')[-2000:]}")
        return r


class Ours(Contender):
    def more(self):
        return ["--activations", self.a.activations] if self.a.activations else []

    def rates(self, test, threads):
        _, p, n, d = test
        r = self.run([self.a.aquila, "bench", self.model, "-p", str(p), "-n", str(n), "-d", str(d), "-t", str(threads), "-r", "1", "--json", *self.more()])
        rows = [x for x in json.loads(r.stdout)["results"] if x["n_prompt"] == p and x["n_gen"] == n]
        return {"": rows[0]["tokens_per_s"]}

    def first(self, threads):
        return [self.a.aquila, "run", self.model, PROMPT, "-n", "1", "--temperature", "0", "--template", "none", "-t", str(threads), *self.more()]

    def version(self):
        return "aquila " + subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True).stdout.strip()

    def perplexity(self, threads):
        ids = [int(x) for x in self.run([self.a.aquila, "tokenize", self.model, "--file", self.a.text]).stdout.split()]
        total, count = 0.0, 0
        for at in range(0, len(ids) - 511, 512):
            piece = ",".join(map(str, ids[at:at + 512]))
            r = self.run([self.a.aquila, "score", self.model, "--prompt-ids", piece, "--json", "-t", str(threads), *self.more()])
            part = json.loads(r.stdout)["logprobs"][257:512]
            total, count = total - sum(part), count + len(part)
        return math.exp(total / count)


class Theirs(Contender):
    def tool(self, name):
        return os.path.join(self.a.llama_bin, name)

    def rates(self, test, threads):
        _, p, n, d = test
        r = self.run([self.tool("llama-bench"), "-m", self.model, "-p", str(p), "-n", str(n), "-d", str(d), "-t", str(threads), "-fa", "0,1", "-r", "1", "-o", "jsonl"])
        rows = [json.loads(x) for x in r.stdout.splitlines() if x.startswith(b"{")]
        return {"-fa " + str(int(x["flash_attn"])) if str(x["flash_attn"]).isdigit() or isinstance(x["flash_attn"], bool) else "-fa " + str(x["flash_attn"]): x["avg_ts"] for x in rows}

    def first(self, threads):
        return [self.tool("llama-completion"), "-m", self.model, "-p", PROMPT, "-n", "1", "-t", str(threads), "-c", "512", "-no-cnv", "--no-display-prompt", "--no-warmup"]

    def version(self):
        r = self.run([self.tool("llama-bench"), "--version"])
        return "llama.cpp " + (r.stdout + r.stderr).decode().splitlines()[0].replace("version: ", "")

    def perplexity(self, threads):
        r = self.run([self.tool("llama-perplexity"), "-m", self.model, "-f", self.a.text, "-c", "512", "-t", str(threads)])
        return float(re.search(r"Final estimate: PPL = ([0-9.]+)", (r.stdout + r.stderr).decode()).group(1))


def requantised(a):
    """The model as Q4_0, once."""
    os.makedirs(a.work, exist_ok=True)
    to = os.path.join(a.work, os.path.splitext(os.path.basename(a.model))[0] + "-as-Q4_0.gguf")
    if not os.path.exists(to):
        said(f"requantising to {to}")
        Theirs(a, "", "").run([os.path.join(a.llama_bin, "llama-quantize"), "--allow-requantize", a.model, to + ".part", "Q4_0"])
        os.rename(to + ".part", to)
    return to


def time_to_first_byte(contender, threads):
    env = dict(os.environ, LD_LIBRARY_PATH=contender.a.llama_bin + ":" + os.environ.get("LD_LIBRARY_PATH", ""))
    start = time.perf_counter()
    p = subprocess.Popen(contender.first(threads), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=env)
    byte = os.read(p.stdout.fileno(), 1)
    seconds = time.perf_counter() - start
    p.stdout.read()
    if p.wait() or not byte:
        sys.exit(f"{contender.name}: no first token (exit {p.returncode})")
    return seconds


def processor():
    text = open("/proc/cpuinfo").read() if os.path.exists("/proc/cpuinfo") else ""
    field = lambda k: (re.search(rf"^{k}\s*: (.*)$", text, re.M) or [None, "?"])[1]
    return f"{field('model name')} (family {field('cpu family')}, model {field('model')}), {os.cpu_count()} processors, {platform.system()} {platform.release()}"


def better(samples):
    """{setting: [values]} to the values of the setting with the best median."""
    return max(samples.values(), key=statistics.median)


def measure(a, contenders, threads, done):
    for r in range(a.rounds if "rates" not in a.skip else 0):
        for t in threads:
            for test in TESTS:
                for c in contenders:
                    for setting, x in c.rates(test, t).items():
                        done["rates"].setdefault(test[0], {}).setdefault(str(t), {}).setdefault(c.name, {}).setdefault(setting, []).append(x)
        said(f"round {r + 1} of {a.rounds}, load {os.getloadavg()[0]:.1f}")
    for r in range(a.rounds + 1 if "first" not in a.skip else 0):  # the first warms caches and is dropped
        for t in threads:
            for c in contenders:
                s = time_to_first_byte(c, t)
                if r:
                    done["first"].setdefault(str(t), {}).setdefault(c.name, []).append(s)
    for c in contenders if "perplexity" not in a.skip else []:
        done["perplexity"][c.name] = c.perplexity(threads[-1])


def row(label, t, values, names, low_is_good, perplexity):
    """median (best) of each, then ours against each of theirs by best samples."""
    best = {n: (min if low_is_good else max)(values[n]) for n in names}
    shown = [f"{statistics.median(values[n]):.4g} ({best[n]:.4g})" for n in names]
    ratio = [f"{best[n] / best[names[0]] if low_is_good else best[names[0]] / best[n]:.2f}" for n in names[1:]]
    return f"| {label} | {t} | " + " | ".join(shown + ratio) + " |"


def table(done, names):
    print(f"{done['processor']}\n{done['when']}; {'; '.join(done['versions'])}; load {done['load'][0]:.1f} to {done['load'][1]:.1f}\n")
    print("Tokens a second: median (best). Ratios: ours by theirs, best samples.\n")
    head = ["test", "threads", *names, *[f"against {n}" for n in names[1:]]]
    print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
    for test, by_threads in done["rates"].items():
        for t, by_name in by_threads.items():
            print(row(test, t, {n: better(by_name[n]) for n in names}, names, False, None))
    for t, by_name in done["first"].items():
        print(row("first token, s", t, by_name, names, True, None))
    if done["perplexity"]:
        print("| perplexity | | " + " | ".join(f"{done['perplexity'][n]:.3f}" for n in names) + " |" + " |" * (len(names) - 1))


def main():
    a = arguments()
    threads = [int(t) for t in a.threads.split(",")]
    kind = os.path.basename(a.model).split(".")[-2] if a.model.count(".") > 1 else "the file"
    contenders = [Ours(a, f"aquila {kind}", a.model), Theirs(a, f"llama.cpp {kind}", a.model), Theirs(a, "llama.cpp Q4_0", requantised(a))]
    load = os.getloadavg()[0]
    done = {"processor": processor(), "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()), "versions": [c.version() for c in contenders[:2]],
            "model": os.path.basename(a.model), "rates": {}, "first": {}, "perplexity": {}}
    measure(a, contenders, threads, done)
    done["load"] = [load, os.getloadavg()[0]]
    table(done, [c.name for c in contenders])
    if a.out:
        with open(a.out, "w") as f:
            json.dump(done, f, indent=1)
            f.write("\n")


if __name__ == "__main__":
    main()
