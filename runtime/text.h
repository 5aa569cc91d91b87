/* Text for files that others read, and their names: without malloc. */
#ifndef CAIRN_RUNTIME_TEXT_H
#define CAIRN_RUNTIME_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* A file's name from PATTERN, in which "%p" means this process's number and "%%" a percent sign, to
 * PATH of ROOM bytes; if PATH is NULL, only looks whether it can be.  *NUMBERED, unless NULL: the
 * number is in it, so that a child of fork() has a name of its own.  False if the pattern is empty,
 * its name is too long, or something else follows a percent sign. */
bool gci_path_expand(char *path, size_t room, const char *pattern, bool *numbered);

/* How the character at *TEXT stands in a string of JSON: so many bytes in OUT; *TEXT goes to the
 * next one.  What is no UTF-8 becomes U+FFFD, a byte at a time.  Not called at the text's end. */
#define GCI_JSON_MOST 8u
size_t gci_json_character(const char **text, char out[GCI_JSON_MOST]);

#endif
