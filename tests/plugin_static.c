/* A shared object whose thread-local variable lies in the threads' static storage although it is
 * loaded while they run. */
#include "plugin.h"

static __thread void *local __attribute__((tls_model("initial-exec")));

void plugin_places(struct plugin_places *places) {
    *places = (struct plugin_places){.local = &local};
}
