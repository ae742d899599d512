/* nanopb behind four calls; no message has meaning here. */
#include "core/proto.h"

#include <string.h>

#include <pb_decode.h>
#include <pb_encode.h>

#include "core/wire.h"

int proto_encode(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields, const void *m)
{
    pb_ostream_t out = pb_ostream_from_buffer(buf, cap);
    return pb_encode(&out, fields, m) ? (int)out.bytes_written : POSTERN_ERR_LIMIT;
}

int proto_decode(const pb_msgdesc_t *fields, void *m, const uint8_t *buf, size_t len)
{
    pb_istream_t in = pb_istream_from_buffer(buf, len);
    return pb_decode(&in, fields, m) && in.bytes_left == 0 ? 0 : POSTERN_ERR_PROTO;
}

int proto_encode_control(uint8_t *buf, size_t cap, const Control *m)
{
    return proto_encode(buf, cap, Control_fields, m);
}

int proto_encode_meta(uint8_t *buf, size_t cap, const Meta *m)
{
    return proto_encode(buf, cap, Meta_fields, m);
}

int proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m)
{
    return proto_encode(buf, cap, Offer_fields, m);
}

static uint64_t time_of(const Control *m)
{
    switch (m->which_body) {
    case Control_welcome_tag:
        return m->body.welcome.time_s;
    case Control_portal_account_tag:
        return m->body.portal_account.expires_s;
    default:
        return 0;
    }
}

int proto_decode_control(Control *m, const uint8_t *buf, size_t len)
{
    memset(m, 0, sizeof(*m));
    int rc = proto_decode(Control_fields, m, buf, len);
    return rc == 0 && time_of(m) > PROTO_TIME_MAX_S ? POSTERN_ERR_PROTO : rc;
}

int proto_decode_meta(Meta *m, const uint8_t *buf, size_t len)
{
    memset(m, 0, sizeof(*m));
    return proto_decode(Meta_fields, m, buf, len);
}

int proto_decode_offer(Offer *m, const uint8_t *buf, size_t len)
{
    memset(m, 0, sizeof(*m));
    return proto_decode(Offer_fields, m, buf, len);
}

int proto_frame_size(const uint8_t *buf, size_t len, size_t max)
{
    struct wire_reader r = wire_reader(buf, len);
    uint32_t body = wire_get_u32(&r);
    if (r.failed)
        return 0;
    if (body > max)
        return POSTERN_ERR_PROTO;
    return r.left < body ? 0 : (int)(body + PROTO_FRAME_HEADER);
}

int proto_encode_frame(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                       const void *m)
{
    if (cap < PROTO_FRAME_HEADER)
        return POSTERN_ERR_LIMIT;
    int n = proto_encode(buf + PROTO_FRAME_HEADER, cap - PROTO_FRAME_HEADER, fields, m);
    if (n < 0)
        return n;
    struct wire_writer w = wire_writer(buf, PROTO_FRAME_HEADER);
    wire_put_u32(&w, (uint32_t)n);
    return n + PROTO_FRAME_HEADER;
}
