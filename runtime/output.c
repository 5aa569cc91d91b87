/* Files from a mapped buffer: see output.h.  Owns the buffer and the temporary file of each output,
 * from opening to closing.  Called by gc/snapshot.c. */
#define _GNU_SOURCE
#include "runtime/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "runtime/globals.h"
#include "runtime/vm.h"

#define BUFFER_BYTES ((size_t)1 << 20)

/* System calls by their numbers: the C library's functions of these names are cancellation
 * points. */
static int open_file(const char *path, int flags) {
    long file = syscall(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0666);
    return file >= 0 ? (int)file : -errno;
}

static int close_file(int file) {
    return syscall(SYS_close, file) == 0 || errno == EINTR ? 0 : errno;
}

static int give_buffer(struct gci_output *o) {
    o->buffer = gci_vm_map(BUFFER_BYTES);
    return o->buffer != NULL ? 0 : ENOMEM;
}

/* A name beside PATH that nobody else uses. */
static int open_beside(struct gci_output *o, const char *path) {
    static GCI_GLOBAL uint32_t count; /* atomic */
    for (int tries = 0; tries < 100; tries++) {
        uint32_t number = __atomic_fetch_add(&count, 1, __ATOMIC_RELAXED);
        int length = snprintf(o->temporary, sizeof o->temporary, "%s.%d-%u.new", path,
            (int)getpid(), (unsigned)number);
        if (length < 0 || (size_t)length >= sizeof o->temporary) return -ENAMETOOLONG;
        int file = open_file(o->temporary, O_WRONLY | O_CREAT | O_EXCL);
        if (file != -EEXIST) return file;
    }
    return -EEXIST;
}

int gci_output_open(struct gci_output *o, const char *path) {
    struct stat there;
    memset(o, 0, offsetof(struct gci_output, temporary));
    bool direct = stat(path, &there) == 0 && !S_ISREG(there.st_mode);
    int file = direct ? open_file(path, O_WRONLY) : open_beside(o, path);
    if (file < 0) return -file;
    o->file = file;
    o->owned = true;
    o->path = direct ? NULL : path;
    int error = give_buffer(o);
    return error == 0 ? 0 : gci_output_close(o, error);
}

int gci_output_open_file(struct gci_output *o, int file) {
    memset(o, 0, offsetof(struct gci_output, temporary));
    o->file = file;
    return give_buffer(o);
}

static void flush(struct gci_output *o) {
    const uint8_t *at = o->buffer;
    while (o->used > 0 && o->error == 0) {
        ssize_t written = syscall(SYS_write, o->file, at, o->used);
        if (written > 0) {
            at += written;
            o->used -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            o->error = written == 0 ? EIO : errno;
        }
    }
    o->used = 0;
}

/* What a call adds is in the buffer in one piece, if it has room for it at all. */
void gci_output_bytes(struct gci_output *o, const void *bytes, size_t count) {
    const uint8_t *from = bytes;
    o->written += count;
    if (count > BUFFER_BYTES - o->used) flush(o);
    while (count > 0) {
        if (o->used == BUFFER_BYTES) flush(o);
        size_t piece = BUFFER_BYTES - o->used < count ? BUFFER_BYTES - o->used : count;
        memcpy(o->buffer + o->used, from, piece);
        o->used += piece;
        from += piece;
        count -= piece;
    }
}

void gci_output_unwrite(struct gci_output *o, size_t count) {
    o->used -= count;
    o->written -= count;
}

void gci_output_text(struct gci_output *o, const char *text) {
    gci_output_bytes(o, text, strlen(text));
}

void gci_output_number(struct gci_output *o, uint64_t number) {
    char digits[20];
    size_t at = sizeof digits;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    gci_output_bytes(o, digits + at, sizeof digits - at);
}

/* How many bytes at TEXT are one character in UTF-8, by the table of the Unicode standard (3.9,
 * D92); 0 if they are none. */
static size_t character_bytes(const uint8_t *text) {
    if (text[0] < 0x80) return 1;
    size_t bytes = text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    if (bytes == 0 || text[0] > 0xf4) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90))
        return 0;
    return bytes;
}

void gci_output_json(struct gci_output *o, const char *text) {
    const uint8_t *at = (const uint8_t *)text;
    gci_output_bytes(o, "\"", 1);
    while (*at != '\0') {
        size_t bytes = character_bytes(at);
        if (*at == '"' || *at == '\\') gci_output_bytes(o, "\\", 1);
        if (bytes == 0) {
            gci_output_text(o, "\xef\xbf\xbd");
            bytes = 1;
        } else if (*at < 0x20) {
            char escaped[8];
            snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)*at);
            gci_output_text(o, escaped);
        } else {
            gci_output_bytes(o, at, bytes);
        }
        at += bytes;
    }
    gci_output_bytes(o, "\"", 1);
}

int gci_output_close(struct gci_output *o, int error) {
    if (o->error == 0) o->error = error;
    if (o->buffer != NULL) {
        flush(o);
        gci_vm_unmap(o->buffer, BUFFER_BYTES);
    }
    if (o->owned) {
        int closed = close_file(o->file); /* what a file system over a network says late */
        if (o->error == 0) o->error = closed;
    }
    if (o->path != NULL) {
        if (o->error == 0 && rename(o->temporary, o->path) != 0) o->error = errno;
        if (o->error != 0) unlink(o->temporary);
    }
    return o->error;
}
