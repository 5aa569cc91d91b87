/* A program with a leak, for finding it in a heap snapshot (docs/snapshots.md): it serves
 * requests, whose sessions it forgets when they end, but each has left its log in a registry of
 * listeners. Notes of single lines are in a weak table, which holds none of them. `leak FILE
 * [OBJECTS]` writes the snapshot when that many objects are alive, and prints how long it took. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cairn/embed.h"
#include "cairn/gc.h"

struct line {
    struct line *next;
    char *text;
    long time;
};
GC_TYPE(struct line, next, text);

struct log {
    struct line *first;
};
GC_TYPE(struct log, first);

struct listener {
    struct listener *next;
    struct log *log;
};
GC_TYPE(struct listener, next, log);

struct session {
    struct session *next;
    struct log *log;
    char *user;
};
GC_TYPE(struct session, next, log, user);

struct registry {
    struct listener *listeners; /* grows for ever: nobody takes one out */
    long count;
};
GC_TYPE(struct registry, listeners);

enum { LINES = 200, SESSIONS = 10 };

/* What is known of a line besides, for as long as there is the line. */
struct note {
    struct note *none;
    long time;
};
GC_TYPE(struct note, none);

static struct session *sessions;
static struct registry *registry;
static gc_table *notes; /* of lines, weak in its keys */

/* What went wrong in the program that this stands for. */
static void listen(struct log *log) {
    struct listener *listener = gc_new(struct listener);
    listener->log = log;
    listener->next = registry->listeners;
    registry->listeners = listener;
    registry->count++;
}

static long serve(long now) {
    struct session *session = gc_new(struct session);
    session->log = gc_new(struct log);
    session->user = gc_strdup("somebody");
    listen(session->log);
    for (int i = 0; i < LINES; i++) {
        struct line *line = gc_new(struct line);
        line->time = now + i;
        if (i % 10 == 0) line->text = gc_strdup("logged in");
        line->next = session->log->first;
        session->log->first = line;
        if (i % 100 == 0) gc_table_set(notes, line, gc_new(struct note));
    }
    session->next = sessions;
    sessions = session;
    return 4 + LINES + LINES / 10 + LINES / 100;
}

/* Only the last few sessions are kept. */
static void forget_old(void) {
    struct session *last = sessions;
    for (int i = 1; i < SESSIONS && last != NULL; i++) last = last->next;
    if (last != NULL) last->next = NULL;
}

/* In a function of its own, so that what it leaves on the stack holds nothing. */
static __attribute__((noinline)) long serve_until(long wanted) {
    long made = 0;
    registry = gc_new(struct registry);
    notes = gc_table_new(GC_TABLE_WEAK_KEYS, NULL, NULL);
    while (made < wanted) {
        made += serve(made);
        forget_old();
    }
    return made;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "leak FILE [OBJECTS]: expected the name of the snapshot\n");
        return 2;
    }
    struct timespec before, after;
    long made = serve_until(argc > 2 ? atol(argv[2]) : 1000000);
    clock_gettime(CLOCK_MONOTONIC, &before);
    int error = gc_snapshot_write(argv[1]);
    clock_gettime(CLOCK_MONOTONIC, &after);
    if (error != 0) {
        fprintf(stderr, "leak: %s: %s\n", argv[1], strerror(error));
        return 1;
    }
    long ms = (after.tv_sec - before.tv_sec) * 1000 + (after.tv_nsec - before.tv_nsec) / 1000000;
    printf("%ld objects, snapshot in %ld ms\n", made, ms);
    return 0;
}
