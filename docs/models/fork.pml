/* Forking while others allocate and collect: docs/threads.md, rules 11 to 14, as in gc/fork.c.
 *
 * THREADS threads allocate (the world's lock; then they sweep the block they took, without it),
 * collect (raise ENTERING, take the loader's lock, then the world's, STOP, START, and back), and
 * fork: PREPARE, the fork itself, and the parent's or the child's step.  There is one process in the
 * model: at a fork it goes on as the parent or as the child.  In the child all other threads
 * vanish where they are, with what they hold; the child goes on doing all the same things, so a
 * lock or a counter that a vanished thread left is a deadlock.  With -DFORKS_RAW threads also
 * call _Fork(), which runs no PREPARE: the child notices by a word that fork wiped, and REFUSES,
 * which ends it at the label end_refused, when somebody may have been in the middle of something.
 * With -DLOADS threads load objects, in program code, in place of forking (a thread that has the
 * loader's lock while another forks leaves it taken in the child, with or without a collector).
 * Abstracted: locks are mutexes; stopping is stop.pml's, here one step for each thread: it is
 * stopped when it is BLOCKING or not inside the library, and then stays where it is.
 * Asserted: no vanished thread was in the middle of a change under the world's lock or of a sweep, and
 * in a stopped world nobody has the loader's lock but the stopper; no deadlock. */
#ifndef THREADS
#define THREADS 3
#endif
#ifndef FORKS
#define FORKS 2 /* one after the other, of the child too */
#endif
#define NOBODY THREADS

bit alive[THREADS] = 1;
bit listed[THREADS] = 1;
bit inside[THREADS];
bit blocking[THREADS];
bit held[THREADS]; /* stopped */
byte world = NOBODY;
byte loader = NOBODY;
byte entering, sweeping;
bit forking;
byte fork_lock = NOBODY;
byte forks;
bit wiped; /* this is a child, and nobody has noticed */

/* Ghosts: what a thread is in the middle of. */
bit changing[THREADS]; /* under the world's lock */
bit torn[THREADS];     /* a sweep */

/* Goes on when not stopped. */
#define ENTER() atomic { !held[t] -> inside[t] = 1 }
#define LEAVE() atomic { inside[t] = 0 }

/* BLOCKING before a wait, RUNNING after it; by then a stop has ended. */
#define BLOCK()   atomic { blocking[t] = 1 }
#define UNBLOCK() atomic { !held[t] -> blocking[t] = 0 }

inline LOCK_WORLD() {
    BLOCK();
    atomic { world == NOBODY -> world = t };
    atomic { assert(!held[t]); blocking[t] = 0 }
}

#define UNLOCK_WORLD() atomic { assert(world == t); world = NOBODY }

inline STOP() {
    i = 0;
    do
    :: atomic { i < THREADS && (i == t || !listed[i]) -> i++ }
    :: atomic { i < THREADS && i != t && listed[i] && (blocking[i] || !inside[i]) ->
           held[i] = 1; i++ }
    :: atomic { i == THREADS -> i = 0; break }
    od
}

inline START() {
    d_step {
        i = 0;
        do
        :: i < THREADS -> held[i] = 0; i++
        :: else -> i = 0; break
        od
    }
}

/* In a child that nobody prepared. */
inline NOTICE() {
#ifdef FORKS_RAW
    if
    :: wiped ->
        if
#ifdef BROKEN_NOTICE_SEES_LOCK_ONLY
        :: world != NOBODY -> goto end_refused
#elif defined(BROKEN_NOTICE_IGNORES_LOCK)
        :: false -> goto end_refused
#else
        :: world != NOBODY || entering > 0 || sweeping > 0 -> goto end_refused
#endif
        :: else -> CHILD()
        fi
    :: else
    fi
#else
    skip
#endif
}

inline CHANGE() {
    atomic { assert(world == t); changing[t] = 1 };
    changing[t] = 0
}

inline ALLOCATE() {
    LOCK_WORLD();
    CHANGE();
    sweeping++;
    UNLOCK_WORLD();
    torn[t] = 1;
    torn[t] = 0;
    sweeping--
}

