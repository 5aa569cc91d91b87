/* Unwinding without a lock: see unwind.h.  libunwind won't do while threads are stopped: it holds a
 * lock of its own while it waits for the loader's, which the collector has, and where there is no
 * table it guesses.  This reader knows what gcc and clang write for functions, and of the rest it
 * says that it doesn't: a wrong step would take live words of a stack for dead ones.  The tables
 * are those of the DWARF standard (6.4) with the additions of the Linux Standard Base
 * (.eh_frame_hdr). */
#define _GNU_SOURCE
#include "runtime/unwind.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#if defined(__x86_64__) && !defined(CAIRN_PORTABLE) && defined(__GLIBC_PREREQ)
#if __GLIBC_PREREQ(2, 35)
#define CAN_UNWIND 1
#endif
#endif

#ifndef CAN_UNWIND

bool gci_can_unwind(void) {
    return false;
}

void gci_registers_at_entry(struct gci_registers *registers, const struct gci_frame *frame) {
    (void)frame;
    *registers = (struct gci_registers){.pc = 0};
}

enum gci_step gci_unwind(struct gci_registers *registers, uintptr_t high) {
    (void)registers, (void)high;
    return GCI_STEP_UNKNOWN;
}

enum gci_step gci_unwind_again(
    struct gci_registers *registers, uintptr_t high, struct gci_unwind_cache *cache) {
    (void)cache;
    return gci_unwind(registers, high);
}

#else

#define WORD sizeof(uintptr_t)

/* The standard's numbers of registers. */
enum { DWARF_RSP = 7, DWARF_PC = 16, DWARF_REGISTERS };

/* The index in gci_registers.saved of a register that a called function must preserve, else -1. */
static int saved_index(uint64_t dwarf) {
    static const int8_t index[DWARF_REGISTERS] = {
        -1, -1, -1, 0, -1, -1, 1, -1, -1, -1, -1, -1, 2, 3, 4, 5, -1};
    return dwarf < DWARF_REGISTERS ? index[dwarf] : -1;
}

bool gci_can_unwind(void) {
    return true;
}

/* The frame is what GCI_ENTRY pushes, and above it the caller's return address. */
void gci_registers_at_entry(struct gci_registers *registers, const struct gci_frame *frame) {
    static const uint8_t place[GCI_SAVED_REGISTERS] = {4, 5, 3, 2, 1, 0};
    const uintptr_t *words = (const uintptr_t *)(const void *)frame;
    for (unsigned i = 0; i < GCI_SAVED_REGISTERS; i++) registers->saved[i] = words[place[i]];
    registers->known = (1u << GCI_SAVED_REGISTERS) - 1;
    registers->pc = words[GCI_FRAME_WORDS];
    registers->sp = (uintptr_t)(words + GCI_FRAME_WORDS + 1);
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* A place in a table.  BAD: it went beyond its end, or met what it doesn't know. */
struct reader {
    const uint8_t *at, *end;
    bool bad;
};

static uint64_t read_bytes(struct reader *r, unsigned bytes) {
    uint64_t value = 0;
    if ((size_t)(r->end - r->at) < bytes) {
        r->bad = true;
        return 0;
    }
    memcpy(&value, r->at, bytes);
    r->at += bytes;
    return value;
}

static uint64_t read_uleb(struct reader *r) {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        uint64_t byte = read_bytes(r, 1);
        if (shift < 64) value |= (byte & 0x7f) << shift;
        if (!(byte & 0x80)) return value;
    }
}

static int64_t read_sleb(struct reader *r) {
    uint64_t value = 0, byte;
    unsigned shift = 0;
    do {
        byte = read_bytes(r, 1);
        if (shift < 64) value |= (byte & 0x7f) << shift;
        shift += 7;
    } while (byte & 0x80);
    if (shift < 64 && (byte & 0x40)) value |= ~UINT64_C(0) << shift;
    return (int64_t)value;
}

/* An address, encoded as ENCODING says: absolute, or relative to where it stands. */
static uintptr_t read_address(struct reader *r, uint8_t encoding) {
    uintptr_t place = (uintptr_t)r->at, value = 0;
    switch (encoding & 0x0f) {
    case 0x00: /* absptr */
    case 0x04: /* udata8 */
    case 0x0c: /* sdata8 */
        value = read_bytes(r, 8);
        break;
    case 0x03: /* udata4 */
        value = read_bytes(r, 4);
        break;
    case 0x0b: /* sdata4 */
        value = (uintptr_t)(intptr_t)(int32_t)read_bytes(r, 4);
        break;
    default:
        r->bad = true;
    }
    if ((encoding & 0x70) == 0x10)
        value += place;
    else if ((encoding & 0x70) != 0)
        r->bad = true;
    return value;
}

