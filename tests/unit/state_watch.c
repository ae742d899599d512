#include "state_watch.h"

#include <stdio.h>
#include <string.h>

enum { TABLES_MAX = 8, ROWS_MAX = 8 };

static struct {
    const char *name;
    const uint8_t *table;
    size_t rows;
    uint8_t made[ROWS_MAX];
} tables[TABLES_MAX];

static size_t find(const char *name)
{
    size_t i = 0;
    while (i < TABLES_MAX - 1 && tables[i].name != NULL &&
           strcmp(tables[i].name, name) != 0)
        i++;
    return i;
}

void state_watch_saw(const char *name, const uint8_t *table, size_t rows, unsigned from,
                     unsigned to)
{
    size_t i = find(name);
    tables[i].name = name;
    tables[i].table = table;
    tables[i].rows = rows;
    tables[i].made[from] |= (uint8_t)(1u << to);
}

unsigned state_watch_unmade(const char *name)
{
    size_t i = find(name);
    unsigned unmade = 0;
    if (tables[i].name == NULL) {
        fprintf(stderr, "%s: no step was made\n", name);
        return 1;
    }
    for (unsigned from = 0; from < tables[i].rows; from++) {
        for (unsigned to = 0; to < 8; to++) {
            if ((tables[i].table[from] & ~tables[i].made[from]) >> to & 1) {
                fprintf(stderr, "%s: never from %u to %u\n", name, from, to);
                unmade++;
            }
        }
    }
    return unmade;
}
