/* Any bytes as a DNS query: read, answered within bounds; never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/dns.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct dns_question q;
    struct addr a = {.family = ADDR_V4, .ip = {127, 80, 0, 1}};
    uint8_t out[DNS_MESSAGE_MAX];
    if (dns_parse(&q, data, size) != 0)
        return 0;
    if (strlen(q.name) >= DNS_NAME_LEN || 12 + q.question_len > size)
        abort();
    int n = dns_answer(out, sizeof(out), &q, data, DNS_NOERROR, &a, 5);
    if (n > (int)(size + 16))
        abort(); /* amplifies more than stated */
    return 0;
}