/* ---- Finding a function's entry ------------------------------------------------------------- */

/* What is common to many functions (a CIE), and what is one's own (an FDE). */
struct function {
    struct reader common, own; /* instructions */
    uintptr_t start, bytes;
    uint64_t code_unit;
    int64_t data_unit;
    uint64_t pc_column;
    uint8_t encoding; /* of addresses */
    bool augmented, is_signal;
};

/* The entry for PC, by the sorted table in .eh_frame_hdr; NULL if there is none. */
static const uint8_t *find_entry(const uint8_t *header, uintptr_t pc) {
    struct reader r = {header, header + 12, false};
    /* Version 1; a relative address, a count, and pairs of offsets from the header. */
    if (read_bytes(&r, 4) != 0x3b031b01) return NULL;
    read_address(&r, 0x1b);
    size_t low = 0, high = read_bytes(&r, 4);
    while (low < high) {
        size_t middle = (low + high) / 2;
        int32_t offset;
        memcpy(&offset, header + 12 + middle * 8, sizeof offset);
        if ((uintptr_t)header + (uintptr_t)(intptr_t)offset <= pc)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0) return NULL;
    int32_t offset;
    memcpy(&offset, header + 12 + (low - 1) * 8 + 4, sizeof offset);
    return header + offset;
}

/* The reader of the record at P; what needs 64 bits for its length is not known here. */
static struct reader read_record(const uint8_t *p) {
    uint32_t length;
    memcpy(&length, p, sizeof length);
    return (struct reader){p + 4, p + 4 + length, length == 0 || length == UINT32_MAX};
}

static void read_augmentation(struct function *f, struct reader *r, const char *letters) {
    uint64_t bytes = read_uleb(r);
    if (bytes > (uint64_t)(r->end - r->at)) r->bad = true;
    if (r->bad) return;
    struct reader data = {r->at, r->at + bytes, false};
    r->at += bytes;
    for (; *letters != '\0'; letters++) {
        switch (*letters) {
        case 'R':
            f->encoding = (uint8_t)read_bytes(&data, 1);
            break;
        case 'P': { /* an exception handler's function */
            uint8_t encoding = (uint8_t)read_bytes(&data, 1);
            read_address(&data, encoding & 0x7f);
            break;
        }
        case 'L':
            read_bytes(&data, 1);
            break;
        case 'S':
            f->is_signal = true;
            break;
        default:
            r->bad = true;
            return;
        }
    }
    r->bad |= data.bad;
}

static bool read_common(struct function *f, const uint8_t *record) {
    struct reader r = read_record(record);
    if (r.bad || read_bytes(&r, 4) != 0) return false;
    uint64_t version = read_bytes(&r, 1);
    const char *letters = (const char *)r.at;
    size_t length = strnlen(letters, (size_t)(r.end - r.at));
    if ((version != 1 && version != 3) || length == (size_t)(r.end - r.at)) return false;
    r.at += length + 1;
    f->code_unit = read_uleb(&r);
    f->data_unit = read_sleb(&r);
    f->pc_column = version == 1 ? read_bytes(&r, 1) : read_uleb(&r);
    f->augmented = *letters == 'z';
    if (f->augmented)
        read_augmentation(f, &r, letters + 1);
    else if (*letters != '\0')
        return false;
    f->common = r;
    return !r.bad;
}

/* Of the function that PC lies in. */
static bool find_function(struct function *f, uintptr_t pc) {
    struct dl_find_object object;
    if (_dl_find_object((void *)pc, &object) != 0 || object.dlfo_eh_frame == NULL) return false;
    const uint8_t *entry = find_entry(object.dlfo_eh_frame, pc);
    if (entry == NULL) return false;
    struct reader r = read_record(entry);
    const uint8_t *place = r.at;
    uint64_t distance = read_bytes(&r, 4);
    *f = (struct function){.encoding = 0};
    if (r.bad || distance == 0 || !read_common(f, place - distance)) return false;
    f->start = read_address(&r, f->encoding);
    f->bytes = read_address(&r, f->encoding & 0x0f);
    if (f->augmented) {
        uint64_t bytes = read_uleb(&r);
        if (bytes > (uint64_t)(r.end - r.at)) return false;
        r.at += bytes;
    }
    f->own = r;
    return !r.bad && pc - f->start < f->bytes;
}

