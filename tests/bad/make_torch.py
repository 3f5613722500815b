"""make_torch.py: cases of make.py's kind: torch archives (400 to 499 of frontend/reasons.def). Zip and pickle are written by hand, byte by byte, so that
each part can be wrong."""
import struct

from make import hf

MOST = 1 << 17  # of values, items, ... in frontend/import/pickle.c


# ---- pickles ----

def text(s): return b"X" + struct.pack("<I", len(s)) + s.encode()
def whole(n): return b"J" + struct.pack("<i", n) if -1 << 31 <= n < 1 << 31 else b"\x8a\x08" + struct.pack("<q", n)
def group(*items): return b"(" + b"".join(items) + b"t"
def numbers(*n): return group(*map(whole, n))
def name(module, n): return f"c{module}\n{n}\n".encode()
def pickle(body): return b"\x80\x02" + body + b"."
def state(*pairs): return pickle(b"}(" + b"".join(pairs) + b"u")


def storage(kind="HalfStorage", key="0", n=16):
    return group(text("storage"), name("torch", kind), text(key), text("cpu"), whole(n)) + b"Q"


def tensor(store=None, offset=0, sizes=(4, 4), strides=(4, 1)):
    ordered = name("collections", "OrderedDict") + b")R"
    return name("torch._utils", "_rebuild_tensor_v2") + group(storage() if store is None else store, whole(offset), numbers(*sizes), numbers(*strides), b"\x89",
                                                              ordered) + b"R"


def one(*args, **named): return state(text("w"), tensor(*args, **named))


# ---- zip ----

class Entry:
    """Changes to one entry: any of its fields in the directory, the bytes there (central), the name in its own header (local_name)."""

    def __init__(self, name, data, **changes):
        self.name, self.local_name, self.data, self.method, self.flags, self.extra = name, None, data, 0, 0, b""
        self.packed = self.size = len(data)
        self.offset, self.align = None, 64
        self.__dict__.update(changes)


def archive(entries, count=None, disks=0, before_end=b"", directory_bytes=None):
    out, central = b"", b""
    for e in entries:
        offset, local = len(out), (e.local_name or e.name).encode()
        pad = -(len(out) + 30 + len(local)) % e.align if e.align > 1 else 1
        out += struct.pack("<IHHHHHIIIHH", 0x04034b50, 0, 0, 0, 0, 0, 0, len(e.data), len(e.data), len(local), pad) + local + bytes(pad) + e.data
        central += struct.pack("<IHHHHHHIIIHHHHHII", 0x02014b50, 0, 0, e.flags, e.method, 0, 0, 0, e.packed, e.size, len(e.name), len(e.extra), 0, 0, 0, 0,
                               offset if e.offset is None else e.offset) + e.name.encode() + e.extra
    n = len(entries) if count is None else count
    return out + central + before_end + struct.pack("<IHHHHIIH", 0x06054b50, disks, 0, n, n, len(central) if directory_bytes is None else directory_bytes,
                                                    len(out), 0)


def folder(d, data):
    return hf(d, lambda m: (setattr(m, "weights", None), m.files.update({"pytorch_model.bin": data})))


def zipped(d, entries, **changes): return folder(d, archive(entries, **changes))
def parts(data=None): return [Entry("a/data.pkl", data or one()), Entry("a/data/0", bytes(32))]


def changed(d, **changes):
    """The storage's entry with other fields."""
    return zipped(d, [Entry("a/data.pkl", one()), Entry("a/data/0", bytes(32), **changes)])


def pickled(d, data): return zipped(d, parts(data))


