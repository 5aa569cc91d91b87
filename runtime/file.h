/* Files that the library writes for others to read.
 *
 * What the caller gets: no malloc, no stdio, no cancellation point, and no signal from a write: not
 * SIGPIPE, as pipes are refused, nor SIGXFSZ.  A descriptor that the program has closed, and perhaps
 * opened anew as something else, is noticed and not written to.  What the caller must supply: its
 * signals are blocked (gci_signals_block()) around a write.  Functions that return int return 0 or
 * an errno value. */
#ifndef CAIRN_RUNTIME_FILE_H
#define CAIRN_RUNTIME_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gci_file {
    int fd;                  /* -1: not open */
    bool seeks;              /* is a file, in which it can be written anywhere */
    uint64_t device, number; /* which */
    uint64_t end;            /* where the next byte goes */
};

/* Makes or empties the file PATH; it isn't inherited by programs that are executed.  EINVAL if it is
 * neither a file nor a character device. */
int gci_file_create(struct gci_file *file, const char *path);

/* Writes BYTES at the end, and TRAILER of so many bytes after it, which the next write overwrites:
 * a device, where that can't be, gets none.  EBADF if the descriptor isn't the file's any more. */
int gci_file_append(struct gci_file *file, const char *text, size_t bytes, const char *trailer,
    size_t trailer_bytes);

void gci_file_close(struct gci_file *file);

/* The name of thread TID of this process, cut to ROOM - 1 bytes, or "". */
void gci_thread_name(uint32_t tid, char *name, size_t room);

/* Numbers of this process and of the calling thread. */
uint32_t gci_process_id(void);
uint32_t gci_thread_id(void);

/* The meaning of an errno value, a string that stays. */
const char *gci_error_name(int error);

/* Sleeps; no cancellation point. */
void gci_pause_ns(uint64_t ns);

#endif
