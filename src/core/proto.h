/*
 * Encoding and decoding of the messages in postern.proto, and the codes they carry.
 * Decoding checks every bound; a message that decodes is still hostile in meaning.
 */
#ifndef POSTERN_CORE_PROTO_H
#define POSTERN_CORE_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "postern.pb.h"

#define PROTO_VERSION 1
#define PROTO_ALPN_BROKER "postern-broker/1"
#define PROTO_ALPN_RELAY "postern-relay/1" /* a relay connection inside TLS */
#define PROTO_ALPN_SESSION "postern/1"
#define PROTO_ALPN_AGENT "postern-agent/1" /* a host of a LAN, to its agent */
#define PROTO_FRAME_MAX 8192 /* a frame of a channel or of the Meta stream */
/* A time that is later is malformed: times are subtracted from one another. */
#define PROTO_TIME_MAX_S ((uint64_t)INT64_MAX / 2)
#define CONV_LEN 16
#define TICKET_LEN 16
#define MARK_MAX 40 /* of Introduce */

enum bye_code {
    BYE_VERSION = 1,  /* we share no protocol version */
    BYE_TOKEN = 2,    /* hosts need an enrolment token here */
    BYE_BUSY = 3,     /* a limit per address or device; retry_ms says when */
    BYE_REPLACED = 4, /* the same device connected again elsewhere */
    BYE_SHUTDOWN = 5, /* the broker stops */
    BYE_PROTOCOL = 6, /* message not understood or not permitted now */
    BYE_REMOVED = 7,  /* an agent took this host off its list */
};

enum refuse_code {
    REFUSE_OFFLINE = 1, /* the broker does not see that host now */
    REFUSE_DENIED = 2,  /* the host does not have this client on its list */
    REFUSE_EXPIRED = 3, /* invite past its time or uses, or unknown */
    REFUSE_LIMIT = 4,   /* too many at once */
    REFUSE_REVOKED = 5, /* this client was removed by the host */
    REFUSE_RESET = 6,   /* the host's connection to the broker was reset, by its machine
                         * or by a router on the way that works again: it is back soon,
                         * or it has ended */
    REFUSE_GONE = 7,    /* the host's connection to the broker has just ended */
    REFUSE_BACK = 8,    /* the host that was OFFLINE or SILENT is here now: ask again */
    REFUSE_SILENT =
        9, /* it gets what is sent to it when it speaks again, or comes back */
    REFUSE_BROKEN = 10, /* the host's connection to the broker broke or timed out:
                         * its network is gone, or it is */
    REFUSE_ENDED = 11,  /* as OFFLINE, and it ended in order of late */
};

enum stream_code {
    STREAM_OK = 0,
    STREAM_REFUSED = 1,     /* the service's machine refused the connection */
    STREAM_UNREACHABLE = 2, /* no route to the service's machine */
    STREAM_TIMEOUT = 3,     /* the service's machine did not answer */
    STREAM_NOTFOUND = 4,    /* the host publishes no such service */
    STREAM_DENIED = 5,      /* not for this client */
    STREAM_LIMIT = 6,       /* the host is out of some resource */
};

/*
 * What the broker's portal may ask a host inside their session (Visit.ask). After
 * StreamReply{OK} the answer is JSON objects, one a line, and the end of the stream;
 * a refusal is a StreamReply. All but the first need an account with `owner`.
 */
enum portal_ask {
    PORTAL_ASK_NONE = 0,
    PORTAL_ASK_SERVICES = 1, /* {"event":"service","name","port","protocol","up"} for
                                those of the account */
    PORTAL_ASK_SESSIONS = 2, /* the `session` events of `postern status` */
    PORTAL_ASK_DEVICES = 3,  /* the `client` events of `postern ls --devices`, with
                                "connected" */
    PORTAL_ASK_INVITE = 4,   /* arg: "SECONDS SERVICE,...", without services for all;
                                the `invite` event of `postern invite` */
    PORTAL_ASK_REVOKE = 5,   /* arg: a device key; {"event":"revoked","sessions"} */
    PORTAL_ASK_NOTE = 7, /* any account: for the host's audit log, nothing is answered;
                            arg: "login", "refused", "logout" or "chosen", and behind a
                            space what it is about */
    PORTAL_ASK_LOG = 6,  /* the newest `audit` events of `postern log`, at most 100,
                            the newest first */
};

