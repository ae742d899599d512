/* Any bytes as each of SOCKS5's messages; what is read is inside what was given. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/socks_wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int used, size_t size, const struct socks_target *t)
{
    if (used > (int)size)
        abort();
    if (used > 0 && memchr(t->host, '\0', sizeof(t->host)) == NULL)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct socks_target t = {0}, again = {0};
    uint8_t command, out[SOCKS_UDP_HEADER_MAX];
    bool no_auth;
    if (socks_parse_greeting(data, size, &no_auth) > (int)size)
        abort();
    check(socks_parse_request(data, size, &command, &t), size, &t);
    int n = socks_parse_udp(data, size, &t);
    check(n, size, &t);
    if (n > 0) {
        n = socks_build_udp(out, &t);
        /* What we build, we read. */
        if (n > 0 && socks_parse_udp(out, (size_t)n, &again) != n)
            abort();
    }
    return 0;
}
