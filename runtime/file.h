/* Files that the library writes for others to read.
 *
 * What the caller gets: no malloc, no stdio, no cancellation point, and no signal from a write:
 * neither SIGPIPE nor SIGXFSZ.  A struct gci_file is written to piece by piece for as long as the
 * program runs: what the program has closed, and perhaps opened anew as something else, is noticed
 * and not written to.  What the caller must supply: its signals are blocked (gci_signals_block())
 * around a write, or it raises them.  Functions that return int return 0 or an errno value. */
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

/* ---- Descriptors ---------------------------------------------------------------------------- */

#define GCI_NO_POSITION UINT64_MAX

/* Opens PATH with FLAGS of open(2); not inherited by programs that are executed, and made for all
 * whom the mask lets.  Returns the descriptor, or an errno value, negative. */
int gci_fd_open(const char *path, int flags);

/* Writes all BYTES, AT such a place of the file or where it stands. */
int gci_fd_write(int fd, const void *from, size_t bytes, uint64_t at);

/* The descriptor is gone in any case. */
int gci_fd_close(int fd);

/* ---- Besides -------------------------------------------------------------------------------- */

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