enum cand_type {
    CAND_HOST = 1,      /* an address of the machine itself */
    CAND_REFLEXIVE = 2, /* as a STUN server saw it (RFC 8445 section 5.1.1) */
    CAND_PEER = 3,      /* learned from a check that arrived */
    CAND_MAPPED = 4,    /* asked for with PCP, NAT-PMP or UPnP */
    CAND_SAMPLE = 5,    /* of the ports that a NAT gives: to look at, not to send to */
};

/* RFC 4787 section 4.1 and 5. */
enum nat_mapping {
    NAT_MAPPING_UNKNOWN = 0,
    NAT_MAPPING_NONE = 1, /* no translation */
    NAT_MAPPING_ENDPOINT_INDEPENDENT = 2,
    NAT_MAPPING_ADDRESS_DEPENDENT = 3,
    NAT_MAPPING_ADDRESS_PORT_DEPENDENT = 4,
};
enum nat_filtering {
    NAT_FILTERING_UNKNOWN = 0,
    NAT_FILTERING_ENDPOINT_INDEPENDENT = 1,
    NAT_FILTERING_ADDRESS_DEPENDENT = 2,
    NAT_FILTERING_ADDRESS_PORT_DEPENDENT = 3,
};

/* Requests on the local socket of a running daemon. */
enum local_op {
    LOCAL_OPEN = 1,   /* stream to host/service for the descriptor that comes with it.
                         until_end: who asked stays; is it gone, the stream is reset */
    LOCAL_STATUS = 2, /* replies with one json event a line until `last`. arg
                         LOCAL_ARG_NOW: when the brokers have answered a ping, after a
                         second at the latest */
    LOCAL_RELOAD = 3, /* serve: read services and clients again; up: the book. host: it
                         was just joined, and is tried at once */
    LOCAL_REVOKE = 4, /* serve: arg is a key; ends its sessions, json says how many */
    LOCAL_PING = 5,   /* host: replies with path, rejected and pong events */
    LOCAL_LIST = 6,   /* host: services event */
    LOCAL_STOP = 7,
    LOCAL_PUBLISH = 8, /* serve: service is a SERVICE text; published until the
                          connection ends. arg: the program's name, for people; host:
                          for whom it is, "" as the lists say. A socket that comes
                          along gets its connections (host/taker.h) */
    LOCAL_WATCH = 9,   /* up: what is said while a stream to `host` stands */
    LOCAL_DRAIN = 10,  /* broker: makes way for the next one; arg: seconds for what it
                          relays */
};

#define LOCAL_ARG_NOW "now"

/* Both return the length, or POSTERN_ERR_LIMIT when `cap` is too small. */
MUST_CHECK int proto_encode_control(uint8_t *buf, size_t cap, const Control *m);
MUST_CHECK int proto_encode_meta(uint8_t *buf, size_t cap, const Meta *m);
MUST_CHECK int proto_encode_offer(uint8_t *buf, size_t cap, const Offer *m);
/* 0, or POSTERN_ERR_PROTO when the bytes are not one whole, bounded message. */
MUST_CHECK int proto_decode_control(Control *m, const uint8_t *buf, size_t len);
MUST_CHECK int proto_decode_meta(Meta *m, const uint8_t *buf, size_t len);
MUST_CHECK int proto_decode_offer(Offer *m, const uint8_t *buf, size_t len);

/* Any message type by its nanopb descriptor (Xyz_fields); as above. */
MUST_CHECK int proto_encode(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                            const void *m);
MUST_CHECK int proto_decode(const pb_msgdesc_t *fields, void *m, const uint8_t *buf,
                            size_t len);

/*
 * Frames on a byte stream: 4 bytes of length, then the message. Looks at `buf` and
 * returns the size of the first whole frame with its header, 0 when more bytes are
 * needed, POSTERN_ERR_PROTO when the length is over `max`.
 */
MUST_CHECK int proto_frame_size(const uint8_t *buf, size_t len, size_t max);
#define PROTO_FRAME_HEADER 4
/* Encodes with the header in front; returns the whole length. */
MUST_CHECK int proto_encode_frame(uint8_t *buf, size_t cap, const pb_msgdesc_t *fields,
                                  const void *m);

#endif
