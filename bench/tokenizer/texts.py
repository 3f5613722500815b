#!/usr/bin/env python3
"""Gathers texts for the tokenizer's bench and for `tokenize --stats`: texts.py FOLDER [CHINESE]

Writes FOLDER/{english,chinese,dense,code}.txt and .jsonl (a line {"text"} a sample of about 6000 bytes, cut at ends of lines). English: Python's own
manual (pydoc_data/topics.py), licences, READMEs and NEWS under /usr/share/doc. Code: Python's standard library. Chinese: the folder CHINESE, where
Debian's packages manpages-zh, debian-faq-zh-cn and debian-reference-zh-cn were unpacked (`apt-get download ...; dpkg -x ...`): their texts without
markup; dense: only their lines in which at least 60 of 100 characters are Chinese."""
import glob, gzip, html, json, os, re, sys, sysconfig

LIMIT = 4_000_000


def read(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as f:
        return f.read().decode("utf-8", "ignore")


def english():
    from pydoc_data.topics import topics
    out = list(topics.values())
    for pattern in ("/usr/share/common-licenses/*", "/usr/share/doc/*/README*", "/usr/share/doc/*/NEWS*"):
        for path in sorted(glob.glob(pattern)):
            if os.path.isfile(path) and not path.endswith((".html", ".pdf.gz")):
                out.append(read(path))
    return out


def code():
    return [read(p) for p in sorted(glob.glob(os.path.join(sysconfig.get_paths()["stdlib"], "*.py")))]


def without_markup(path):
    text = read(path)
    if path.endswith(".html"):
        text = html.unescape(re.sub(r"<[^>]*>", "", re.sub(r"(?s)<(script|style).*?</\1>", "", text)))
    if "/man/" in path:
        text = "\n".join(re.sub(r"\\f.|\\[-&|^]", "", l) for l in text.split("\n") if not l.startswith((".", "'")) or l.startswith((".B", ".I")))
    return re.sub(r"\n\s*\n+", "\n\n", text)


def chinese(folder):
    paths = [p for p in sorted(glob.glob(folder + "/**", recursive=True)) if os.path.isfile(p) and p.endswith((".txt.gz", ".html", ".gz", ".txt"))]
    return [without_markup(p) for p in paths if ("/man/zh_CN" in p or "zh-cn" in p) and not p.endswith(("pdf.gz", "changelog.gz", "changelog.Debian.gz"))]


def dense(texts):
    def is_dense(line):
        return line and sum("\u4e00" <= c <= "\u9fff" for c in line) >= 0.6 * len(line)
    return ["\n".join(l.strip() for l in t.split("\n") if is_dense(l.strip())) for t in texts]


def samples(text):
    out, size = [], 0
    for line in text.split("\n"):
        out.append(line)
        size += len(line.encode()) + 1
        if size >= 6000:
            yield "\n".join(out)
            out, size = [], 0


def main():
    folder = sys.argv[1]
    os.makedirs(folder, exist_ok=True)
    texts = {"english": english(), "code": code()}
    if len(sys.argv) > 2:
        texts["chinese"] = chinese(sys.argv[2])
        texts["dense"] = dense(texts["chinese"])
    for name, list_ in texts.items():
        text = "\n".join(t for t in list_ if t).encode()[:LIMIT].decode("utf-8", "ignore")
        with open(os.path.join(folder, name + ".txt"), "w") as f:
            f.write(text)
        with open(os.path.join(folder, name + ".jsonl"), "w") as f:
            for s in samples(text):
                f.write(json.dumps({"text": s}, ensure_ascii=False) + "\n")
        print(name, len(text.encode()), "bytes,", sum(1 for _ in samples(text)), "samples")


if __name__ == "__main__":
    main()