/* ---- A function's rules --------------------------------------------------------------------- */

/* Where the caller's value of a register is. */
struct rule {
    enum { SAME, AT_OFFSET, AT_EXPRESSION, UNDEFINED, ANOTHER } how;
    int64_t offset;           /* from the frame's address */
    struct reader expression; /* of the word's address */
};

/* At one place of a function: the frame's address, by a register and an offset or an expression,
 * and a rule for each register. */
struct row {
    uint64_t base;
    int64_t offset;
    bool by_expression;
    struct reader expression;
    struct rule rules[DWARF_REGISTERS];
};

#define ROWS 4 /* remembered at once; compilers nest them one or two deep */

struct machine {
    struct row row, initial, remembered[ROWS];
    unsigned depth;
    uintptr_t place, pc;
};

static struct reader read_block(struct reader *r) {
    uint64_t bytes = read_uleb(r);
    struct reader block = {r->at, r->at, false};
    if (bytes > (uint64_t)(r->end - r->at)) {
        r->bad = true;
    } else {
        block.end = r->at += bytes;
    }
    return block;
}

/* Of registers that aren't followed nothing is noted. */
static void set_rule(struct machine *m, uint64_t column, struct rule rule) {
    if (column < DWARF_REGISTERS) m->row.rules[column] = rule;
}

static void restore_rule(struct machine *m, uint64_t column) {
    if (column < DWARF_REGISTERS) m->row.rules[column] = m->initial.rules[column];
}

/* One of the instructions without an operand in their first byte. */
static void run_extended(
    struct machine *m, const struct function *f, struct reader *r, uint8_t instruction) {
    uint64_t column;
    switch (instruction) {
    case 0x00: /* nop */
        break;
    case 0x01: /* set_loc */
        m->place = read_address(r, f->encoding);
        break;
    case 0x02: /* advance_loc1, 2, 4 */
    case 0x03:
    case 0x04:
        m->place += read_bytes(r, 1u << (instruction - 2)) * f->code_unit;
        break;
    case 0x05: /* offset_extended */
        column = read_uleb(r);
        set_rule(m, column, (struct rule){AT_OFFSET, (int64_t)read_uleb(r) * f->data_unit, {0}});
        break;
    case 0x06: /* restore_extended */
        restore_rule(m, read_uleb(r));
        break;
    case 0x07: /* undefined */
        set_rule(m, read_uleb(r), (struct rule){.how = UNDEFINED});
        break;
    case 0x08: /* same_value */
        set_rule(m, read_uleb(r), (struct rule){.how = SAME});
        break;
    case 0x09: /* register */
        column = read_uleb(r);
        read_uleb(r);
        set_rule(m, column, (struct rule){.how = ANOTHER});
        break;
    case 0x0a: /* remember_state */
        if (m->depth < ROWS)
            m->remembered[m->depth++] = m->row;
        else
            r->bad = true;
        break;
    case 0x0b: /* restore_state */
        if (m->depth > 0)
            m->row = m->remembered[--m->depth];
        else
            r->bad = true;
        break;
    case 0x0c: /* def_cfa */
        m->row.base = read_uleb(r);
        m->row.offset = (int64_t)read_uleb(r);
        m->row.by_expression = false;
        break;
    case 0x0d: /* def_cfa_register */
        m->row.base = read_uleb(r);
        m->row.by_expression = false;
        break;
    case 0x0e: /* def_cfa_offset */
        m->row.offset = (int64_t)read_uleb(r);
        break;
    case 0x0f: /* def_cfa_expression */
        m->row.expression = read_block(r);
        m->row.by_expression = true;
        break;
    case 0x10: /* expression */
        column = read_uleb(r);
        set_rule(m, column, (struct rule){AT_EXPRESSION, 0, read_block(r)});
        break;
    case 0x11: /* offset_extended_sf */
        column = read_uleb(r);
        set_rule(m, column, (struct rule){AT_OFFSET, read_sleb(r) * f->data_unit, {0}});
        break;
    case 0x12: /* def_cfa_sf */
        m->row.base = read_uleb(r);
        m->row.offset = read_sleb(r) * f->data_unit;
        m->row.by_expression = false;
        break;
    case 0x13: /* def_cfa_offset_sf */
        m->row.offset = read_sleb(r) * f->data_unit;
        break;
    case 0x2e: /* GNU_args_size */
        read_uleb(r);
        break;
    default:
        r->bad = true;
    }
}

