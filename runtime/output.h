/* A file that is written from a buffer of its own: without malloc and without stdio, so that it may
 * be written to while threads are stopped.  After the first error nothing more is written, and
 * gci_output_close() returns it. */
#ifndef CAIRN_RUNTIME_OUTPUT_H
#define CAIRN_RUNTIME_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct gci_output {
    int file;
    int error;       /* the first, an errno value; 0 */
    bool owned;      /* FILE is to be closed */
    uint8_t *buffer; /* mapped */
    size_t used;
    uint64_t written; /* bytes, the buffer's included */
    const char *path; /* the caller's; NULL: there is nothing to rename */
    char temporary[4096];
};

/* Opens a new file beside PATH, which takes its place when it is closed, so that nobody finds half
 * of it; where PATH is no regular file, a pipe or a terminal say, that itself.  PATH must stay.
 * Returns 0 or an errno value; then there is nothing to close. */
int gci_output_open(struct gci_output *output, const char *path);

/* The same for a file that is open already and stays so. */
int gci_output_open_file(struct gci_output *output, int file);

void gci_output_bytes(struct gci_output *output, const void *bytes, size_t count);
void gci_output_text(struct gci_output *output, const char *text);
void gci_output_number(struct gci_output *output, uint64_t number); /* decimal */

/* Takes the last COUNT bytes back, of those that the last call added. */
void gci_output_unwrite(struct gci_output *output, size_t count);

/* TEXT as a string of JSON, quoted.  What is no UTF-8 is written as U+FFFD. */
void gci_output_json(struct gci_output *output, const char *text);

/* Writes the rest, closes and renames, unless something has failed, ERROR included: then the new
 * file is removed.  Returns 0 or the first error. */
int gci_output_close(struct gci_output *output, int error);

#endif
