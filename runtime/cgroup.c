/* Limits of cgroups: see cgroup.h.  Which cgroup the process is in is said by /proc/self/cgroup,
 * where its files are by /proc/self/mountinfo; from there up every level is asked.  Owns nothing.
 * Called by runtime/vm.c.  Invariants: files are read through buffers on the stack, and whatever
 * can't be read or understood limits nothing. */
#define _GNU_SOURCE
#include "runtime/cgroup.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#define NO_LIMIT UINT64_MAX

enum {
    PATH_BYTES = 2048, /* of a cgroup, or of a mount point */
    FILE_BYTES = 32,   /* of a file's name in a cgroup */
    TEXT_BYTES = 64    /* of what such a file says */
};

/* ---- Files ---------------------------------------------------------------------------------- */

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

/* Cuts a decimal number off *CURSOR; false if there is none ("max", "-1").  One too large for the
 * type is NO_LIMIT. */
static bool next_number(const char **cursor, uint64_t *value) {
    const char *text = *cursor;
    uint64_t number = 0;
    bool overflow = false;
    for (; *text >= '0' && *text <= '9'; text++) {
        overflow = overflow || __builtin_mul_overflow(number, 10u, &number) ||
                   __builtin_add_overflow(number, (uint64_t)(*text - '0'), &number);
    }
    if (text == *cursor) return false;
    *cursor = text;
    *value = overflow ? NO_LIMIT : number;
    return true;
}

/* ---- The files of one cgroup ---------------------------------------------------------------- */

/* A cgroup's directory, with room for "/", a file's name and a NUL behind it. */
struct directory {
    char path[2 * PATH_BYTES + FILE_BYTES + 2];
    size_t length;
};

/* The beginning of the file NAME; false if there is no such file. */
static bool read_file(struct directory *in, const char *name, char text[TEXT_BYTES]) {
    in->path[in->length] = '/';
    memcpy(in->path + in->length + 1, name, strlen(name) + 1);
    int fd = open_quietly(in->path);
    if (fd < 0) return false;
    size_t n = read_some(fd, text, TEXT_BYTES - 1);
    close(fd);
    text[n] = '\0';
    return n > 0;
}

/* v1's "unlimited" is the largest multiple of the page size. */
static uint64_t memory_limit(struct directory *in, const char *name) {
    char text[TEXT_BYTES];
    uint64_t bytes;
    const char *cursor = text;
    if (!read_file(in, name, text) || !next_number(&cursor, &bytes)) return NO_LIMIT;
    return bytes >= UINT64_C(1) << 62 ? NO_LIMIT : bytes;
}

static uint64_t memory_v2(struct directory *in) {
    return memory_limit(in, "memory.max");
}

static uint64_t memory_v1(struct directory *in) {
    return memory_limit(in, "memory.limit_in_bytes");
}

/* Of each PERIOD the processes in the cgroup may together use QUOTA. */
static uint64_t cpus(uint64_t quota, uint64_t period) {
    if (quota == 0 || period == 0) return NO_LIMIT;
    return quota / period + (quota % period != 0);
}

/* "max PERIOD" or "QUOTA PERIOD". */
static uint64_t cpus_v2(struct directory *in) {
    char text[TEXT_BYTES];
    uint64_t quota, period;
    const char *cursor = text;
    if (!read_file(in, "cpu.max", text) || !next_number(&cursor, &quota)) return NO_LIMIT;
    if (*cursor++ != ' ' || !next_number(&cursor, &period)) return NO_LIMIT;
    return cpus(quota, period);
}

/* A quota of -1 is none. */
static uint64_t cpus_v1(struct directory *in) {
    char text[TEXT_BYTES];
    uint64_t quota, period;
    const char *cursor = text;
    if (!read_file(in, "cpu.cfs_quota_us", text) || !next_number(&cursor, &quota)) return NO_LIMIT;
    cursor = text;
    if (!read_file(in, "cpu.cfs_period_us", text) || !next_number(&cursor, &period))
        return NO_LIMIT;
    return cpus(quota, period);
}

/* What one directory says; NO_LIMIT if nothing. */
typedef uint64_t limit_reader(struct directory *in);

