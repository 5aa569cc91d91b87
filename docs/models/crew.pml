/* Marking on several CPUs, and how it ends: docs/threads.md, rules 16 and 17, as in gc/crew.c.
 *
 * Leader is the collecting thread; it calls the crew ROUNDS times.  Workers sleep until `generation`
 * changes, JOIN if the job is OPEN, and work.  Each member has its own stack, here the number of
 * items on it; an item that is processed may push others, ITEMS in all in a round, which the leader
 * begins with one or two of.  Who sees others wait, without the lock, FEEDs an item and wakes one
 * sleeper; whose stack is empty takes what is on offer or WAITs; the last to wait sees that the job is
 * DONE.  Who LEAVEs lowers `joined`; the leader returns when it alone is left.  Futexes are as in
 * stop.pml, and a worker may be as late as it likes at each step.  Abstracted: the lock is a mutex
 * without insides; a chunk is one item; items are counted, not told apart.  The processing of an
 * item may last until nothing is on offer (LONG): so an offer that nobody comes for, while others
 * sleep, is a deadlock.
 * Asserted: a job is done once, with nothing left on a stack or on offer and each item processed once;
 * nobody has joined, or works, after the leader returned; in the end all workers sleep until the
 * next generation, not elsewhere. */
#ifndef WORKERS
#define WORKERS 2
#endif
#ifndef ITEMS
#define ITEMS 4
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif
#define CREW   (WORKERS + 1)
#define NOBODY CREW

mtype = {AWAKE, ON_GENERATION, ON_TURN, ON_JOINED};

byte lock = NOBODY;
byte generation; /* futex */
bit open;
byte joined; /* futex */
byte waiting;
byte offered;
byte turn; /* futex */

mtype sleep[CREW] = AWAKE;
byte stack[CREW];

/* Ghosts: */
bit leading;          /* from OPEN to the leader's return */
bit working[CREW];    /* joined and not left */
byte made, processed; /* items of this round */

#define LOCK()   atomic { lock == NOBODY -> lock = me }
#define UNLOCK() atomic { assert(lock == me); lock = NOBODY }

#define FUTEX_WAIT(word, value, which)               \
    if                                               \
    :: atomic { word == value -> sleep[me] = which }; \
       sleep[me] == AWAKE                            \
    :: atomic { else -> skip }                       \
    fi

inline WAKE_ALL(which) {
    d_step {
        k = 0;
        do
        :: k < CREW ->
            if
            :: sleep[k] == which -> sleep[k] = AWAKE
            :: else
            fi;
            k++
        :: else -> break
        od;
        k = 0
    }
}

inline WAKE_ONE(which) {
    atomic { /* any one */
        if
        :: sleep[0] == which -> sleep[0] = AWAKE
        :: sleep[1] == which -> sleep[1] = AWAKE
#if WORKERS > 1
        :: sleep[2] == which -> sleep[2] = AWAKE
#endif
#if WORKERS > 2
        :: sleep[3] == which -> sleep[3] = AWAKE
#endif
        :: else
        fi
    }
}

inline DONE() {
    atomic {
        assert(open && offered == 0 && processed == made);
        k = 0;
        do
        :: k < CREW -> assert(stack[k] == 0); k++
        :: else -> k = 0; break
        od;
        open = 0
    };
#ifndef BROKEN_DONE_WITHOUT_TURN
    turn++;
#endif
    UNLOCK();
    WAKE_ALL(ON_TURN)
}