inline ENTERING() {
    do
    ::
#ifdef BROKEN_CHECKED_BEFORE
        if
        :: forking == 0 -> entering++; break
        :: else
        fi;
#else
        entering++;
#ifdef BROKEN_FORKING_UNCHECKED
        break;
#endif
        if
        :: atomic { forking == 0 -> break }
        :: atomic { forking != 0 -> skip }
        fi;
        entering--;
#endif
        BLOCK();
        forking == 0;
        UNBLOCK()
    od
}

inline COLLECT() {
    ENTERING();
#ifdef BROKEN_LOADER_LAST
    LOCK_WORLD();
    STOP();
    atomic { loader == NOBODY -> loader = t };
#else
#ifdef BROKEN_LOADER_RUNNING
    atomic { loader == NOBODY -> loader = t };
#else
    BLOCK();
    atomic { loader == NOBODY -> loader = t };
#endif
    LOCK_WORLD();
    STOP();
#endif
    assert(loader == t);
    CHANGE();
    START();
    UNLOCK_WORLD();
    atomic { loader = NOBODY };
    entering--
}

inline PREPARE() {
#if !defined(BROKEN_FORK_LOCK_RUNNING) && !defined(BROKEN_FORKER_RUNNING)
    BLOCK();
#endif
#ifndef BROKEN_NO_FORK_LOCK
    atomic { fork_lock == NOBODY -> fork_lock = t };
#endif
    forking = 1;
#ifdef BROKEN_LOCK_FIRST
    LOCK_WORLD();
    entering == 0;
#else
#ifdef BROKEN_FORK_LOCK_RUNNING
    BLOCK();
#endif
#ifndef BROKEN_ENTERING_IGNORED
    entering == 0;
#endif
    LOCK_WORLD();
#endif
#ifndef BROKEN_SWEEPING_IGNORED
    sweeping == 0
#endif
}

inline PARENT() {
    UNLOCK_WORLD();
    forking = 0;
    fork_lock = NOBODY
}

/* The others vanish. */
inline VANISH() {
    i = 0;
    do
    :: i < THREADS -> alive[i] = (i == t); i++
    :: else -> i = 0; break
    od
}

inline CHILD() {
    d_step {
        i = 0;
        do
        :: i < THREADS ->
            assert(i == t || !changing[i]);
            assert(i == t || !torn[i]);
#ifndef BROKEN_CHILD_KEEPS_RECORDS
            listed[i] = (i == t);
#endif
            held[i] = 0;
            i++
        :: else -> i = 0; break
        od;
#ifndef BROKEN_CHILD_KEEPS_COUNTS
        entering = 0;
        sweeping = 0;
#endif
#ifdef BROKEN_NOTICE_KEEPS_FORKING
        if
        :: !wiped -> forking = 0; fork_lock = NOBODY
        :: else
        fi;
#else
        forking = 0;
        fork_lock = NOBODY;
#endif
#ifndef BROKEN_CHILD_KEEPS_LOCK
        world = NOBODY;
#endif
        wiped = 0
    }
}

proctype Thread(byte t) {
    byte i;
    {
        do
        :: ENTER(); NOTICE(); ALLOCATE(); LEAVE()
        :: ENTER(); NOTICE(); COLLECT(); LEAVE()
#ifdef LOADS
        :: atomic { loader == NOBODY && !held[t] -> loader = t };
            atomic { !held[t] -> loader = NOBODY }
#else
        :: atomic { forks < FORKS && !held[t] -> forks++ };
            ENTER();
            NOTICE();
            PREPARE();
            if
            :: PARENT()
            :: atomic { VANISH(); CHILD() }
            fi;
            LEAVE()
#endif
#ifdef FORKS_RAW
        :: atomic { forks < FORKS && !held[t] -> forks++;
               if
               :: true
               :: VANISH(); wiped = 1
               fi }
#endif
        :: goto end_program
        od;
end_refused:
        false;
end_program:
        false
    } unless { !alive[t] }
}

init {
    atomic {
        byte n;
        do
        :: n < THREADS -> run Thread(n); n++
        :: else -> break
        od
    }
}
