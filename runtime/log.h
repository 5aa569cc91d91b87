/* Messages on stderr.  Neither malloc nor stdio's streams: one line is one write(2), so lines of
 * several threads don't mix, and all of these may be called while the world is stopped.  The
 * formats are printf's, without floating point. */
#ifndef CAIRN_RUNTIME_LOG_H
#define CAIRN_RUNTIME_LOG_H

/* "cairn: " and the message and a newline. */
void gci_log(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The same, then abort(). */
void gci_fatal(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn, cold));

/* No prefix and no newline of its own: for gc_explain() and other reports. */
void gci_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What must hold inside the library.  Always on: used where it costs nothing that can be
 * measured. */
#define GCI_CHECK(condition)                                                                       \
    ((condition) ? (void)0                                                                         \
                 : gci_fatal("%s:%d: broken invariant: %s", __FILE__, __LINE__, #condition))

/* The same, but only in builds with CAIRN_DEBUG: for hot paths. */
#ifdef CAIRN_DEBUG
#define GCI_ASSERT(condition) GCI_CHECK(condition)
#else
#define GCI_ASSERT(condition) ((void)0)
#endif

#endif
