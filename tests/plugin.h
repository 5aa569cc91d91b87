/* What tests/plugin.c, loaded with dlopen() from the path in CAIRN_TEST_PLUGIN, shows of itself. */
#ifndef CAIRN_TESTS_PLUGIN_H
#define CAIRN_TESTS_PLUGIN_H

struct plugin_places {
    void **data, **bss; /* static variables */
    void **exported;    /* plugin_table + 16 bytes */
    void **local;       /* the calling thread's */
};

extern void *plugin_table[4];
void plugin_places(struct plugin_places *places);

#endif
