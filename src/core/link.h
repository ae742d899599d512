/*
 * The links that people copy: a broker's, an agent's, and a one-time invite.
 *
 *   postern://HOST:PORT/b/PAYLOAD   broker: key, and the enrolment token if any
 *   postern://HOST:PORT/a/PAYLOAD   agent: the same
 *   postern://HOST:PORT/i/PAYLOAD   invite: broker key, host key, one-time secret
 *
 * PAYLOAD is lower-case base32 and ends in a check over the whole link, so that a
 * mangled copy is told from a wrong one.
 */
#ifndef POSTERN_CORE_LINK_H
#define POSTERN_CORE_LINK_H

#include <stdbool.h>

#include "core/key.h"

#define LINK_HOST_LEN 254 /* RFC 1035 name or a numeric address, with NUL */
#define LINK_SECRET_LEN 16
#define LINK_TEXT_LEN 512
#define LINK_DEFAULT_PORT 443
#define LINK_INPUT_MAX 4096 /* characters of a text in which a link is looked for */

/* To who has an invite in the environment where a broker's link is wanted. */
#define LINK_WAS_INVITE                                                                \
    "POSTERN_LINK holds an invite, which is for 'postern join': put the link that "    \
    "'postern broker' printed there, or behind --broker"

enum link_type { LINK_BROKER = 'b', LINK_AGENT = 'a', LINK_INVITE = 'i' };

struct link {
    enum link_type type;
    char host[LINK_HOST_LEN]; /* without brackets */
    uint16_t port;
    uint8_t broker_key[KEY_LEN];
    bool has_token;                  /* not in an invite */
    uint8_t token[LINK_SECRET_LEN];  /* enrolment token, secret */
    uint8_t host_key[KEY_LEN];       /* invite only */
    uint8_t secret[LINK_SECRET_LEN]; /* invite only: never shown to the broker */
};

/* Writes the text form; `text` is NUL-terminated. */
void link_format(const struct link *l, char text[static LINK_TEXT_LEN]);
/*
 * The first whole link in a text as people copy it: between its letters may be white
 * space, line breaks, quotes and brackets, around it words, in it capital letters and
 * %3A for a colon; and https://HOST[:PORT]/i/PAYLOAD or https://HOST[:PORT]/#i/PAYLOAD
 * is the same link, and so is one that has lost its scheme, where nothing else is. On
 * failure fills `f` with what is wrong with the first and what to do. `text` is a
 * stranger's: no more than LINK_INPUT_MAX of it is looked at.
 */
MUST_CHECK int link_parse(struct link *l, const char *text, struct fault *f);

/* The same for one that stands on the command line: what is no link is wrong usage. */
MUST_CHECK int link_parse_given(struct link *l, const char *text, struct fault *f);
/* A broker's address alone, HOST[:PORT], of `len` characters: host and port. */
MUST_CHECK int link_parse_address(struct link *l, const char *text, size_t len);
/* It names this machine itself, which it reaches without any network. */
bool link_is_here(const struct link *l);
/* Wrong usage where --broker was given another's link. */
MUST_CHECK int link_check_broker(const struct link *l, struct fault *f);

/* The public name of an invite's secret: 8 bytes that do not reveal it. */
#define INVITE_ID_LEN 8
void link_invite_id(uint8_t id[static INVITE_ID_LEN],
                    const uint8_t secret[static LINK_SECRET_LEN]);
/*
 * What a joiner shows the broker, which cannot make the id, the secret or a proof of
 * it, and knows it again by the host's list (core/familiar.h): as long as a key.
 */
#define INVITE_PASS_LEN 32
void link_invite_pass(uint8_t pass[static INVITE_PASS_LEN],
                      const uint8_t secret[static LINK_SECRET_LEN]);
/*
 * What a joiner shows inside the session: a MAC of the secret over the session's
 * exporter, so that it is worth nothing in any other session.
 */
void link_invite_proof(uint8_t proof[static 32],
                       const uint8_t secret[static LINK_SECRET_LEN],
                       const uint8_t *exporter, size_t len);

#endif
