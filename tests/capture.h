/* Catches what a test makes the library print.  Goes after <cmocka.h>, with _GNU_SOURCE. */
#ifndef CAIRN_TESTS_CAPTURE_H
#define CAIRN_TESTS_CAPTURE_H

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static int capture_real_stderr, capture_file;
static char capture_text[8192];

/* From here on stderr goes to a file in memory. */
static inline void begin_capture(void) {
    capture_file = memfd_create("stderr", 0);
    capture_real_stderr = dup(STDERR_FILENO);
    assert_true(capture_file >= 0 && capture_real_stderr >= 0);
    assert_int_equal(dup2(capture_file, STDERR_FILENO), STDERR_FILENO);
}

/* Ends it.  The text stays until the next capture. */
static inline const char *end_capture(void) {
    dup2(capture_real_stderr, STDERR_FILENO);
    close(capture_real_stderr);
    ssize_t length = pread(capture_file, capture_text, sizeof capture_text - 1, 0);
    close(capture_file);
    capture_text[length > 0 ? length : 0] = '\0';
    return capture_text;
}

static inline size_t lines(const char *text) {
    size_t n = 0;
    for (; *text; text++) n += *text == '\n';
    return n;
}

#endif
