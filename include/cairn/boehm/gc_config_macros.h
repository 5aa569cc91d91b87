/* Cairn's headers with Boehm's names: the macros that all of them use.  Included by gc.h only.
 *
 * Of the systems that Boehm's headers know, these know Linux with glibc. */
#ifndef CAIRN_BOEHM_CONFIG_MACROS_H
#define CAIRN_BOEHM_CONFIG_MACROS_H

#include <stddef.h>

#if defined(__GNUC__)
#define GC_GNUC_PREREQ(major, minor)                                                               \
    ((__GNUC__ << 16) + __GNUC_MINOR__ >= ((major) << 16) + (minor))
#else
#define GC_GNUC_PREREQ(major, minor) 0
#endif

/* Threads: GC_THREADS, or one of its old names, before gc.h is included. */
#if !defined(GC_THREADS) &&                                                                        \
    (defined(GC_LINUX_THREADS) || defined(LINUX_THREADS) || defined(_LINUX_THREADS))
#define GC_THREADS
#endif
#ifdef GC_THREADS
#ifndef GC_LINUX_THREADS
#define GC_LINUX_THREADS
#endif
#define GC_PTHREADS
#ifndef _REENTRANT
#define _REENTRANT 1
#endif
#endif

#define __GC

#ifndef GC_API
#define GC_API extern
#endif
#ifndef GC_CALL
#define GC_CALL
#endif
#ifndef GC_CALLBACK
#define GC_CALLBACK GC_CALL
#endif

#if defined(GC_OOM_FUNC_RETURNS_ALIAS) || !defined(__GNUC__)
#define GC_ATTR_MALLOC
#else
#define GC_ATTR_MALLOC __attribute__((__malloc__))
#endif
#if defined(__GNUC__)
#define GC_ATTR_ALLOC_SIZE(argument)     __attribute__((__alloc_size__(argument)))
#define GC_ATTR_CALLOC_SIZE(count, size) __attribute__((__alloc_size__(count, size)))
#define GC_ATTR_NONNULL(argument)        __attribute__((__nonnull__(argument)))
#define GC_ATTR_CONST                    __attribute__((__const__))
#else
#define GC_ATTR_ALLOC_SIZE(argument)
#define GC_ATTR_CALLOC_SIZE(count, size)
#define GC_ATTR_NONNULL(argument)
#define GC_ATTR_CONST
#endif
#ifndef GC_ATTR_DEPRECATED
#if defined(GC_BUILD) || !defined(__GNUC__)
#define GC_ATTR_DEPRECATED
#else
#define GC_ATTR_DEPRECATED __attribute__((__deprecated__))
#endif
#endif

#define GC_HAVE_BUILTIN_BACKTRACE
#define GC_CAN_SAVE_CALL_STACKS

#ifdef GC_PTHREADS
#define GC_HAVE_PTHREAD_EXIT
#ifdef __GNUC__
#define GC_PTHREAD_EXIT_ATTRIBUTE __attribute__((__noreturn__))
#else
#define GC_PTHREAD_EXIT_ATTRIBUTE
#endif
#endif

#ifdef __cplusplus
#if __cplusplus >= 201103L
#define GC_ATTR_EXPLICIT explicit
#define GC_NOEXCEPT      noexcept
#else
#define GC_ATTR_EXPLICIT
#define GC_NOEXCEPT throw()
#endif
#endif

#endif
