/* A shared object with variables of every sort, for the tests to load and unload. */
#include "plugin.h"

static void *hidden_data = (void *)1;
static void *hidden_bss;
void *plugin_table[4] = {(void *)1};
static __thread void *local;

void plugin_places(struct plugin_places *places) {
    places->data = &hidden_data;
    places->bss = &hidden_bss;
    places->exported = &plugin_table[2];
    places->local = &local;
}