/* From joining to leaving. */
inline WORK() {
    do
    :: stack[me] > 0 ->
        atomic { /* process one */
            assert(leading && working[me] && processed < made);
            stack[me]--;
            processed++;
            if
            :: true
            :: made < ITEMS -> stack[me]++; made++
            :: made < ITEMS - 1 -> stack[me] = stack[me] + 2; made = made + 2
            fi
        };
        if
        :: atomic { stack[me] > 0 && waiting > 0 -> skip }; /* FEED */
            LOCK();
            if
            :: atomic { open && waiting > offered -> offered++; stack[me]--; turn++ };
                UNLOCK();
#ifndef BROKEN_FEEDER_WAKES_NOBODY
                WAKE_ONE(ON_TURN)
#endif
            :: atomic { else -> lock = NOBODY }
            fi
        :: atomic { else -> skip }
        fi;
        if
        :: true
        :: offered == 0 -> skip
        :: true -> skip;
LONG:
            offered == 0
        fi
    :: stack[me] == 0 ->
        LOCK();
        do
        :: atomic { offered > 0 -> offered--; stack[me]++ }; UNLOCK(); break
        :: offered == 0 ->
            waiting++;
#ifdef BROKEN_COMPARED_UNLOCKED
            UNLOCK();
            if
            :: waiting == joined -> LOCK(); DONE(); goto leave
            :: else -> LOCK(); s = turn; UNLOCK()
            fi;
#else
            if
            :: waiting == joined -> DONE(); goto leave
            :: else -> s = turn; UNLOCK()
            fi;
#endif
#ifdef BROKEN_WAIT_UNCHECKED
            sleep[me] = ON_TURN;
            sleep[me] == AWAKE;
#else
            FUTEX_WAIT(turn, s, ON_TURN);
#endif
            s = 0;
            LOCK();
            waiting--;
            if
            :: !open -> UNLOCK(); goto leave
            :: else
            fi
        od
    od
}

active proctype Leader() {
    byte me = 0, k, s, round;
    do
    :: round < ROUNDS ->
        round++;
        LOCK();
        atomic { /* OPEN */
            assert(!leading && !open && offered == 0);
            leading = 1;
            working[0] = 1;
            processed = 0;
            if
            :: made = 1
            :: made = 2
            fi;
            stack[0] = made;
            open = 1;
            joined = 1;
            waiting = 0;
            generation++
        };
        UNLOCK();
        WAKE_ALL(ON_GENERATION);
        WORK();
leave:
        LOCK();
        atomic { open = 0; working[0] = 0 };
        UNLOCK();
#ifndef BROKEN_LEADER_RETURNS_AT_ONCE
        do
        :: joined == 1 -> break
#ifdef BROKEN_LEADER_WAITS_ON_TURN
        :: joined > 1 ->
            s = turn; /* which a leaver doesn't change */
            if
            :: joined == 1 -> break
            :: else
            fi;
            FUTEX_WAIT(turn, s, ON_JOINED);
#else
        :: atomic { joined > 1 -> s = joined };
            FUTEX_WAIT(joined, s, ON_JOINED);
#endif
            s = 0
        od;
#endif
        atomic {
            assert(!open && offered == 0 && processed == made);
            k = 1;
            do
            :: k < CREW -> assert(!working[k]); k++
            :: else -> k = 0; break
            od;
            leading = 0
        }
    :: else -> break
    od
}

active [WORKERS] proctype Worker() {
    byte me = _pid, k, s, seen;
    bit last;
wait:
    do
    :: generation == seen ->
        if
        :: atomic { generation == seen -> sleep[me] = ON_GENERATION };
end_idle:
            sleep[me] == AWAKE
        :: atomic { else -> skip }
        fi
    :: atomic { generation != seen -> seen = generation; break }
    od;
    LOCK(); /* JOIN */
    if
#ifdef BROKEN_LATE_JOIN
    :: true ->
#else
    :: open ->
#endif
        joined++;
        atomic { assert(leading); working[me] = 1 };
        UNLOCK()
    :: !open -> UNLOCK(); goto wait
    fi;
    WORK();
leave:
    LOCK(); /* LEAVE */
    atomic { assert(leading); working[me] = 0; joined--; last = joined == 1 };
    UNLOCK();
#ifndef BROKEN_LEAVER_WAKES_NOBODY
    if
    :: atomic { last -> last = 0 }; WAKE_ALL(ON_JOINED)
    :: atomic { !last -> skip }
    fi;
#endif
    last = 0;
    goto wait
}
