/* Options: defaults, checks, and the CAIRN_* environment variable of each field.  One table
 * drives all of it. */
#ifndef CAIRN_RUNTIME_OPTIONS_H
#define CAIRN_RUNTIME_OPTIONS_H

#include <stdbool.h>

#include "cairn/gc.h"

/* The defaults. */
void gci_options_default(gc_options *options);

/* Checks USER's fields (NULL: the defaults) and lets the environment override them; the outcome
 * goes to *OUT. Returns 0, or EINVAL when a field of USER is wrong (one line on stderr names the
 * field, the value and what is accepted).  A wrong environment value gets such a line too, and
 * is ignored.  Sizes accept the suffixes K, M, G, T; on/off fields 0 and 1; enums their
 * lower-case names.  An unknown CAIRN_ variable gets a warning that names the nearest known one.
 * Calls neither malloc nor anything that collects. */
int gci_options_resolve(const gc_options *user, gc_options *out);

/* Does the environment say by VARIABLE, CAIRN_..., what holds whatever the program sets? */
bool gci_options_are_given(const char *variable);

/* Does the environment alone ask that threads be attached as they come (CAIRN_ATTACH=auto)?  For
 * what happens before there is a heap, and so before a program's options are known. */
bool gci_options_attach_auto(void);

/* The lower-case name of a value of enum gc_barrier. */
const char *gci_barrier_name(enum gc_barrier barrier);

#endif