static const struct resource {
    const char *controller; /* its name in v1 */
    const char *usual_v1;   /* where that is mounted as a rule */
    limit_reader *v1, *v2;
} resources[] = {
    [GCI_CGROUP_MEMORY] = {"memory", "/sys/fs/cgroup/memory", memory_v1, memory_v2},
    [GCI_CGROUP_CPUS] = {"cpu", "/sys/fs/cgroup/cpu", cpus_v1, cpus_v2},
};

/* ---- Which cgroup --------------------------------------------------------------------------- */

/* Where this process sits in the two hierarchies that can limit the resource; empty if in none. */
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
static void read_membership(struct membership *out, const char *file, const char *controller) {
    struct lines in;
    out->v1[0] = out->v2[0] = '\0';
    if (!lines_open(&in, file)) return;
    for (char *line; (line = lines_next(&in)) != NULL;) {
        char *controllers = strchr(line, ':');
        char *path = controllers != NULL ? strchr(controllers + 1, ':') : NULL;
        if (path == NULL) continue;
        *controllers++ = '\0';
        *path++ = '\0';
        if (strcmp(line, "0") == 0 && *controllers == '\0') {
            copy_path(out->v2, path);
        } else if (list_has(controllers, controller)) {
            copy_path(out->v1, path);
        }
    }
    close(in.fd);
}

/* ---- Upwards -------------------------------------------------------------------------------- */

/* The smallest limit from the cgroup at MOUNT + BELOW up to the one at MOUNT. */
static uint64_t limit_upwards(const char *mount, const char *below, limit_reader *read_limit) {
    struct directory in;
    size_t top = strlen(mount), rest = strlen(below);
    if (top > PATH_BYTES || rest > PATH_BYTES) return NO_LIMIT;
    memcpy(in.path, mount, top);
    memcpy(in.path + top, below, rest);
    in.length = top + rest;
    uint64_t least = NO_LIMIT;
    for (;;) {
        while (in.length > top && in.path[in.length - 1] == '/') in.length--;
        uint64_t limit = read_limit(&in);
        if (limit < least) least = limit;
        if (in.length <= top) return least;
        while (in.length > top && in.path[in.length - 1] != '/') in.length--;
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
static uint64_t mount_limit(
    char *line, const struct membership *in, const struct resource *resource) {
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
    if (strcmp(type, "cgroup2") == 0 && in->v2[0] != '\0')
        return limit_upwards(mount, below_root(in->v2, root), resource->v2);
    if (strcmp(type, "cgroup") == 0 && in->v1[0] != '\0' && list_has(options, resource->controller))
        return limit_upwards(mount, below_root(in->v1, root), resource->v1);
    return NO_LIMIT;
}

/* The same at the usual places, for a machine that doesn't show its mounts. */
static uint64_t usual_limit(const struct membership *in, const struct resource *resource) {
    uint64_t least = NO_LIMIT;
    const char *const v2[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
    for (size_t i = 0; i < sizeof v2 / sizeof v2[0] && in->v2[0] != '\0'; i++) {
        uint64_t limit = limit_upwards(v2[i], below_root(in->v2, "/"), resource->v2);
        if (limit < least) least = limit;
    }
    if (in->v1[0] != '\0') {
        const char *below = below_root(in->v1, "/");
        uint64_t limit = limit_upwards(resource->usual_v1, below, resource->v1);
        if (limit < least) least = limit;
    }
    return least;
}

uint64_t gci_cgroup_limit_by(
    enum gci_cgroup_resource resource, const char *membership, const char *mounts) {
    const struct resource *of = &resources[resource];
    struct membership in;
    struct lines lines;
    read_membership(&in, membership, of->controller);
    if (in.v1[0] == '\0' && in.v2[0] == '\0') return NO_LIMIT;
    if (!lines_open(&lines, mounts)) return usual_limit(&in, of);
    uint64_t least = NO_LIMIT;
    for (char *line; (line = lines_next(&lines)) != NULL;) {
        uint64_t limit = mount_limit(line, &in, of);
        if (limit < least) least = limit;
    }
    close(lines.fd);
    return least;
}

uint64_t gci_cgroup_limit(enum gci_cgroup_resource resource) {
    return gci_cgroup_limit_by(resource, "/proc/self/cgroup", "/proc/self/mountinfo");
}
