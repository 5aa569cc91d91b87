/* A library with static data, which tests load with dlopen(). */
void *plugin_slots[1000];

void **plugin_memory(void);
void **plugin_memory(void) {
    return plugin_slots;
}
