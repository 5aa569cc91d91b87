/* Names of files, and strings of JSON: see text.h.  Owns nothing.  Called by what writes files:
 * runtime/output.c, gc/timeline.c, gc/profile.c. */
#include "runtime/text.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "runtime/file.h"

#define NUMBER_MOST 12u /* bytes of a process's number */
#define REPLACEMENT "\xef\xbf\xbd"

bool gci_path_expand(char *path, size_t room, const char *pattern, bool *numbered) {
    size_t length = 0;
    bool found = false;
    for (; *pattern != '\0'; pattern++) {
        char part[NUMBER_MOST] = {*pattern};
        if (*pattern == '%' && *++pattern == 'p') {
            found = true;
            snprintf(part, sizeof part, "%u", gci_process_id());
        } else if (part[0] == '%' && *pattern != '%') {
            return false;
        }
        size_t bytes = strlen(part);
        if (path != NULL && length + bytes >= room) return false;
        if (path != NULL) memcpy(path + length, part, bytes + 1);
        length += bytes;
    }
    if (numbered != NULL) *numbered = found;
    return length > 0;
}

/* How many bytes at TEXT are one character in UTF-8, by the table of the Unicode standard (3.9,
 * D92); 0 if they are none. */
static size_t character_bytes(const uint8_t *text) {
    if (text[0] < 0x80) return 1;
    size_t bytes = text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
    if (bytes == 0 || text[0] > 0xf4) return 0;
    for (size_t i = 1; i < bytes; i++)
        if ((text[i] & 0xc0) != 0x80) return 0;
    if ((text[0] == 0xe0 && text[1] < 0xa0) || (text[0] == 0xed && text[1] >= 0xa0) ||
        (text[0] == 0xf0 && text[1] < 0x90) || (text[0] == 0xf4 && text[1] >= 0x90))
        return 0;
    return bytes;
}

size_t gci_json_character(const char **text, char out[GCI_JSON_MOST]) {
    const char *at = *text;
    size_t bytes = character_bytes((const uint8_t *)at);
    *text += bytes > 0 ? bytes : 1;
    if (bytes == 0) return (size_t)snprintf(out, GCI_JSON_MOST, "%s", REPLACEMENT);
    if (*at == '"' || *at == '\\') return (size_t)snprintf(out, GCI_JSON_MOST, "\\%c", *at);
    if ((uint8_t)*at < 0x20) return (size_t)snprintf(out, GCI_JSON_MOST, "\\u%04x", (uint8_t)*at);
    memcpy(out, at, bytes);
    return bytes;
}
