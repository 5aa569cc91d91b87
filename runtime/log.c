/* Messages on stderr: see log.h.  Owns nothing.  A message is formatted into a buffer on the stack
 * and handed to the kernel in one write(2); one that is too long is cut and ends in "...".  errno
 * is what it was before.  Called from everywhere, also while the world is stopped, so nothing here
 * may take a lock or call malloc: vsnprintf does neither as long as the formats have no floating
 * point, no huge field widths and no positional arguments. */
#include "runtime/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINE_MAX_BYTES 1024

static void write_all(const char *text, size_t bytes) {
    while (bytes > 0) {
        /* Not write(), which is a cancellation point. */
        ssize_t written = syscall(SYS_write, STDERR_FILENO, text, bytes);
        if (written > 0) {
            text += written;
            bytes -= (size_t)written;
        } else if (written == 0 || errno != EINTR) {
            return; /* nobody listens: there is no other place to complain */
        }
    }
}

static void print(const char *prefix, bool newline, const char *format, va_list arguments) {
    int saved_errno = errno;
    char line[LINE_MAX_BYTES];
    size_t length = strlen(prefix);
    memcpy(line, prefix, length);
    size_t room = sizeof line - length - 1; /* with the NUL, whose place a newline takes later */
    int wanted = vsnprintf(line + length, room, format, arguments);
    if (wanted < 0) wanted = 0;
    if ((size_t)wanted < room) {
        length += (size_t)wanted;
    } else {
        length += room - 1;
        memcpy(line + length - 3, "...", 3);
    }
    if (newline) line[length++] = '\n';
    write_all(line, length);
    errno = saved_errno;
}

void gci_log(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("cairn: ", true, format, arguments);
    va_end(arguments);
}

void gci_fatal(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("cairn: ", true, format, arguments);
    va_end(arguments);
    abort();
}

void gci_print(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    print("", false, format, arguments);
    va_end(arguments);
}
