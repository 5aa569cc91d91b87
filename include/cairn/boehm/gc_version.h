/* The version of Boehm's interface that Cairn answers for. */
#ifndef CAIRN_BOEHM_VERSION_H
#define CAIRN_BOEHM_VERSION_H
#define GC_VERSION_MAJOR 8
#define GC_VERSION_MINOR 2
#define GC_VERSION_MICRO 2
#endif
