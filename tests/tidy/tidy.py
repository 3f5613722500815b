#!/usr/bin/env python3
"""tidy.py: what the house asks of its own source, checked. Prints TAP: "ok NAME" or "not ok NAME: what and where".

Only files that git knows are looked at. Order: collect files, then one function a check; each yields "FILE:LINE: what is wrong".
Comments and strings are blanked first, so a rule never fires on prose. tidy.py --self-test shows each check red once.
"""
import os, re, subprocess, sys
from collections import Counter

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

# Which folder may include which: includes point one way. Longest prefix wins. A value names folders or single headers.
RUNTIME_MAY = ["runtime"] + ["ir/%s.h" % h for h in "status memory arena file clock random dtype plan layout".split()] + [
    "ir/%s.def" % d for d in "dtype layout batch".split()]
LAYERS = {
    "ir": ["ir"],
    "passes": ["passes", "ir"],
    "codegen": ["codegen", "ir"],
    "runtime": RUNTIME_MAY,
    "frontend": ["frontend", "passes", "codegen", "runtime", "ir"],
    "tests": ["tests", "frontend", "passes", "codegen", "runtime", "ir"],
    "bench": ["bench", "tests", "frontend", "passes", "codegen", "runtime", "ir"],
}
# The public headers, and the headers of ours that they need.
PUBLIC = ["frontend/aquila.h", "runtime/aquila_rt.h", "ir/status.h", "ir/arena.h"]
# Third-party headers and the one place each may be used in.
FOREIGN = {
    "cjson/": "frontend/", "utf8proc.h": "frontend/", "pcre2.h": "frontend/tokenizer/", "histedit.h": "frontend/cli/", "editline/": "frontend/cli/",
    "llvm-c/": "codegen/cpu/", "sqlite3.h": "codegen/", "cuda": "runtime/cuda/", "nvrtc": "codegen/cuda/", "mpi.h": "runtime/",
    "cmocka.h": "tests/",
}
# The doors: what may be called in one file only.
DOORS = {
    r"malloc|calloc|realloc|free|aligned_alloc|posix_memalign|strdup|strndup|asprintf|vasprintf|getline|getdelim": ["ir/memory.c"],
    r"mmap|munmap|mremap": ["ir/memory.c", "ir/file_call.c", "runtime/cpu/load.c"],
    r"fopen|freopen|open|openat|creat|unlink|rename|mkdir|fdopen|opendir|tmpfile|mkstemp|stat|lstat": ["ir/file_call.c", "ir/folder.c"],
    r"time|clock|clock_gettime|gettimeofday|localtime|gmtime": ["ir/clock.c"],
    r"rand|srand|random|srandom|drand48|getrandom": ["ir/random.c"],
    r"getenv|secure_getenv|setenv|putenv": ["frontend/cli/switches.c"],
    r"gets|strcpy|strcat|sprintf|vsprintf|strtok|alloca|system|popen": [],
}
MAX_FUNCTION, LONG_FUNCTION, MAX_FILE = 100, 70, 400
MAX_BYTES = 2 << 20
ROOT_ENTRIES = {"README.md", "LICENSE", "CMakeLists.txt", "CMakePresets.json", ".ci", ".clang-format", ".clang-tidy", ".gitignore",
                "frontend", "ir", "passes", "codegen", "runtime", "models", "tests", "bench"}
TEXT = (".c", ".h", ".def", ".cu", ".cuh", ".py", ".sh", ".md", ".aq", ".txt", ".json", ".cmake")


def code_only(text):
    """The same text with comments and string and character constants blanked, lines kept."""
    def blank(m):
        s = m.group(0)
        return s if s[0] not in "/\"'" else re.sub(r"[^\n]", " ", s) if s[0] == "/" else s[0] + re.sub(r"[^\n]", " ", s[1:-1]) + s[-1]
    return re.sub(r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', blank, text, flags=re.S)


class Tree:
    """Files git knows, read once. A self-test hands in its own dictionary instead."""

    def __init__(self, files=None):
        if files is None:
            names = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, check=True).stdout.decode().split("\0")
            files = {}
            for n in names:
                path = os.path.join(ROOT, n)
                if n and os.path.isfile(path):
                    with open(path, "rb") as f:
                        files[n] = f.read()
        self.bytes = files
        self.text = {n: b.decode("utf-8", "replace") for n, b in files.items() if n.endswith(TEXT)}
        self.code = {n: code_only(t) for n, t in self.text.items() if n.endswith((".c", ".h", ".cu", ".cuh"))}

    def ours(self):
        return {n: c for n, c in self.code.items() if not n.startswith(("tests/", "bench/"))}


def includes(tree):
    for name, text in tree.text.items():
        if name.endswith((".c", ".h")):
            for m in re.finditer(r'^[ \t]*#[ \t]*include[ \t]*(["<])([^">]+)[">]', text, re.M):
                yield name, text.count("\n", 0, m.start()) + 1, m.group(1), m.group(2)


