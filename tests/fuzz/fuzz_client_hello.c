/* Any bytes as the start of a TLS connection; never a crash, bounds kept. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client_hello h;
    int rc = client_hello_parse(&h, data, size);
    if (rc > CLIENT_HELLO_MAX || (rc > 0 && (size_t)rc <= size))
        abort(); /* would wait for what is there */
    if (strlen(h.server_name) > SERVER_NAME_MAX)
        abort();
    if (rc == 0)
        (void)client_hello_offers(&h, "postern-relay/1");
    return 0;
}