def make_401(d): return folder(d, archive(parts())[:-1])
def make_402(d): return zipped(d, parts(), before_end=struct.pack("<IIQI", 0x07064b50, 0, 1 << 40, 1))
def make_403(d): return zipped(d, parts(), disks=1)
def make_404(d): return zipped(d, parts(), count=3)
def make_405(d): return folder(d, archive(parts()).replace(b"PK\1\2", b"PK\1\3"))
def make_406(d): return changed(d, packed=0xffffffff)
def make_407(d): return changed(d, flags=1)
def make_408(d): return changed(d, method=8)
def make_409(d): return changed(d, size=31)
def make_410(d): return changed(d, offset=1)
def make_411(d): return changed(d, local_name="a/data/1")
def make_412(d): return changed(d, packed=1 << 20, size=1 << 20)
def make_413(d): return zipped(d, parts() + [Entry("a/data/0", bytes(32))])

def make_420(d): return pickled(d, one()[:-1])
def make_421(d): return pickled(d, b"\x80\x02X\xff\xff\0\0abc")
def make_422(d): return pickled(d, b"\x80\x02}0.")
def make_423(d): return pickled(d, b"\x80\x06}.")
def make_424(d): return pickled(d, pickle(name("os", "system") + b"X" + struct.pack("<I", 4) + b"true\x85R"))
def make_425(d): return pickled(d, pickle(b"K\1K\2\x93"))
def make_426(d): return pickled(d, b"\x80\x02c" + b"a" * 300)
def make_427(d): return pickled(d, pickle(b"K\1\x86"))
def make_428(d): return pickled(d, pickle(b"}u"))
def make_429(d): return pickled(d, pickle(b"(" * (MOST + 1)))
def make_430(d): return pickled(d, pickle(b"Nq\0" + b"h\0" * MOST))
def make_431(d): return pickled(d, pickle(b"N" * (MOST + 1)))
def make_432(d): return pickled(d, pickle(b"Nq\0]q\1" + (b"h\1(" + b"h\0" * 1000 + b"e") * (MOST // 1000 + 1)))
def make_433(d): return pickled(d, pickle(b"}r" + struct.pack("<I", MOST)))
def make_434(d): return pickled(d, pickle(b"}q\0h\1"))
def make_435(d): return pickled(d, pickle(b"(K\1K\2u"))
def make_436(d): return pickled(d, pickle(b"]K\1K\2s"))
def make_437(d): return pickled(d, pickle(b"}(K\1u"))
def make_438(d): return pickled(d, pickle(text("os.system") + b")R"))
def make_439(d): return pickled(d, pickle(name("collections", "OrderedDict") + b"]\x85R"))
def make_440(d): return pickled(d, pickle(b"K\1}b"))
def make_441(d): return pickled(d, pickle(b"K\1Q"))

def make_450(d): return folder(d, b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.")
def make_451(d): return zipped(d, [Entry("a/other.pkl", one())])
def make_452(d): return zipped(d, parts() + [Entry("b/data.pkl", one())])
def make_453(d): return zipped(d, parts() + [Entry("a/byteorder", b"big")])
def make_454(d): return pickled(d, pickle(b"K\1"))
def make_455(d): return pickled(d, state(text("epoch"), whole(3)))
def make_456(d): return pickled(d, state(text("w" * 161), tensor()))
def make_457(d): return pickled(d, state(text("w"), name("torch._utils", "_rebuild_tensor_v2") + b")R"))
def make_458(d): return pickled(d, one(numbers(1, 2, 3, 4, 5) + b"Q"))
def make_459(d): return pickled(d, one(storage(key="1")))
def make_460(d): return pickled(d, one(storage(n=17)))
def make_461(d): return pickled(d, one(strides=(1,)))
def make_462(d): return pickled(d, one(sizes=(1 << 62, 4)))
def make_463(d): return pickled(d, one(offset=1))
def make_464(d): return pickled(d, one(strides=(1, 1)))
def make_465(d): return zipped(d, [Entry("a/data.pkl", state(*(text(f"w{i}") + tensor(storage("FloatStorage", n=4096), 0, (64, 64), (1, 64)) for i in range(3)))),
                                   Entry("a/data/0", bytes(16384))])
def make_466(d): return zipped(d, [Entry("a/data.pkl", one(storage("FloatStorage"))), Entry("a/data/0", bytes(64), align=1)])