def layers(tree):
    for name, line, kind, what in includes(tree):
        folder = name.split("/")[0]
        if kind == "<":
            for header, where in FOREIGN.items():
                if what.startswith(header) and not name.startswith((where, "tests/", "bench/")):
                    yield f"{name}:{line}: <{what}> belongs to {where} only"
        elif name in PUBLIC and what not in PUBLIC:
            yield f"{name}:{line}: a public header includes {what}: only the C library is allowed there"
        elif folder in LAYERS and not any(what == ok or what.startswith(ok + "/") for ok in LAYERS[folder]):
            yield f"{name}:{line}: {folder}/ may not include {what}: layers point one way"


def includes_from_root(tree):
    for name, line, kind, what in includes(tree):
        if kind == '"' and what not in tree.bytes and not name.startswith("tests/"):
            yield f'{name}:{line}: "{what}" is no file of the repository, counted from its root'


def functions(name, code):
    """(line, lines, name, static) of every function: a head that starts in column 0 and ends in '{', up to the next '}' there."""
    lines = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", code).split("\n")
    start = head = None
    for i, s in enumerate(lines):
        if start is not None:
            if s.startswith("}"):
                if head:
                    yield start + 1, i - start + 1, head[0], head[1]
                start = head = None
        elif s[:1] not in (" ", "\t", "#", "}", "", "\\") or s.startswith("{"):
            first = i
            while first > 0 and lines[first - 1].strip() and not re.search(r"[;}\\]\s*$|^\s*#", lines[first - 1]) and i - first < 6:
                first -= 1
            if s.rstrip().endswith("{"):
                text = " ".join(lines[first:i + 1])
                m = re.search(r"(\w+)\s*\(", text)
                is_function = m and not re.match(r"\s*(typedef|struct \w+ {|enum|union)\b", text) and not re.search(r"=\s*{\s*$", text)
                start, head = first, ((m.group(1), bool(re.search(r"\b(static|INLINE)\b", text))) if is_function else None)
        elif s.rstrip().endswith("{") and i > 0 and lines[i - 1][:1] not in (" ", "\t", "#", "}", "") and "(" in lines[i - 1] and ")" in s:
            text = lines[i - 1] + " " + s   # a head broken over two lines
            m = re.search(r"(\w+)\s*\(", text)
            start, head = i - 1, (m.group(1), bool(re.search(r"\b(static|INLINE)\b", text)))


def function_length(tree):
    for name, code in tree.ours().items():
        if name.endswith((".c", ".cu")):
            for line, n, function, _ in functions(name, code):
                if n > MAX_FUNCTION:
                    yield f"{name}:{line}: {function} has {n} lines: at most {MAX_FUNCTION}"


def file_length(tree):
    for name in tree.ours():
        n = tree.text[name].count("\n")
        if n > MAX_FILE:
            yield f"{name}:{n}: {n} lines: at most {MAX_FILE}, split it by idea"


def doors(tree):
    for names, where in DOORS.items():
        call = re.compile(r"(?<![\w.>])(?:%s)\s*\(" % names)
        for name, code in tree.ours().items():
            if name in where:
                continue
            own = {f for _, _, f, static in functions(name, code) if static}   # statics are bare verbs: open(), free() ...
            for m in call.finditer(code):
                if m.group(0).rstrip("( \t") in own:
                    continue
                yield f"{name}:{code.count(chr(10), 0, m.start()) + 1}: {m.group(0)}...): only {' or '.join(where) or 'nobody'} may call it"


def unfinished(tree):
    word = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
    for name, text in tree.text.items():
        if name.startswith("tests/data/") or name.endswith(".txt") and name.startswith("bench/"):
            continue
        for m in word.finditer(text):
            yield f"{name}:{text.count(chr(10), 0, m.start()) + 1}: {m.group(0)}: nothing is left open in the tree"


def comment_first(tree):
    for name, text in tree.text.items():
        if name.endswith((".c", ".h", ".def", ".cu", ".cuh")) and not re.match(r"\s*/[*/]", text):
            yield f"{name}:1: a file opens with what it is for"


def header_guards(tree):
    for name, text in tree.text.items():
        if name.endswith(".h"):
            want = "AQ_" + re.sub(r"\W", "_", name).upper()
            m = re.search(r"^#ifndef (\w+)\n#define (\w+)", text, re.M)
            if not m or m.group(1) != m.group(2):
                yield f"{name}:1: no include guard (such as {want})"


def type_names(tree):
    for name, code in tree.ours().items():
        for m in re.finditer(r"\btypedef\b[^;{]*\b(\w+_t)\s*;|}\s*(\w+_t)\s*;", code):
            yield f"{name}:{code.count(chr(10), 0, m.start()) + 1}: {m.group(1) or m.group(2)}: _t belongs to the C library"


def linked_names(tree):
    """A function that is not static is called aq_..., main apart."""
    for name, code in tree.ours().items():
        if name.endswith(".c"):
            for line, _, function, static in functions(name, code):
                if not static and not re.match(r"(aq_|main$|[A-Z_]+$)", function):
                    yield f"{name}:{line}: {function} is linked but not called aq_..."


