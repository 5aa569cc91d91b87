/* Words that hold a reference in another form than its address: with a tag, boxed in a NaN,
 * shifted.  One format for the whole heap, from its options (docs/tags.md).  Owns nothing; called
 * by whatever reads or changes such words.
 *
 * What the caller gets: a word that is no reference is told apart, and one that is gives a plain
 * address.  What it must do: ask heap->words.on first, as the functions here are for heaps with a
 * format only, and know whether the word is plain anyhow (docs/tags.md, rule 3). */
#ifndef CAIRN_GC_WORD_H
#define CAIRN_GC_WORD_H

#include "gc/types.h"

/* Reads the format from the options, which runtime/options.c has checked. */
static inline struct gci_word_format gci_word_format_of(const gc_options *options) {
    struct gci_word_format f = {.on = options->tag_address_mask != 0,
        .tag_mask = options->tag_mask,
        .tag_value = options->tag_value,
        .kinds = 1, /* kind 0, which all words are of if there is no kind mask */
        .address_mask = options->tag_address_mask,
        .left = options->tag_address_left,
        .right = options->tag_address_right};
    if (options->tag_kind_mask != 0) {
        f.kind_shift = (uint32_t)__builtin_ctzll(options->tag_kind_mask);
        f.kind_mask = options->tag_kind_mask >> f.kind_shift;
        f.kinds = options->tag_kinds;
    }
    return f;
}

/* Is WORD a reference?  *ADDRESS is what it refers to then, perhaps nothing of the heap's. */
static inline bool gci_word_decode(
    const struct gci_word_format *f, uintptr_t word, uintptr_t *address) {
    if ((word & f->tag_mask) != f->tag_value) return false;
    if (!(f->kinds >> ((word >> f->kind_shift) & f->kind_mask) & 1)) return false;
    *address = ((word & f->address_mask) >> f->right) << f->left;
    return true;
}

/* The word that refers to ADDRESS and is WORD in all else. */
static inline uintptr_t gci_word_encode(
    const struct gci_word_format *f, uintptr_t word, uintptr_t address) {
    return (word & ~f->address_mask) | (((address >> f->left) << f->right) & f->address_mask);
}

#endif
