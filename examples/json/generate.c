/* The program json-generate: prints a JSON document of about the size asked for, like the orders of
 * a shop, made of pseudo-random numbers.  Equal arguments give equal bytes.  It keeps nothing, so
 * it needs no heap. */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_state;
static uint64_t printed;

/* SplitMix64. */
static uint64_t random_bits(void) {
    uint64_t z = random_state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static unsigned below(unsigned limit) {
    return (unsigned)((random_bits() >> 32) * limit >> 32);
}

__attribute__((format(printf, 1, 2))) static void put(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    int length = vprintf(format, arguments);
    va_end(arguments);
    if (length < 0) {
        fprintf(stderr, "json-generate: %s\n", strerror(errno));
        exit(1);
    }
    printed += (uint64_t)length;
}

#define PICK(list) (list)[below(sizeof(list) / sizeof *(list))]

static const char *const first_names[] = {"Ada", "Björn", "Chloé", "Dmitri", "Eva", "Fatima",
    "Giulia", "Hiroshi", "Ingrid", "José", "Kofi", "Ling", "Mário", "Ngozi", "Oğuz", "Priya"};
static const char *const last_names[] = {"Ångström", "Brown", "Çelik", "Dvořák", "Eriksen",
    "Fischer", "García", "Haddad", "Ivanova", "Jansen", "Kowalski", "Nguyễn", "Okafor", "Sato"};
static const char *const cities[] = {"Aarhus", "Bogotá", "Cork", "Delft", "Évora", "Gdańsk",
    "Kyoto 京都", "Lagos", "Malmö", "São Paulo", "Zürich"};
static const char *const adjectives[] = {
    "blue", "folding", "heavy", "light", "oak", "plain", "round", "small", "steel", "woollen"};
static const char *const things[] = {
    "bench", "blanket", "cup", "desk", "jar", "kettle", "lamp", "rug", "shelf", "stool"};
static const char *const states[] = {"cancelled", "delivered", "new", "paid", "returned", "sent"};
static const char *const remarks[] = {"Please ring twice.", "Leave it \\\"behind the gate\\\".",
    "First floor,\\nsecond door.", "Gift \\ud83c\\udf81 \\u2014 no invoice", "C:\\\\orders\\\\late",
    "Call before 9\\/10 o'clock", "Bitte klingeln – danke", "お願いします"};

/* C leaves open which argument of a call is evaluated first, so each call takes one random
 * number. */
static void put_customer(void) {
    unsigned number = below(2000000);
    const char *first = PICK(first_names), *last = PICK(last_names), *city = PICK(cities);
    put("\"customer\": {\"id\": %u, \"name\": \"%s %s\", ", number, first, last);
    put("\"email\": \"customer%u@example.com\", ", number);
    put("\"address\": {\"street\": \"%u ", 1 + below(300));
    put("%s street\", \"city\": \"%s\", ", PICK(adjectives), city);
    put("\"position\": [%.6f, ", -60 + (double)below(130000000) / 1e6);
    put("%.6f]}}", -180 + (double)below(360000000) / 1e6);
}

static void put_item(void) {
    const char *adjective = PICK(adjectives), *thing = PICK(things);
    uint64_t sku = random_bits() & 0xffffffffffu;
    unsigned quantity = 1 + below(9), whole = below(300), cents = below(100);
    put("{\"sku\": \"%010" PRIx64 "\", \"title\": \"%s %s\", ", sku, adjective, thing);
    put("\"quantity\": %u, \"price\": %u.%02u", quantity, whole, cents);
    if (below(4) == 0) {
        unsigned one = 1 + below(9), tenth = below(10), power = below(4);
        put(", \"weight\": %u.%ue-%u", one, tenth, power);
    }
    put("}");
}

static void put_order(uint64_t number) {
    unsigned month = 1 + below(12), day = 1 + below(28), hour = below(24), minute = below(60);
    put("  {\"id\": %" PRIu64 ", \"placed\": \"2024-%02u-%02uT%02u:%02u:00Z\", ", number, month,
        day, hour, minute);
    put("\"state\": \"%s\", ", PICK(states));
    put("\"express\": %s, ", below(5) == 0 ? "true" : "false");
    put_customer();
    put(", \"items\": [");
    for (unsigned i = 0, n = 1 + below(6); i < n; i++) {
        if (i > 0) put(", ");
        put_item();
    }
    put("], \"remark\": ");
    if (below(3) == 0) {
        put("\"%s\"", PICK(remarks));
    } else {
        put("null");
    }
    put(", \"tags\": [%s]}", below(3) == 0 ? "\"repeat\", \"newsletter\"" : "");
}

/* A whole decimal number; anything else ends the program. */
static uint64_t number_argument(const char *text) {
    char *end;
    errno = 0;
    uint64_t value = strtoull(text, &end, 10);
    if (errno != 0 || *end != '\0' || text[0] < '0' || text[0] > '9') {
        fprintf(stderr, "json-generate: %s is not a number\n", text);
        exit(2);
    }
    return value;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: json-generate BYTES [SEED]\n");
        return 2;
    }
    uint64_t bytes = number_argument(argv[1]);
    uint64_t seed = argc == 3 ? number_argument(argv[2]) : 1;
    random_state = seed;
    put("{\"seed\": %" PRIu64 ", \"orders\": [\n", seed);
    for (uint64_t number = 1; number == 1 || printed < bytes; number++) {
        if (number > 1) put(",\n");
        put_order(number);
    }
    put("\n]}\n");
    if (fflush(stdout) != 0) {
        fprintf(stderr, "json-generate: %s\n", strerror(errno));
        return 1;
    }
    return 0;
}