def tables(tree):
    """A .def file is a list; no two of its rows may share the first cell, and no other file may hold the same list again."""
    for name, text in tree.text.items():
        if not name.endswith(".def"):
            continue
        code = code_only(text)
        rows = re.findall(r"^([A-Z]\w*)\(\s*(\w+)", code, re.M)
        for (macro, first), n in Counter(rows).items():
            if n > 1 and macro not in ("OPTION",):
                yield f"{name}:1: {macro}({first}, ...) stands there {n} times"
        macros = Counter(m for m, _ in rows)
        for macro, n in macros.items():
            cells = [f for m, f in rows if m == macro and len(f) > 3]
            if n < 5 or len(cells) < 5:
                continue
            for other, c in tree.ours().items():
                if other == name or other.endswith(".def"):
                    continue
                listed = re.compile(r"(?:[\"\s](?:%s)\"?\s*,\s*){5}" % "|".join(map(re.escape, cells)))
                m = listed.search(tree.text[other])
                if m:
                    yield f"{other}:{tree.text[other].count(chr(10), 0, m.start()) + 1}: repeats rows of {name}: include the table"


def size_and_kind(tree):
    for name, b in tree.bytes.items():
        if len(b) > MAX_BYTES:
            yield f"{name}: {len(b)} bytes: at most {MAX_BYTES}"
        if b[:4] in (b"\x7fELF", b"!<ar", b"GGUF") and not name.startswith(("tests/fuzz/corpus/", "tests/data/")):
            yield f"{name}: a binary in git"
        if name.endswith(TEXT) and b"\0" in b[:4096] and not name.startswith("tests/fuzz/corpus/"):
            yield f"{name}: NUL bytes in a text file"


def root_entries(tree):
    for entry in sorted({n.split("/")[0] for n in tree.bytes} - ROOT_ENTRIES):
        yield f"{entry}: the root holds only what design names"


def white_space(tree):
    for name, text in tree.text.items():
        if name.startswith(("tests/fuzz/corpus/", "tests/data/")):
            continue
        for i, s in enumerate(text.split("\n"), 1):
            if s != s.rstrip() and not name.endswith(".md"):
                yield f"{name}:{i}: white space at the end of the line"
            if "\t" in s and name.endswith((".c", ".h", ".py")):
                yield f"{name}:{i}: a tab"
        if text and not text.endswith("\n"):
            yield f"{name}: no newline at the end"


CHECKS = [layers, includes_from_root, function_length, file_length, doors, unfinished, comment_first, header_guards, type_names,
          linked_names, tables, size_and_kind, root_entries, white_space]

# For the self-test: per check one file that must be refused.
BAD = {
    layers: {"ir/a.c": '#include "passes/b.h"\n'},
    includes_from_root: {"ir/a.c": '#include "b.h"\n', "ir/b.h": ""},
    function_length: {"ir/a.c": "int aq_a(void) {\n" + "    ;\n" * 120 + "}\n"},
    file_length: {"ir/a.c": "\n" * 500},
    doors: {"ir/a.c": "int aq_a(void) {\n    return malloc (3) != 0;\n}\n"},
    unfinished: {"ir/a.c": "/* TO" "DO: all of it */\n"},
    comment_first: {"ir/a.c": "int aq_a;\n"},
    header_guards: {"ir/a.h": "/* a */\nint aq_a;\n"},
    type_names: {"ir/a.h": "typedef int aq_a_t;\n"},
    linked_names: {"ir/a.c": "int a(void) {\n    return 0;\n}\n"},
    tables: {"ir/a.def": "".join(f"OP({w}, 1)\n" for w in "alpha beta gamma delta epsilon".split()),
             "ir/a.c": 'x = {"alpha", "beta", "gamma", "delta", "epsilon", };\n'},
    size_and_kind: {"ir/a": b"\x7fELF"},
    root_entries: {"stray.c": ""},
    white_space: {"ir/a.c": "int x; \n"},
}


def report(name, found):
    found = sorted(found)
    print(f"ok {name}" if not found else f"not ok {name}: {len(found)}")
    for line in found[:25]:
        print("    " + line)
    if len(found) > 25:
        print(f"    ... and {len(found) - 25} more")
    return not found


def self_test():
    blind = [c.__name__ for c in CHECKS if not list(c(Tree({n: b.encode() if isinstance(b, str) else b for n, b in BAD[c].items()})))]
    return report("self_test", [f"{n} does not see what it is for" for n in blind])


def main():
    tree = Tree()
    good = [self_test()] + [report(c.__name__, c(tree)) for c in CHECKS]
    sizes = sorted((n, f, name) for name, code in tree.ours().items() if name.endswith((".c", ".cu")) for _, n, f, _ in functions(name, code))
    if sizes:
        over = [f"{f} {n} ({name})" for n, f, name in reversed(sizes) if n > LONG_FUNCTION]
        print(f"functions: {len(sizes)}, median {sizes[len(sizes) // 2][0]} lines, over {LONG_FUNCTION}: {len(over)} {', '.join(over[:8])}")
    print(f"1..{len(good)}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())
