/* Any bytes as a spoken code, and as what comes from who does not know its words. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <sodium.h>

#include "core/spoken.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is read as a code is read as the same once it is written as one. */
static void read_code(const uint8_t *data, size_t size)
{
    char text[256];
    struct spoken_code c, again;
    struct fault f = {0};
    size_t len = size < sizeof(text) - 1 ? size : sizeof(text) - 1;
    memcpy(text, data, len);
    text[len] = '\0';
    if (spoken_parse(&c, text, &f) == 0 &&
        (spoken_parse(&again, c.words, &f) != 0 || strcmp(c.words, again.words) != 0))
        abort();
}

/* Packets, each behind its length; nothing is given to who says them. */
static void hear(struct spoken *s, const uint8_t *data, size_t size)
{
    struct spoken_packet out;
    while (size > 0) {
        size_t len = data[0] < size ? data[0] : size - 1;
        if (spoken_on_packet(s, data + 1, len, &out) == SPOKEN_GIVEN)
            abort();
        data += 1 + len;
        size -= 1 + len;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t random[2] = {3, 7}, seed[SPOKEN_SEED_LEN] = {[40] = 1};
    struct spoken_code c;
    struct spoken_packet out;
    struct spoken *s = NULL;
    if (sodium_init() < 0 || size == 0)
        return 0;
    read_code(data, size);
    spoken_make(&c, 7, random);
    bool giver = (data[0] & 1) != 0;
    if (spoken_new(&s, &c, giver ? "postern://a:1/i/a" : NULL, seed) == 0 &&
        (giver || spoken_begin(s, &out) == 0))
        hear(s, data + 1, size - 1);
    spoken_free(s);
    return 0;
}
