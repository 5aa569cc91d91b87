# Commands for GDB that look at a heap of Cairn's, in a process or a core dump:
#
#     cairn heap           what the heap consists of, and how collections go
#     cairn object ADDR    the object that ADDR points into: kind, type, size, state
#     cairn holders ADDR   who refers to it: objects, frames, static data, registered roots
#     cairn threads        the threads that the heap knows
#
# Load it with `source cairn-gdb.py`.  Needs the library's debugging information (gcc -g), and reads
# memory only: nothing of the program runs.  A core dump has the heap in it only if the program ran
# with CAIRN_DUMP_HEAP=1.  The manual is docs/debugging.md.

from array import array
import re

import gdb

# What gc/types.h has as macros, which debugging information leaves out.
GRANULE = 16
BLOCK_SHIFT = 16
BLOCK = 1 << BLOCK_SHIFT
BLOCK_GRANULES = BLOCK // GRANULE
START, END, MARK, PINNED, HELD, MOVED, KEYED = 1, 2, 4, 8, 16, 32, 64
USE, TYPED, LEAF, YOUNG, UNSWEPT, CLOSED = 3, 4, 8, 16, 32, 64
FREE, BUMP, CELLS, LARGE = range(4)
QUARANTINE = 0xfa
NONE = 0xffffffff
HOT_TYPES = 16
# What gc/ephemeron.h says of entries: by enum gci_weak, what keeps the key and the value.
ENTRY = 32
KEPT = {1: ("weak", "kept by its key"), 2: ("kept by its value", "weak"), 3: ("weak", "weak")}
# enum gci_watch_kind
WATCH_FINALIZER, WATCH_GUARDED = 1, 2


class Missing(gdb.GdbError):
    pass


def read(address, size):
    """SIZE bytes at ADDRESS."""
    try:
        return gdb.selected_inferior().read_memory(address, size).tobytes()
    except gdb.MemoryError:
        raise Missing("the memory at %#x can't be read; a core dump has the heap in it only if the "
                      "program ran with CAIRN_DUMP_HEAP=1" % address)


def words_at(address, size):
    words = array("Q")
    words.frombytes(read(address, size - size % 8))
    return words


def text(value):
    return value.string(errors="replace")


def amount(size):
    for unit in ("bytes", "KiB", "MiB"):
        if size < 10240:
            break
        size /= 1024
    else:
        unit = "GiB"
    return "%d %s" % (size, unit)


