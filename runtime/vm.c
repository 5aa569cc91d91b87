/* Virtual memory, clocks and memory limits: the system calls behind runtime/vm.h, each with its
 * failure answered.  Owns nothing but the cached page size.  Called by gc/ for the arena and the
 * side tables, and by the barrier for its own memory.  Invariants: no malloc and no stdio
 * anywhere here, files are read through buffers on the stack; a reserved range is one mapping
 * until its caller commits parts of it. */
#include "runtime/vm.h"
#include "runtime/globals.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>

/* ---- Memory --------------------------------------------------------------------------------- */

size_t gci_page_size(void) {
    static GCI_GLOBAL size_t cached; /* written by whoever comes first, always the same value */
    size_t size = __atomic_load_n(&cached, __ATOMIC_RELAXED);
    if (size == 0) {
        long found = sysconf(_SC_PAGESIZE);
        size = found > 0 ? (size_t)found : 4096;
        __atomic_store_n(&cached, size, __ATOMIC_RELAXED);
    }
    return size;
}

static void *map(size_t bytes, int protection, int flags) {
    void *p = mmap(NULL, bytes, protection, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Cuts [start, start + bytes) out of MAPPED, a mapping of TOTAL bytes. */
static bool trim(char *mapped, size_t total, char *start, size_t bytes) {
    char *end = start + bytes, *mapped_end = mapped + total;
    if (start != mapped && munmap(mapped, (size_t)(start - mapped)) != 0) return false;
    if (end != mapped_end && munmap(end, (size_t)(mapped_end - end)) != 0) {
        munmap(start, (size_t)(mapped_end - start));
        return false;
    }
    return true;
}

/* What is committed later stays out of core dumps with the rest.  To put it back in by
 * MADV_DODUMP would make every committed run a mapping with flags of its own, at the cost of a
 * second system call for each commit. */
void *gci_vm_reserve(size_t bytes, size_t alignment) {
    size_t page = gci_page_size();
    if (bytes == 0 || (alignment & (alignment - 1)) != 0) return NULL;
    size_t slack = alignment > page ? alignment - page : 0;
    if (bytes > (size_t)PTRDIFF_MAX - slack) return NULL;
    char *mapped = map(bytes + slack, PROT_NONE, MAP_NORESERVE);
    if (mapped == NULL) return NULL;
    char *start = mapped;
    if (slack != 0) {
        start += -(uintptr_t)mapped & (alignment - 1);
        if (!trim(mapped, bytes + slack, start, bytes)) {
            munmap(mapped, bytes + slack);
            return NULL;
        }
    }
    (void)madvise(start, bytes, MADV_DONTDUMP); /* a bigger core file is no failure */
    return start;
}

int gci_vm_commit(void *start, size_t bytes) {
    return mprotect(start, bytes, PROT_READ | PROT_WRITE) == 0 ? 0 : errno;
}

int gci_vm_discard(void *start, size_t bytes) {
    return madvise(start, bytes, MADV_DONTNEED) == 0 ? 0 : errno;
}

void gci_vm_advise_huge(void *start, size_t bytes, bool huge) {
    (void)madvise(start, bytes, huge ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

void *gci_vm_map(size_t bytes) {
    return bytes == 0 ? NULL : map(bytes, PROT_READ | PROT_WRITE, 0);
}

/* munmap of a whole mapping can't fail for want of mappings; should it fail all the same, the
 * address space is lost and its memory, at least, is given back. */
void gci_vm_unmap(void *start, size_t bytes) {
    if (munmap(start, bytes) != 0) (void)madvise(start, bytes, MADV_DONTNEED);
}

uint64_t gci_clock_ns(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) return 0;
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- Reading /proc and cgroup files --------------------------------------------------------- */

/* A file read line by line; lines beyond the buffer are skipped. */
struct lines {
    int fd;
    bool skipping;   /* inside a line that didn't fit */
    size_t at, fill; /* text[at, fill) has been read and not handed out */
    char text[4096];
};

static int open_quietly(const char *path) {
    int fd;
    do {
        fd = open(path, O_RDONLY | O_CLOEXEC);
    } while (fd < 0 && errno == EINTR);
    return fd;
}

static size_t read_some(int fd, char *to, size_t room) {
    ssize_t n;
    do {
        n = read(fd, to, room);
    } while (n < 0 && errno == EINTR);
    return n > 0 ? (size_t)n : 0;
}

static bool lines_open(struct lines *in, const char *path) {
    in->fd = open_quietly(path);
    in->skipping = false;
    in->at = in->fill = 0;
    return in->fd >= 0;
}

/* The next line, its newline replaced by a NUL; NULL at the end.  Valid until the next call. */
static char *lines_next(struct lines *in) {
    for (;;) {
        char *line = in->text + in->at;
        char *newline = memchr(line, '\n', in->fill - in->at);
        if (newline != NULL) {
            *newline = '\0';
            in->at = (size_t)(newline + 1 - in->text);
            if (!in->skipping) return line;
            in->skipping = false;
            continue;
        }
        if (in->at > 0) {
            memmove(in->text, line, in->fill - in->at);
            in->fill -= in->at;
            in->at = 0;
        } else if (in->fill == sizeof in->text) {
            in->fill = 0;
            in->skipping = true;
        }
        size_t n = read_some(in->fd, in->text + in->fill, sizeof in->text - in->fill);
        if (n == 0) return NULL;
        in->fill += n;
    }
}

/* The number in a cgroup's limit file.  "max", no such file and v1's "unlimited" (the largest
 * multiple of the page size) are all SIZE_MAX. */
static size_t read_limit(const char *path) {
    char text[32];
    int fd = open_quietly(path);
    if (fd < 0) return SIZE_MAX;
    size_t n = read_some(fd, text, sizeof text);
    close(fd);
    uint64_t value = 0;
    size_t digits = 0;
    while (digits < n && text[digits] >= '0' && text[digits] <= '9') {
        if (value > UINT64_MAX / 10 - 1) return SIZE_MAX;
        value = value * 10 + (uint64_t)(text[digits++] - '0');
    }
    if (digits == 0 || value >= UINT64_C(1) << 62 || value > SIZE_MAX) return SIZE_MAX;
    return (size_t)value;
}

/* ---- cgroups -------------------------------------------------------------------------------- */

enum { PATH_BYTES = 2048 };

/* Where this process sits in the two hierarchies that can limit memory; empty if in none. */
struct membership {
    char v2[PATH_BYTES];
    char v1[PATH_BYTES];
};

/* Whether WORD is an element of the comma-separated LIST. */
static bool list_has(const char *list, const char *word) {
    size_t length = strlen(word);
    while (*list != '\0') {
        size_t element = strcspn(list, ",");
        if (element == length && memcmp(list, word, length) == 0) return true;
        list += element;
        if (*list == ',') list++;
    }
    return false;
}

static void copy_path(char *to, const char *from) {
    size_t length = strlen(from);
    if (length >= PATH_BYTES) length = 0; /* unusable: as if in none */
    memcpy(to, from, length);
    to[length] = '\0';
}

/* Lines are "number:controllers:path", with number 0 and no controllers for v2. */
static void read_membership(struct membership *out) {
    struct lines in;
    out->v1[0] = out->v2[0] = '\0';
    if (!lines_open(&in, "/proc/self/cgroup")) return;
    for (char *line; (line = lines_next(&in)) != NULL;) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL) continue;
        *controllers++ = '\0';
        *path++ = '\0';
        if (strcmp(line, "0") == 0 && *controllers == '\0') {
            copy_path(out->v2, path);
        } else if (list_has(controllers, "memory")) {
            copy_path(out->v1, path);
        }
    }
    close(in.fd);
}

/* The smallest limit named FILE from the cgroup at MOUNT + BELOW up to the one at MOUNT. */
static size_t limit_upwards(const char *mount, const char *below, const char *file) {
    char path[2 * PATH_BYTES + 64];
    size_t top = strlen(mount), length = top + strlen(below), file_length = strlen(file);
    if (length + 1 + file_length >= sizeof path) return SIZE_MAX;
    memcpy(path, mount, top);
    memcpy(path + top, below, length - top);
    size_t least = SIZE_MAX;
    for (;;) {
        while (length > top && path[length - 1] == '/') length--;
        path[length] = '/';
        memcpy(path + length + 1, file, file_length + 1);
        size_t limit = read_limit(path);
        if (limit < least) least = limit;
        if (length <= top) return least;
        while (length > top && path[length - 1] != '/') length--;
    }
}

/* What is left of PATH, a cgroup, below ROOT, the cgroup that a mount shows at its top.  A path
 * that isn't below it (another cgroup namespace) counts as the top. */
static const char *below_root(const char *path, const char *root) {
    if (strncmp(path, "/..", 3) == 0) return "";
    if (strcmp(root, "/") == 0) return path;
    size_t length = strlen(root);
    if (strncmp(path, root, length) != 0) return "";
    return path[length] == '/' || path[length] == '\0' ? path + length : "";
}

/* Cuts the next word off *CURSOR; "" at the end. */
static char *next_word(char **cursor) {
    char *word = *cursor;
    size_t length = strcspn(word, " ");
    *cursor = word + length + (word[length] != '\0');
    word[length] = '\0';
    return word;
}

/* mountinfo writes a space, tab, newline or backslash of a path as \ and three octal digits. */
static void unescape(char *path) {
    char *to = path;
    for (const char *from = path; *from != '\0';) {
        if (from[0] == '\\' && from[1] >= '0' && from[1] <= '3' && from[2] >= '0' &&
            from[2] <= '7' && from[3] >= '0' && from[3] <= '7') {
            *to++ = (char)((from[1] - '0') * 64 + (from[2] - '0') * 8 + (from[3] - '0'));
            from += 4;
        } else {
            *to++ = *from++;
        }
    }
    *to = '\0';
}

/* The limit by one line of mountinfo: "id parent device root mount options [tags] - type source
 * options". */
static size_t mount_limit(char *line, const struct membership *in) {
    char *cursor = line;
    for (int i = 0; i < 3; i++) next_word(&cursor);
    char *root = next_word(&cursor), *mount = next_word(&cursor);
    char *word = next_word(&cursor);
    while (*word != '\0' && strcmp(word, "-") != 0) word = next_word(&cursor);
    const char *type = next_word(&cursor);
    next_word(&cursor);
    const char *options = next_word(&cursor);
    unescape(root);
    unescape(mount);
    if (strcmp(type, "cgroup2") == 0 && in->v2[0] != '\0') {
        return limit_upwards(mount, below_root(in->v2, root), "memory.max");
    }
    if (strcmp(type, "cgroup") == 0 && in->v1[0] != '\0' && list_has(options, "memory")) {
        return limit_upwards(mount, below_root(in->v1, root), "memory.limit_in_bytes");
    }
    return SIZE_MAX;
}

/* The same at the usual places, for a machine that doesn't show its mounts. */
static size_t usual_limit(const struct membership *in) {
    size_t least = SIZE_MAX;
    const char *const v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    for (size_t i = 0; i < sizeof v2 / sizeof v2[0] && in->v2[0] != '\0'; i++) {
        size_t limit = limit_upwards(v2[i], below_root(in->v2, "/"), "memory.max");
        if (limit < least) least = limit;
    }
    if (in->v1[0] != '\0') {
        const char *below = below_root(in->v1, "/");
        size_t limit = limit_upwards("/sys/fs/cgroup/memory", below, "memory.limit_in_bytes");
        if (limit < least) least = limit;
    }
    return least;
}

static size_t cgroup_limit(void) {
    struct membership in;
    struct lines mounts;
    read_membership(&in);
    if (in.v1[0] == '\0' && in.v2[0] == '\0') return SIZE_MAX;
    if (!lines_open(&mounts, "/proc/self/mountinfo")) return usual_limit(&in);
    size_t least = SIZE_MAX;
    for (char *line; (line = lines_next(&mounts)) != NULL;) {
        size_t limit = mount_limit(line, &in);
        if (limit < least) least = limit;
    }
    close(mounts.fd);
    return least;
}

/* sysinfo(2) itself: sysconf(_SC_PHYS_PAGES) may read /proc through stdio, which calls malloc. */
static size_t machine_memory(void) {
    struct sysinfo info;
    if (sysinfo(&info) != 0 || info.totalram == 0) return SIZE_MAX;
    uint64_t unit = info.mem_unit != 0 ? info.mem_unit : 1;
    if (info.totalram > SIZE_MAX / unit) return SIZE_MAX;
    return (size_t)(info.totalram * unit);
}

size_t gci_vm_memory_limit(bool cgroup) {
    size_t machine = machine_memory();
    size_t limit = cgroup ? cgroup_limit() : SIZE_MAX;
    return limit < machine ? limit : machine;
}