/* The instructions up to the place that PC is in. */
static bool run(struct machine *m, const struct function *f, struct reader r) {
    while (r.at < r.end && !r.bad && m->place <= m->pc) {
        uint8_t instruction = (uint8_t)read_bytes(&r, 1), operand = instruction & 0x3f;
        switch (instruction >> 6) {
        case 1: /* advance_loc */
            m->place += operand * f->code_unit;
            break;
        case 2: /* offset */
            set_rule(
                m, operand, (struct rule){AT_OFFSET, (int64_t)read_uleb(&r) * f->data_unit, {0}});
            break;
        case 3: /* restore */
            restore_rule(m, operand);
            break;
        default:
            run_extended(m, f, &r, instruction);
        }
    }
    return !r.bad;
}

/* ---- The step ------------------------------------------------------------------------------- */

static bool read_stack(
    const struct gci_registers *registers, uintptr_t high, uintptr_t address, uintptr_t *value) {
    if (address % WORD != 0 || address < registers->sp || address > high - WORD) return false;
    *value = *(const volatile uintptr_t *)address;
    return true;
}

static bool read_register(const struct gci_registers *registers, uint64_t dwarf, uintptr_t *value) {
    int index = saved_index(dwarf);
    if (dwarf == DWARF_RSP)
        *value = registers->sp;
    else if (index >= 0 && (registers->known >> index & 1))
        *value = registers->saved[index];
    else
        return false;
    return true;
}

/* What compilers use expressions for in functions: a register and an offset, and perhaps the word
 * there, when a function aligns its stack. */
static bool evaluate(
    const struct gci_registers *registers, uintptr_t high, struct reader r, uintptr_t *value) {
    uint64_t operation = read_bytes(&r, 1);
    if (operation < 0x70 || operation > 0x8f || !read_register(registers, operation - 0x70, value))
        return false; /* breg0 to breg31 */
    *value += (uintptr_t)read_sleb(&r);
    if (r.at < r.end && !(read_bytes(&r, 1) == 0x06 && read_stack(registers, high, *value, value)))
        return false; /* deref */
    return !r.bad && r.at == r.end;
}

static bool follow(const struct gci_registers *registers, uintptr_t high, uintptr_t frame,
    const struct rule *rule, uintptr_t *value) {
    uintptr_t address = frame + (uintptr_t)rule->offset;
    if (rule->how == AT_EXPRESSION && !evaluate(registers, high, rule->expression, &address))
        return false;
    return (rule->how == AT_OFFSET || rule->how == AT_EXPRESSION) &&
           read_stack(registers, high, address, value);
}

/* The row that holds in the function that called from before PC. */
static enum gci_step find_row(struct machine *m, uintptr_t pc) {
    struct function f;
    uintptr_t inside = pc - 1; /* the call is its function's last instruction */
    if (pc == 0) return GCI_STEP_END;
    if (!find_function(&f, inside) || f.is_signal || f.pc_column != DWARF_PC)
        return GCI_STEP_UNKNOWN;
    *m = (struct machine){.place = f.start, .pc = inside};
    m->row.rules[DWARF_PC].how = ANOTHER;
    if (!run(m, &f, f.common)) return GCI_STEP_UNKNOWN;
    m->initial = m->row;
    if (!run(m, &f, f.own)) return GCI_STEP_UNKNOWN;
    return m->row.rules[DWARF_PC].how == UNDEFINED ? GCI_STEP_END : GCI_STEP_CALLER;
}

/* Is FRAME above where the function's caller is, and on the stack? */
static bool may_be_frame(const struct gci_registers *registers, uintptr_t high, uintptr_t frame) {
    return frame > registers->sp && frame <= high && frame % WORD == 0;
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) enum gci_step follow_row(
    struct gci_registers *registers, uintptr_t high, const struct row *row) {
    uintptr_t frame;
    if (row->by_expression) {
        if (!evaluate(registers, high, row->expression, &frame)) return GCI_STEP_UNKNOWN;
    } else {
        if (!read_register(registers, row->base, &frame)) return GCI_STEP_UNKNOWN;
        frame += (uintptr_t)row->offset;
    }
    struct gci_registers caller = {.sp = frame};
    if (!may_be_frame(registers, high, frame) ||
        !follow(registers, high, frame, &row->rules[DWARF_PC], &caller.pc))
        return GCI_STEP_UNKNOWN;
    for (uint64_t column = 0; column < DWARF_REGISTERS; column++) {
        int index = saved_index(column);
        if (index < 0) continue;
        const struct rule *rule = &row->rules[column];
        bool known = rule->how == SAME ? read_register(registers, column, &caller.saved[index])
                                       : follow(registers, high, frame, rule, &caller.saved[index]);
        caller.known |= (uint32_t)known << index;
    }
    *registers = caller;
    return caller.pc == 0 ? GCI_STEP_END : GCI_STEP_CALLER;
}