class Heap:
    """The default heap, as its structures say."""

    def __init__(self):
        try:
            heap = gdb.parse_and_eval("default_heap")
        except gdb.error:
            raise gdb.GdbError("no heap of Cairn's: the program isn't started, or the library was "
                               "built without debugging information")
        if heap.type.code != gdb.TYPE_CODE_PTR or int(heap) == 0:
            raise gdb.GdbError("there is no heap yet: gc_init() or the first allocation makes it")
        self.heap = heap.dereference()
        self.arena = self.heap["arena"]
        self.base = int(self.arena["base"])
        self.frontier = int(self.arena["frontier"])
        self.used = self.frontier << BLOCK_SHIFT
        self.page_shift = int(self.arena["page_shift"])
        self.guard = int(self.arena["guard_pages"])
        self.side = int(self.arena["side"])
        self.tags = read(int(self.arena["tags"]), self.frontier) if self.frontier else b""
        self.sides = {}

    def address(self, granule):
        return self.base + granule * GRANULE

    def side_bytes(self, block):
        if block not in self.sides:
            self.sides[block] = read(self.side + block * BLOCK_GRANULES, BLOCK_GRANULES)
        return self.sides[block]

    def page(self, number):
        return self.arena["pages"][number]

    def find_large(self, offset):
        """The first granule and the bytes of the large object at OFFSET, or None."""
        number = offset >> self.page_shift
        head = int(self.page(number)["head"])
        pages = int(self.page(head)["pages"]) if head <= number else 0
        if number - head + self.guard >= pages:
            return None
        skew = int(self.page(head + pages - 1)["next"]) if self.guard else 0
        first = (head << self.page_shift) // GRANULE + skew
        if offset // GRANULE < first:
            return None
        end = (head + pages - self.guard) << self.page_shift
        return first, end - first * GRANULE

    def find(self, address):
        """The first granule and the bytes of the live object that ADDRESS is in, or None."""
        offset = address - self.base
        if not 0 <= offset < self.used:
            return None
        block, granule = offset >> BLOCK_SHIFT, offset // GRANULE
        tag = self.tags[block]
        if tag & USE == FREE:
            return None
        if tag & USE == LARGE:
            return self.find_large(offset)
        side, first = self.side_bytes(block), block * BLOCK_GRANULES
        at = granule - first
        while not side[at] & START:
            if at == 0 or side[at - 1] & END:
                return None
            at -= 1
        if tag & UNSWEPT and not side[at] & MARK:
            return None
        end = at
        while end < BLOCK_GRANULES - 1 and not side[end] & END:
            end += 1
        return first + at, (end - at + 1) * GRANULE

    def side_byte(self, granule):
        return self.side_bytes(granule // BLOCK_GRANULES)[granule % BLOCK_GRANULES]

    def tag(self, granule):
        return self.tags[granule // BLOCK_GRANULES]

    def type(self, granule):
        """The type that is recorded of a typed object, a struct gci_type *; None if it has none."""
        types = int(self.arena["types"])
        number = read(types + granule, 1)[0]
        if not 1 <= number <= HOT_TYPES and not self.side_byte(granule) & END:
            number |= read(types + granule + 1, 1)[0] << 8
        found = self.heap["types"]["table"][number]
        return found if int(found) else None

    def describe(self, granule, size):
        """The object in a few words."""
        tag = self.tag(granule)
        if tag & TYPED:
            found = self.type(granule)
            what = text(found["desc"]["name"]) if found is not None else "no type"
            if found is not None and size // GRANULE > int(found["granules"]):
                what += "[]"
        else:
            what = "leaf" if tag & LEAF else "ambiguous"
        return "%#x, %s, %d bytes" % (self.address(granule), what, size)

    def field(self, granule, offset):
        """What the word at OFFSET of an object is called."""
        found = self.type(granule) if self.tag(granule) & TYPED else None
        weak = int(found["weak"]) if found is not None else 0
        if weak and offset % ENTRY < 16:
            part = offset % ENTRY // 8
            return "%s of entry %d, %s" % (
                ("key", "value")[part], offset // ENTRY, KEPT[weak][part])
        if found is not None and int(found["count"]):
            each, names = int(found["size"]), found["desc"]["fields"]
            for i in range(int(found["count"])):
                if int(found["offsets"][i]) != offset % each:
                    continue
                name = text(names).split(",")[i].strip() if int(names) else ""
                element = " of element %d" % (offset // each) if offset >= each else ""
                return "%s%s at +%d" % ("field " + name if name else "word", element, offset)
        return "word at +%d" % offset

    def mutators(self):
        at = self.heap["world"]["first"]
        while int(at):
            yield at.dereference()
            at = at["next"]


def parse_address(argument):
    if not argument.strip():
        raise gdb.GdbError("expected an address, or an expression for one")
    return int(gdb.parse_and_eval(argument).cast(gdb.lookup_type("unsigned long")))


def find_or_fail(heap, address):
    found = heap.find(address)
    if found is None:
        offset = address - heap.base
        if not 0 <= offset < heap.used:
            raise gdb.GdbError("%#x is not in the heap, which is [%#x, %#x)" % (
                address, heap.base, heap.base + heap.used))
        tag = heap.tags[offset >> BLOCK_SHIFT]
        raise gdb.GdbError("%#x is in no live object: %s" % (
            address, "its block is free" if tag & USE == FREE else "what was there is dead, or it "
            "is between objects"))
    return found


class Cairn(gdb.Command):
    """Looks at a heap of Cairn's: cairn heap, object, holders, threads."""

    def __init__(self):
        super().__init__("cairn", gdb.COMMAND_DATA, gdb.COMPLETE_NONE, True)


class CairnHeap(gdb.Command):
    """cairn heap: what the heap consists of, and how collections go."""

    def __init__(self):
        super().__init__("cairn heap", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        h = Heap()
        heap, policy = h.heap, h.heap["policy"]
        uses, states = {}, {}
        for tag in h.tags:
            kind = "typed" if tag & TYPED else "leaf" if tag & LEAF else "ambiguous"
            use = ("free", "bump", "cells", "large")[tag & USE]
            key = use if use == "free" else use + ", " + kind
            uses[key] = uses.get(key, 0) + 1
            for bit, name in ((YOUNG, "young"), (UNSWEPT, "unswept"), (CLOSED, "closed")):
                if tag & bit and tag & USE != FREE:
                    states[name] = states.get(name, 0) + 1
        print("heap at %#x: %d blocks of 64 KiB from %#x" % (int(heap.address), h.frontier, h.base))
        for key in sorted(uses):
            print("  %-18s %7d blocks, %s" % (key, uses[key], amount(uses[key] << BLOCK_SHIFT)))
        print("  of those in use: " + (", ".join(
            "%d %s" % (states[name], name) for name in sorted(states)) or "none young or old"))
        quarantined = int(h.arena["quarantine"]["count"])
        if quarantined:
            print("  in quarantine: %d" % quarantined)
        print("live after the last collection: %s; allocated since: %s and what threads have not "
              "told" % (amount(int(heap["live_bytes"])), amount(int(heap["allocated_since"]))))
        print("nursery %s, full collection at %s, %s%s" % (
            amount(int(policy["nursery"])), amount(int(policy["full_threshold"])),
            "generational" if policy["generational"] else "full only",
            ", disabled %d times" % int(heap["disabled"]) if int(heap["disabled"]) else ""))
        minor, full = heap["minor_pauses"], heap["full_pauses"]
        print("collections: %d (%d minor, %d full), pauses up to %d and %d us" % (
            int(heap["collections"]), int(minor["count"]), int(full["count"]),
            int(minor["max"]) // 1000, int(full["max"]) // 1000))
        world = heap["world"]
        print("threads: %d; the world is %s" % (
            int(world["count"]), "stopped" if world["stopped"] else "running"))
        types = heap["types"]
        if int(types):
            print("types: %d, %d of them hot" % (int(types["count"]), int(types["hot"])))


class CairnObject(gdb.Command):
    """cairn object ADDR: the object that ADDR points into."""

    def __init__(self):
        super().__init__("cairn object", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        h, address = Heap(), parse_address(argument)
        granule, size = find_or_fail(h, address)
        tag, side = h.tag(granule), h.side_byte(granule)
        print(h.describe(granule, size))
        print("  kind: %s, %s" % (
            "typed" if tag & TYPED else "leaf" if tag & LEAF else "ambiguous",
            ("", "small", "in a cell", "large")[tag & USE]))
        states = ["old" if side & MARK else "young"]
        for bit, name in ((PINNED, "pinned"), (HELD, "held in place"), (KEYED, "hashed or watched")):
            if side & bit:
                states.append(name)
        if side & MOVED:
            states.append("moved to %#x" % words_at(h.address(granule), 8)[0])
        if tag & CLOSED:
            states.append("in a closed block")
        print("  state: " + ", ".join(states))
        if address != h.address(granule):
            print("  the address is %d bytes into it" % (address - h.address(granule)))


class CairnHolders(gdb.Command):
    """cairn holders ADDR: all words that refer into the object that ADDR points into.
Objects that hold none of their own are passed over; of typed ones all words are looked at, the
fields and the rest."""

    def __init__(self):
        super().__init__("cairn holders", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        h = Heap()
        granule, size = find_or_fail(h, parse_address(argument))
        self.low, self.high, self.count = h.address(granule), h.address(granule) + size, 0
        print("words that refer into " + h.describe(granule, size))
        for block in range(h.frontier):
            tag = h.tags[block]
            if tag & USE != FREE and not tag & LEAF:
                self.search_block(h, block)
        self.search_roots(h)
        print("%d found" % self.count)

    def search(self, address, words, name):
        low, high = self.low, self.high
        for i, word in enumerate(words):
            if low <= word < high:
                where = name(address + i * 8)
                if where is not None:
                    self.count += 1
                    print("  %#x: %s" % (address + i * 8, where))

    def search_block(self, h, block):
        start = h.base + block * BLOCK

        def name(address):
            found = h.find(address)
            if found is None:
                return None
            return "%s, %s" % (h.describe(*found),
                               h.field(found[0], address - h.address(found[0])))

        if h.guard and h.tags[block] & USE == LARGE:
            step = 1 << h.page_shift  # guard pages can't be read, in a process neither
        else:
            step = BLOCK
        for at in range(start, start + BLOCK, step):
            try:
                words = words_at(at, step)
            except Missing:
                if step == BLOCK:
                    raise
                continue
            self.search(at, words, name)

    def search_range(self, start, end, name):
        start = (start + 7) & ~7
        while start < end:
            size = min(end - start, 1 << 20) & ~7
            if size == 0:
                return
            try:
                self.search(start, words_at(start, size), name)
            except Missing:
                pass
            start += size

    def search_roots(self, h):
        segments = h.heap["static_roots"]
        for i in range(int(segments["count"])):
            segment = segments["segments"][i]
            self.search_range(int(segment["start"]), int(segment["end"]), self.name_static)
        ranges = h.heap["ranges"]
        for i in range(int(h.heap["range_count"])):
            start = int(ranges[i]["start"])
            what = "slots" if ranges[i]["precise"] else "range"
            self.search_range(start, start + int(ranges[i]["bytes"]),
                              lambda a: "%s at %#x" % (what, start))
        self.search_handles(h)
        self.search_watches(h)
        self.search_stacks(h)

    def search_watches(self, h):
        watches = h.heap["watches"]
        if not int(watches):
            return

        def look(word, what):
            if self.low <= int(word) < self.high:
                self.count += 1
                print("  %#x: %s" % (int(word.address), what))

        def look_at_queue(queue, what):
            watch = queue["first"]
            while int(watch):
                look(watch["object"], what)
                guarded = int(watch["kind"]) == WATCH_GUARDED
                watch = watch["guarded" if guarded else "finalizer"]["next_ready"]

        look_at_queue(watches["ready"], "waits for its finalizer")
        guardian = watches["guardians"]
        while int(guardian):
            look_at_queue(guardian["ready"], "in the queue of a guardian")
            guardian = guardian["next"]
        seen = set()
        for name in ("recent", "with_data"):
            for i in range(int(watches[name + "_count"])):
                watch = watches[name][i]
                if int(watch["kind"]) == WATCH_FINALIZER and int(watch) not in seen:
                    seen.add(int(watch))
                    look(watch["finalizer"]["data"], "data of the finalizer of %#x" %
                         int(watch["object"]))

    def search_handles(self, h):
        chunk = h.heap["handle_chunks"]
        while int(chunk):
            self.search_range(int(chunk), int(chunk) + (64 << 10), lambda a: "a handle")
            chunk = chunk.dereference()["next"]

    def name_static(self, address):
        said = gdb.execute("info symbol %#x" % address, to_string=True).strip()
        if said.startswith("No symbol"):
            return "static data"
        return "static variable " + re.sub(r" in section \S+", "", said)

    def search_stacks(self, h):
        stacks = {int(m["tid"]): int(m["stack"]["high"]) for m in h.mutators()}
        selected = gdb.selected_thread()
        frame_before = gdb.selected_frame() if selected is not None else None
        try:
            for thread in gdb.selected_inferior().threads():
                high = stacks.get(thread.ptid[1] or thread.ptid[0])
                if high is not None:
                    thread.switch()
                    self.search_stack(thread, high)
        finally:
            if selected is not None:
                selected.switch()
                frame_before.select()

    def search_stack(self, thread, high):
        frames, frame = [], gdb.newest_frame()
        while frame is not None:
            frames.append((int(frame.read_register("sp")), frame.name() or "a function"))
            try:
                frame = frame.older()
            except gdb.error:
                break
        low = frames[0][0] - 128

        def name(address):
            owner = frames[0][1]
            for sp, function in frames:
                if sp <= address:
                    owner = function
            return "frame of %s, thread %d" % (owner, thread.num)

        if low < high:
            self.search_range(low, high, name)
        for register in gdb.newest_frame().architecture().registers("general"):
            value = gdb.newest_frame().read_register(register)
            if value.type.sizeof == 8 and self.low <= int(value) & (2**64 - 1) < self.high:
                self.count += 1
                print("  register %s of thread %d" % (register.name, thread.num))


class CairnThreads(gdb.Command):
    """cairn threads: the threads that the heap knows, and what they are doing for it."""

    def __init__(self):
        super().__init__("cairn threads", gdb.COMMAND_DATA)

    def invoke(self, argument, from_tty):
        h = Heap()
        numbers = {t.ptid[1] or t.ptid[0]: t.num for t in gdb.selected_inferior().threads()}
        states = ("running", "asked to stop", "stopped", "blocking", "held")
        for m in h.mutators():
            tid = int(m["tid"])
            state = states[int(m["state"])] if int(m["state"]) < len(states) else "?"
            notes = [name for field, name in (("inside", "in the library"), ("forks", "forks"),
                                              ("leaves", "detaches"), ("vanished", "ended"))
                     if m[field]]
            print("thread %s (LWP %d): %s%s; stack [%#x, %#x), stopped %d times" % (
                numbers.get(tid, "?"), tid, state, "".join(", " + n for n in notes),
                int(m["stack"]["low"]), int(m["stack"]["high"]), int(m["stops"])))


for command in (Cairn, CairnHeap, CairnObject, CairnHolders, CairnThreads):
    command()
