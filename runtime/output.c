/* Files from a mapped buffer: see output.h.  Owns the buffer and the temporary file of each output,
 * from opening to closing.  Called by gc/snapshot.c and
 * runtime/profile_file.c. */
#include "runtime/output.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "runtime/file.h"
#include "runtime/globals.h"
#include "runtime/text.h"
#include "runtime/vm.h"

#define BUFFER_BYTES ((size_t)1 << 20)

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
            (int)gci_process_id(), (unsigned)number);
        if (length < 0 || (size_t)length >= sizeof o->temporary) return -ENAMETOOLONG;
        int file = gci_fd_open(o->temporary, O_WRONLY | O_CREAT | O_EXCL);
        if (file != -EEXIST) return file;
    }
    return -EEXIST;
}

int gci_output_open(struct gci_output *o, const char *path) {
    struct stat there;
    memset(o, 0, offsetof(struct gci_output, temporary));
    bool direct = stat(path, &there) == 0 && !S_ISREG(there.st_mode);
    int file = direct ? gci_fd_open(path, O_WRONLY) : open_beside(o, path);
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
    if (o->error == 0) o->error = gci_fd_write(o->file, o->buffer, o->used, GCI_NO_POSITION);
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

void gci_output_json(struct gci_output *o, const char *text) {
    gci_output_bytes(o, "\"", 1);
    while (*text != '\0') {
        char character[GCI_JSON_MOST];
        size_t bytes = gci_json_character(&text, character);
        gci_output_bytes(o, character, bytes);
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
        int closed = gci_fd_close(o->file); /* what a file system over a network says late */
        if (o->error == 0) o->error = closed;
    }
    if (o->path != NULL) {
        if (o->error == 0 && rename(o->temporary, o->path) != 0) o->error = errno;
        if (o->error != 0) unlink(o->temporary);
    }
    return o->error;
}
