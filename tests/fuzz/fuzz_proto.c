/* Any bytes as each message: what decodes encodes again and decodes to the same. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/proto.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Encoding is canonical: a second round gives the same bytes. */
static void again(const pb_msgdesc_t *fields, void *m, size_t size_of_m)
{
    static uint8_t one[65536], two[65536];
    int n = proto_encode(one, sizeof(one), fields, m);
    if (n < 0)
        return; /* such as a string that is no UTF-8 */
    memset(m, 0, size_of_m);
    if (proto_decode(fields, m, one, (size_t)n) != 0)
        abort();
    int k = proto_encode(two, sizeof(two), fields, m);
    if (k != n || memcmp(one, two, (size_t)n) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static Control control;
    static Meta meta;
    static Offer offer;
    static LocalRequest request;
    if (size == 0)
        return 0;
    const uint8_t *body = data + 1;
    size_t len = size - 1;
    if (proto_frame_size(body, len, PROTO_FRAME_MAX) > (int)len)
        abort();
    switch (data[0] % 4) {
    case 0:
        if (proto_decode_control(&control, body, len) == 0)
            again(Control_fields, &control, sizeof(control));
        break;
    case 1:
        if (proto_decode_meta(&meta, body, len) == 0)
            again(Meta_fields, &meta, sizeof(meta));
        break;
    case 2:
        if (proto_decode_offer(&offer, body, len) == 0)
            again(Offer_fields, &offer, sizeof(offer));
        break;
    default:
        memset(&request, 0, sizeof(request));
        if (proto_decode(LocalRequest_fields, &request, body, len) == 0)
            again(LocalRequest_fields, &request, sizeof(request));
    }
    return 0;
}
