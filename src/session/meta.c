/*
 * The Meta stream: whole messages between the two devices, beside the streams that
 * carry connections. Knows framing and bounds; not what the messages mean.
 */
#include "session/internal.h"

#include <string.h>

int session_send_meta(struct session *s, const Meta *m)
{
    READ_INTO uint8_t frame[PROTO_FRAME_HEADER + PROTO_FRAME_MAX];
    if (!session_is_open(s))
        return POSTERN_ERR_CLOSED;
    if (s->meta == NULL && s->is_client) {
        int rc = stream_open(s, &s->meta, NULL, NULL);
        if (rc != 0)
            return rc;
    }
    if (s->meta == NULL)
        return POSTERN_ERR_AGAIN;
    int n = proto_encode_frame(frame, sizeof(frame), Meta_fields, m);
    if (n < 0)
        return n;
    if (s->meta->out.end - s->meta->out.start + (size_t)n > META_QUEUE_MAX)
        return POSTERN_ERR_LIMIT;
    return stream_write(s->meta, frame, (size_t)n);
}

void meta_deliver(struct session *s)
{
    READ_INTO uint8_t frame[PROTO_FRAME_HEADER + PROTO_FRAME_MAX];
    while (session_lives(s) && s->meta_in.end > s->meta_in.start) {
        Meta m;
        size_t have = chain_copy(&s->meta_in, s->meta_in.start, frame, sizeof(frame));
        int n = proto_frame_size(frame, have, PROTO_FRAME_MAX);
        if (n == 0)
            return;
        if (n < 0 || proto_decode_meta(&m, frame + PROTO_FRAME_HEADER,
                                       (size_t)n - PROTO_FRAME_HEADER) != 0) {
            session_fail(s, POSTERN_ERR_PROTO,
                         "the other device sent a malformed message");
            return;
        }
        chain_release(&s->meta_in, s->meta_in.start + (uint64_t)n);
        if (m.which_body == Meta_copies_tag)
            copies_on_peer(s);
        else
            s->events->on_meta(s->ctx, &m);
    }
}
