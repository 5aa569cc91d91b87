/* Stopping and starting the world: docs/threads.md, rules 1 to 8 and 10.
 *
 * MUTATORS threads run the program, enter the library, take the world's lock, block, fault, detach
 * and attach again, in any order; any of them that has the lock may STOP the world, look at it and
 * START it.  A thread is two processes: Mutator is its code, Handler its signal handler; Mutator
 * stands still while Handler runs (`provided`).  The stop signal is a bit, delivered at any step at
 * which it isn't masked, however late; SPURIOUS ones come from anywhere.  A futex is two steps:
 * compare the word and go to sleep, atomically; be woken.  A signal ends the sleep of the code that
 * it interrupts.  Abstracted: the world's and the barrier's lock are mutexes without insides; a
 * stop signal sent twice is pending once; memory is sequentially consistent (all words here are
 * atomic, but `inside`, which only its thread uses).  A thread may stand still for good in the
 * program, while BLOCKING, or detached (the labels end_...), so that a stop that is lost for it
 * leaves the stopper waiting: an invalid end state.
 * Asserted: while the world is stopped nobody else touches the heap, is in the library's unlocked
 * part or has the barrier's lock; one stopper; `awaited` counts no more than was asked for; whoever
 * has the world's lock gets out of BLOCKING at the first try.  With -DOPERATIONS=n each thread does
 * at most n things; then a cycle of any kind is a stop or a wait that doesn't end, and is searched
 * for as a non-progress cycle under weak fairness. */
#ifndef MUTATORS
#define MUTATORS 2
#endif

mtype = {RUNNING, REQUESTED, STOPPED, BLOCKING, HELD, AWAKE, ON_AWAITED, ON_STATE};

#define NOBODY MUTATORS

mtype state[MUTATORS] = RUNNING; /* the state word, and a futex */
mtype sleep[MUTATORS] = AWAKE;   /* in a futex wait: on which word */
bit inside[MUTATORS];
bit listed[MUTATORS] = 1; /* on the world's list, and its thread-local record set */
bit pending[MUTATORS];    /* the stop signal */
bit masked[MUTATORS];     /* all signals are blocked */
bit handling[MUTATORS];   /* the thread is in its signal handler */
byte awaited;             /* and a futex */
byte unsent = MUTATORS;   /* from it on, nobody is being sent the signal yet */
byte world = NOBODY;      /* who has the world's lock */
byte barrier = NOBODY;    /* who has the barrier's lock */

/* Ghosts: */
byte stopper = NOBODY;  /* for whom the world is stopped */
bit touching[MUTATORS]; /* in the middle of a change to the heap */

#define TOUCH(t) assert(stopper == NOBODY || stopper == t)

/* Compares and sleeps; goes on when woken.  The caller looks again. */
#ifdef BROKEN_WAIT_UNCHECKED
#define FUTEX_WAIT(word, value, which) \
    sleep[t] = which;                  \
    sleep[t] == AWAKE
#else
#define FUTEX_WAIT(word, value, which)                    \
    if                                                    \
    :: atomic { word == value -> sleep[t] = which };      \
       sleep[t] == AWAKE                                  \
    :: atomic { else -> skip }                            \
    fi
#endif

