/* The inline allocation against a stop at any of its steps: docs/threads.md, rule 9.
 *
 * Two mutators share one block of GRANULES granules: whoever owns it has its open hole, [limit,
 * cursor), and allocates objects of 1 or 2 granules from its upper end: reads the cursor, moves it,
 * writes END, writes START, and later stores to the object.  Each step is one of the machine's.  The
 * collector may stop the world between any two; a collection is one step, since nobody runs meanwhile:
 * it gives up the buffers of mutators that are inside the library, SEALs the others', marks what
 * mutators hold in registers and any other objects that it likes, sweeps the rest with the arithmetic of
 * gci_block_sweep() (docs/collection.md, rule 11), UNSEALs.  A mutator whose hole is too small
 * gives the block up and, when it is nobody's, claims one of its free runs.  Abstracted: one kind, one
 * block, objects without contents; a mutator holds the last object it made, and forgets it at any
 * time; a claimed block is swept already.
 * Asserted: while sealed each START has its END and no END is alone; the sweep leaves all that was
 * marked and nothing else; an object that a mutator holds and that is visible stays as it is; no
 * granule is handed out while a mutator holds it or is about to have it. */
#define MUTATORS 2
#ifndef GRANULES
#define GRANULES 6
#endif
#define NOBODY   MUTATORS
#define ALL      ((1 << GRANULES) - 1)
#define BIT(g)   (1 << (g))

byte starts, ends;     /* side bytes: a bit for each granule */
byte owner = NOBODY;   /* of the block */
byte cursor[MUTATORS]; /* of the owner's hole */
byte limit[MUTATORS];
bit inside[MUTATORS];

/* Registers, which are roots, and ghosts: as granule masks. */
byte coming[MUTATORS]; /* of the object being made: from reading the cursor on */
byte held[MUTATORS];   /* of the last object made; visible */

#define USED(t) (coming[t] | held[t])

/* Of an object of GRANULES_ granules at START_. */
#define MASK(start_, granules_) ((granules_ == 1 -> 1 : 3) << (start_))
#define LOWEST(mask_)           ((mask_) & ~((mask_) << 1))
#define HIGHEST(mask_)          ((mask_) & ~((mask_) >> 1))

/* What is held and visible has its START, its END, and nothing between. */
#define WHOLE(mask_)                                                                      \
    ((starts & (mask_)) == LOWEST(mask_) && (ends & (mask_)) == HIGHEST(mask_))

/* Each START of an object of two granules has its END in the next, and no other END is without a
 * START: what the arithmetic relies on. */
#define WELL_FORMED ((ends & ~starts) == ((starts & ~ends) << 1))

inline ALLOCATE() {
    if
    :: atomic { cursor[t] >= limit[t] + size && owner == t -> start = cursor[t] - size };
#ifdef BROKEN_CURSOR_LAST
        atomic { coming[t] = MASK(start, size); assert((coming[t] & USED(1 - t)) == 0) }
#else
        atomic {
            cursor[t] = start;
            coming[t] = MASK(start, size);
            assert((coming[t] & (USED(1 - t) | held[t])) == 0)
        };
#endif
        if
        :: atomic { size == 1 -> starts = starts | BIT(start); ends = ends | BIT(start) }
#ifdef BROKEN_START_FIRST
        :: atomic { size == 2 -> starts = starts | BIT(start) };
            ends = ends | BIT(start + 1)
#else
        :: atomic { size == 2 -> ends = ends | BIT(start + 1) };
            starts = starts | BIT(start)
#endif
        fi;
#ifdef BROKEN_CURSOR_LAST
        cursor[t] = start;
#endif
        atomic {
            held[t] = coming[t];
            coming[t] = 0;
            start = 0
        };
        atomic { assert(WHOLE(held[t])); assert((held[t] & USED(1 - t)) == 0); size = 0 } /* store */
    :: atomic { else -> start = 0; size = 0 }; REFILL()
    fi
}

/* Inside the library, under the world's lock. */
inline REFILL() {
    inside[t] = 1;
    atomic {
        if
        :: owner == t -> owner = NOBODY; cursor[t] = 0; limit[t] = 0
        :: else
        fi
    };
    atomic {
        if
        :: owner == NOBODY ->
            /* Everything an object covers: from each START to its END. */
            d_step {
                assert(WELL_FORMED);
                cover = (2 * ends - starts) & ALL;
                g = 0
            };
            /* Any free run. */
            do
            :: g < GRANULES && (cover & BIT(g)) -> g++
            :: g < GRANULES && !(cover & BIT(g)) ->
                limit[t] = g;
                do
                :: limit[t] < GRANULES && !(cover & BIT(limit[t])) -> limit[t]++
                :: else -> break
                od;
                if
                :: owner = t; cursor[t] = limit[t]; limit[t] = g; break
                :: g = limit[t]; limit[t] = 0
                fi
            :: g == GRANULES -> break
            od;
            cover = 0;
            g = 0
        :: else
        fi
    };
    inside[t] = 0
}

proctype Mutator(byte t) {
    byte start, size, cover, g;
    do
    :: size = 1; ALLOCATE()
    :: size = 2; ALLOCATE()
    :: atomic { held[t] != 0 -> held[t] = 0 }
    od
}

/* SEAL: if the first edge from the cursor up is an END without a START, it is put away, as in
 * gc/thread.c. */
inline SEAL() {
#ifdef BROKEN_NO_SEAL
    skip
#else
    if
    :: owner != NOBODY && !inside[owner] ->
        g = cursor[owner];
        do
        :: g < GRANULES && !((starts | ends) & BIT(g)) -> g++
        :: else -> break
        od;
        if
#ifdef BROKEN_SEAL_WITHOUT_LOOK
        :: g < GRANULES && (starts & BIT(g)) && !(ends & BIT(g)) -> torn = BIT(g + 1)
#endif
        :: g < GRANULES && !(starts & BIT(g)) -> torn = BIT(g)
        :: else
        fi;
        ends = ends & ~torn;
        g = 0
    :: else
    fi
#endif
}

proctype Collector() {
    byte marks, cover, g, torn;
    int bodies, last;
    do
    :: atomic { /* STOP */
        if
        :: owner != NOBODY && inside[owner] ->
            cursor[owner] = 0;
            limit[owner] = 0;
            owner = NOBODY
        :: else
        fi;
        SEAL();
        assert(WELL_FORMED);

        /* Mark: what a register refers to, whose START can be seen; and what else you like. */
        g = 0;
        do
        :: g < GRANULES ->
            if
            :: starts & BIT(g) ->
                if
                :: marks = marks | BIT(g)
                :: !((USED(0) | USED(1)) & BIT(g)) -> skip
                fi
            :: else
            fi;
            g++
        :: else -> break
        od;
        g = 0;

        d_step { /* Sweep. */
            bodies = (ends - starts) & ALL;
            last = (marks + bodies) & ends;
            cover = (2 * last - marks) & ALL;
            starts = starts & cover;
            ends = ends & cover;
            bodies = 0;
            last = 0;
            assert(starts == marks);
            assert(WELL_FORMED);
            assert(held[0] == 0 || WHOLE(held[0]));
            assert(held[1] == 0 || WHOLE(held[1]));
            marks = 0;
            cover = 0
        };
#ifdef BROKEN_HOLE_REUSED
        owner = NOBODY;
#endif
#ifndef BROKEN_NO_UNSEAL
        ends = ends | torn;
#endif
        torn = 0 /* START */
        }
    od
}

init {
    atomic {
        run Mutator(0);
        run Mutator(1);
        run Collector()
    }
}
