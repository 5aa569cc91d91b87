/* USDT probes of the provider cairn: docs/tracing.md, rule 14.  Each is one no-op in the code and a note
 * in the file that says where it is and where its arguments are, up to 6 integers and pointers.
 * Without <sys/sdt.h> (Debian: systemtap-sdt-dev), or with GCI_NO_PROBES, there are none. */
#ifndef CAIRN_RUNTIME_PROBE_H
#define CAIRN_RUNTIME_PROBE_H

#if defined(__has_include) && !defined(GCI_NO_PROBES)
#if __has_include(<sys/sdt.h>)
#define SDT_USE_VARIADIC
#include <sys/sdt.h>
#define GCI_HAS_PROBES       1
#define GCI_PROBE(name, ...) STAP_PROBEV(cairn, name, __VA_ARGS__)
#endif
#endif

#ifndef GCI_HAS_PROBES
#define GCI_HAS_PROBES 0
static inline void gci_no_probe(int first, ...) {
    (void)first;
}
#define GCI_PROBE(name, ...) ((void)sizeof(gci_no_probe(0, __VA_ARGS__), 0))
#endif

#endif