inline WAKE_STOPPER() {
    d_step {
        k = 0;
        do
        :: k < MUTATORS ->
            if
            :: sleep[k] == ON_AWAITED -> sleep[k] = AWAKE
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

inline WAKE_THREAD(i) {
    d_step {
        if
        :: sleep[i] == ON_STATE -> sleep[i] = AWAKE
        :: else
        fi
    }
}

inline LOWER_AWAITED() {
    atomic {
        assert(awaited > 0);
        awaited--;
        last = awaited == 0
    }
#ifndef BROKEN_NO_WAKE
    if
    :: atomic { last -> last = 0 }; WAKE_STOPPER()
    :: atomic { !last -> skip }
    fi
#else
    last = 0
#endif
}

/* PASS ON, rule 3: the stopper and all who park send the signals that nobody is sending yet.  NEXT is
 * 0 before and after. */
inline PASS_ON(next) {
    do
    :: atomic { unsent < MUTATORS -> next = unsent; unsent++; assert(world != NOBODY) };
        atomic {
            if
            :: next != t && listed[next] && state[next] == REQUESTED -> pending[next] = 1
            :: else
            fi;
            next = 0
        }
    :: atomic { unsent == MUTATORS -> break }
    od
}

/* PARK, rule 3: in the handler, or with `inside` set, so that the handler can't park in between. */
inline PARK() {
#ifndef BROKEN_PASS_ON_LATE
    PASS_ON(k);
#endif
#ifdef BROKEN_STOPPED_LATE
    LOWER_AWAITED();
    state[t] = STOPPED;
#else
    atomic { assert(state[t] == REQUESTED); state[t] = STOPPED };
    LOWER_AWAITED();
#endif
#ifdef BROKEN_PASS_ON_LATE
    PASS_ON(k);
#endif
    WAIT_WHILE_STOPPED()
}

inline WAIT_WHILE_STOPPED() {
    do
    :: state[t] == STOPPED -> FUTEX_WAIT(state[t], STOPPED, ON_STATE)
    :: atomic { else -> break }
    od
}

/* Rule 5. */
inline ENTER() {
    inside[t] = 1
}

inline LEAVE() {
#if defined(BROKEN_LEAVE_WITHOUT_LOOK)
    inside[t] = 0
#elif defined(BROKEN_LOOK_BEFORE_CLEAR)
    if
    :: state[t] == REQUESTED -> PARK()
    :: atomic { else -> skip }
    fi;
    inside[t] = 0
#elif defined(BROKEN_LEAVE_PARKS_OUTSIDE)
    inside[t] = 0;
    if
    :: state[t] == REQUESTED -> PARK()
    :: atomic { else -> skip }
    fi
#else
    do
    :: inside[t] = 0;
        if
        :: atomic { state[t] != REQUESTED -> break }
        :: atomic { state[t] == REQUESTED -> skip }
        fi;
        inside[t] = 1;
        if
        :: state[t] == REQUESTED -> PARK()
        :: atomic { state[t] != REQUESTED -> skip }
        fi
    od
#endif
}

inline UNLOCK() {
    atomic { assert(world == t); world = NOBODY }
}

/* Waits for the lock while BLOCKING or HELD; has it, and is RUNNING, at the end. */
inline QUEUE() {
    atomic { world == NOBODY -> world = t };
    atomic { assert(state[t] == BLOCKING); state[t] = RUNNING }
}

/* Rule 6.  A thread tries the lock for a while, parks meanwhile if asked to, and then queues. */
inline LOCK() {
    do
    :: atomic { world == NOBODY -> world = t; break }
#ifndef BROKEN_WAITS_RUNNING
    :: atomic { state[t] == RUNNING -> state[t] = BLOCKING }; QUEUE(); break
    :: atomic { state[t] == REQUESTED -> skip }; PARK()
#endif
    od
}

/* Rule 3. */
inline STOP() {
    i = 0;
    do
    :: atomic { i < MUTATORS && (i == t || !listed[i]) -> i++ }
    :: atomic { i < MUTATORS && i != t && listed[i] && state[i] == BLOCKING -> state[i] = HELD; i++ }
    :: i < MUTATORS && i != t && listed[i] && state[i] != BLOCKING ->
#ifdef BROKEN_AWAITED_LATE
        if
        :: atomic { state[i] == RUNNING -> state[i] = REQUESTED }; awaited++; i++
        :: atomic { else -> skip }
        fi
#else
        awaited++;
        if
        :: atomic { state[i] == RUNNING -> state[i] = REQUESTED; i++ }
        :: atomic { else -> assert(state[i] == BLOCKING); awaited-- }
        fi
#endif
    :: atomic { i == MUTATORS -> i = 0; break }
    od;
    unsent = 0;
    PASS_ON(i);
    do
    :: atomic { awaited != 0 -> value = awaited };
        FUTEX_WAIT(awaited, value, ON_AWAITED)
    :: atomic { awaited == 0 -> value = 0; break }
    od
}

inline STOPPED_WORLD() {
    atomic {
        assert(stopper == NOBODY);
        stopper = t;
        assert(barrier == NOBODY);
        do
        :: i < MUTATORS ->
            assert(i == t || !listed[i] || state[i] == STOPPED || state[i] == HELD);
            assert(i == t || !touching[i]);
            i++
        :: else -> i = 0; break
        od
    };
    atomic { stopper = NOBODY }
}

/* Rule 4. */
inline START() {
    do
    :: atomic { i < MUTATORS && (i == t || !listed[i]) -> i++ }
    :: atomic { i < MUTATORS && i != t && listed[i] && state[i] == STOPPED -> state[i] = RUNNING };
#ifndef BROKEN_START_NO_WAKE
        WAKE_THREAD(i);
#endif
        i++
    :: atomic { i < MUTATORS && i != t && listed[i] && state[i] != STOPPED ->
#if !defined(BROKEN_RELEASE_EARLY) && !defined(BROKEN_ATTACH_UNLOCKED)
           assert(state[i] == HELD);
#endif
           state[i] = BLOCKING; i++ }
    :: atomic { i == MUTATORS -> i = 0; break }
    od
}

/* Rule 7. */
inline BLOCKING_BEGIN() {
    ENTER();
#ifdef BROKEN_BLOCKING_BEGIN_STORE
    state[t] = BLOCKING;
#else
    do
    :: atomic { state[t] == RUNNING -> state[t] = BLOCKING; break }
    :: state[t] == REQUESTED -> PARK()
    od;
#endif
    inside[t] = 0
}

/* Inside the library after a wait there; outside of it in gc_blocking_end(). */
inline BLOCKING_END() {
    if
    :: ENTER()
    :: skip
    fi;
#ifdef BROKEN_BLOCKING_END_STORE
    state[t] = RUNNING;
#else
    if
    :: atomic { state[t] == BLOCKING -> state[t] = RUNNING }
    :: atomic { state[t] == HELD -> skip };
#if defined(BROKEN_BLOCKING_END_SLEEPS)
        do
        :: atomic { state[t] == BLOCKING -> state[t] = RUNNING; break }
        :: state[t] == HELD -> FUTEX_WAIT(state[t], HELD, ON_STATE)
        od
#elif defined(BROKEN_BLOCKING_END_UNLOCKED)
        atomic { world == NOBODY -> world = t };
        UNLOCK();
        atomic { assert(state[t] == BLOCKING); state[t] = RUNNING }
#else
        QUEUE();
        UNLOCK()
#endif
    fi;
#endif
    if
    :: inside[t] -> LEAVE()
    :: atomic { !inside[t] -> skip }
    fi
}

/* Rule 10: what the fault handler does, and gc_prepare_write() too. */
inline OPEN_PAGE() {
    atomic { barrier == NOBODY -> barrier = t; touching[t] = 1; TOUCH(t) };
    atomic { touching[t] = 0; barrier = NOBODY }
}

proctype Mutator(byte t) provided (!handling[t]) {
    byte i, k, value;
    bit last;
#ifdef OPERATIONS
    byte operations;
#define OPERATION operations < OPERATIONS -> operations++
#else
#define OPERATION true -> skip
#endif

program:
    do
    :: atomic { OPERATION; TOUCH(t) }

    :: atomic { OPERATION }; /* a call that needs no lock, or needs it, or collects */
        ENTER();
        atomic { touching[t] = 1; TOUCH(t) };
        touching[t] = 0;
        if
        :: LOCK();
            if
#ifndef NO_LOCKED_CALLS
            :: atomic { touching[t] = 1; TOUCH(t) };
                touching[t] = 0;
                UNLOCK()
#endif
            :: STOP();
                STOPPED_WORLD();
#ifdef BROKEN_RELEASE_EARLY
                UNLOCK();
                START()
#else
                START();
                UNLOCK()
#endif
            fi
        :: skip
        fi;
        LEAVE()

#ifndef NO_BLOCKING
    :: atomic { OPERATION };
        BLOCKING_BEGIN();
        if
        :: skip
        :: skip;
end_blocking:
            false
        fi;
        BLOCKING_END()
#endif

#ifndef NO_FAULTS
    :: atomic { OPERATION; masked[t] = 1 }; /* the kernel does, for the handler */
        OPEN_PAGE();
        masked[t] = 0
    :: atomic { OPERATION }; /* gc_prepare_write() */
#ifndef BROKEN_BARRIER_UNMASKED
        masked[t] = 1;
#endif
        OPEN_PAGE();
        masked[t] = 0
#endif

#ifndef NO_ATTACHING
    :: atomic { OPERATION };
        ENTER();
        LOCK();
        listed[t] = 0;
        UNLOCK();
        inside[t] = 0;
        if
        :: skip
        :: skip;
end_detached:
            false
        fi;
        ENTER();
#ifndef BROKEN_ATTACH_UNLOCKED
        atomic { world == NOBODY -> world = t };
        atomic { state[t] = RUNNING; listed[t] = 1 };
        UNLOCK();
#else
        atomic { state[t] = RUNNING; listed[t] = 1 };
#endif
        LEAVE()
#endif

#ifndef NO_SPURIOUS
    :: atomic { /* rule 8: a signal from nobody, to anybody */
        OPERATION;
        if
        :: pending[t] = 1
        :: pending[(t + 1) % MUTATORS] = 1
        fi }
#endif

    :: goto end_program
    od;
end_program:
    false
}

proctype Handler(byte t) {
    byte k;
    bit last;
end_handler:
    do
    :: atomic { pending[t] && !masked[t] && !handling[t] ->
           pending[t] = 0; handling[t] = 1; sleep[t] = AWAKE };
        if
#if defined(BROKEN_HANDLER_IGNORES_INSIDE)
        :: atomic { listed[t] && state[t] == REQUESTED -> skip }; PARK()
#elif defined(BROKEN_HANDLER_IGNORES_STATE)
        :: atomic { listed[t] && !inside[t] -> skip }; PARK()
#else
        :: atomic { listed[t] && !inside[t] && state[t] == REQUESTED -> skip }; PARK()
#endif
        :: atomic { else -> skip }
        fi;
        atomic { handling[t] = 0 }
    od
}

init {
    atomic {
        byte n;
        do
        :: n < MUTATORS -> run Mutator(n); run Handler(n); n++
        :: else -> break
        od
    }
}