enum gci_step gci_unwind(struct gci_registers *registers, uintptr_t high) {
    struct machine m;
    enum gci_step step = find_row(&m, registers->pc);
    return step == GCI_STEP_CALLER ? follow_row(registers, high, &m.row) : step;
}

/* ---- Again and again ------------------------------------------------------------------------ */

#define IS_SAME   INT16_MIN       /* the caller's value is the function's */
#define NOT_KNOWN (INT16_MIN + 1) /* nor where it is */

_Static_assert(sizeof(struct gci_unwind_entry) <= 64, "one cache line");

/* Keeps ROW, if it is of the usual kind: the frame by a register and an offset, and what was saved
 * at offsets from there. */
static void keep_row(struct gci_unwind_entry *entry, uintptr_t pc, const struct row *row) {
    struct gci_unwind_entry fresh = {.pc = pc, .base = (uint8_t)row->base};
    if (row->by_expression || row->base >= DWARF_REGISTERS || row->offset != (int32_t)row->offset)
        return;
    fresh.offset = (int32_t)row->offset;
    for (uint64_t column = 0; column < DWARF_REGISTERS; column++) {
        const struct rule *rule = &row->rules[column];
        int index = column == DWARF_PC ? GCI_SAVED_REGISTERS : saved_index(column);
        if (index < 0) continue;
        if (rule->how == AT_EXPRESSION || rule->offset < NOT_KNOWN + 1 || rule->offset > INT16_MAX)
            return;
        fresh.saved[index] = rule->how == SAME        ? IS_SAME
                             : rule->how == AT_OFFSET ? (int16_t)rule->offset
                                                      : NOT_KNOWN;
    }
    *entry = fresh;
}

static __attribute__((no_sanitize("address"), no_sanitize("thread"))) enum gci_step follow_entry(
    struct gci_registers *registers, uintptr_t high, const struct gci_unwind_entry *entry) {
    uintptr_t frame;
    struct gci_registers caller = {.pc = 0};
    if (!read_register(registers, entry->base, &frame)) return GCI_STEP_UNKNOWN;
    frame += (uintptr_t)(intptr_t)entry->offset;
    if (!may_be_frame(registers, high, frame)) return GCI_STEP_UNKNOWN;
    for (int i = 0; i < (int)GCI_SAVED_REGISTERS; i++) {
        bool same = entry->saved[i] == IS_SAME;
        if (same) caller.saved[i] = registers->saved[i];
        bool known = same ? registers->known >> i & 1
                          : entry->saved[i] != NOT_KNOWN &&
                                read_stack(registers, high,
                                    frame + (uintptr_t)(intptr_t)entry->saved[i], &caller.saved[i]);
        caller.known |= (uint32_t)known << i;
    }
    if (entry->saved[GCI_SAVED_REGISTERS] <= NOT_KNOWN ||
        !read_stack(registers, high, frame + (uintptr_t)(intptr_t)entry->saved[GCI_SAVED_REGISTERS],
            &caller.pc))
        return GCI_STEP_UNKNOWN;
    caller.sp = frame;
    *registers = caller;
    return caller.pc == 0 ? GCI_STEP_END : GCI_STEP_CALLER;
}

enum gci_step gci_unwind_again(
    struct gci_registers *registers, uintptr_t high, struct gci_unwind_cache *cache) {
    uintptr_t pc = registers->pc;
    struct gci_unwind_entry *entry =
        &cache->entries[pc * UINT64_C(0x9e3779b97f4a7c15) >> (64 - GCI_UNWIND_BITS)];
    if (pc != 0 && entry->pc == pc) return follow_entry(registers, high, entry);
    struct machine m;
    enum gci_step step = find_row(&m, pc);
    if (step != GCI_STEP_CALLER) return step;
    keep_row(entry, pc, &m.row);
    return follow_row(registers, high, &m.row);
}

#endif
