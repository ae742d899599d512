/* Any bytes as a frame, a control message and a relay preface; never a crash. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include "core/proto.h"
#include "core/relay_preface.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Control m, again;
    uint8_t buf[PROTO_FRAME_MAX], ticket[TICKET_LEN];
    int n = proto_frame_size(data, size, PROTO_FRAME_MAX);
    if (n > 0 && ((size_t)n > size || n < PROTO_FRAME_HEADER))
        abort();
    if (proto_decode_control(&m, data, size) == 0) {
        n = proto_encode_control(buf, sizeof(buf), &m);
        if (n < 0 || proto_decode_control(&again, buf, (size_t)n) != 0)
            abort(); /* the broker could not forward what it accepted */
        if (again.which_body != m.which_body)
            abort();
    }
    if (relay_preface_parse(ticket, data, size) == 0 && size != RELAY_PREFACE_LEN)
        abort();
    return 0;
}
