/*
 * The little of DNS that `up` needs (RFC 1035): reads one question, writes one answer.
 * Names, sockets and what exists are the caller's business.
 */
#ifndef POSTERN_CORE_DNS_H
#define POSTERN_CORE_DNS_H

#include <stddef.h>
#include <stdint.h>

#include "core/addr.h"
#include "core/err.h"

#define DNS_NAME_LEN 254 /* dotted text with NUL */
#define DNS_MESSAGE_MAX 512

enum dns_type { DNS_A = 1, DNS_AAAA = 28, DNS_ANY = 255 };
enum dns_rcode { DNS_NOERROR = 0, DNS_FORMERR = 1, DNS_NXDOMAIN = 3, DNS_REFUSED = 5 };

struct dns_question {
    uint16_t id, flags, type;
    char name[DNS_NAME_LEN]; /* lower case, without the last dot */
    size_t question_len;     /* of the question section, for the answer */
};

/* POSTERN_ERR_PROTO when it is not one plain query with one question of class IN. */
MUST_CHECK int dns_parse(struct dns_question *q, const uint8_t *buf, size_t len);
/*
 * Answers `query` (which dns_parse took): with `addr` as an A record when the question
 * asks for it, else with no record. Returns the length, or POSTERN_ERR_LIMIT.
 */
MUST_CHECK int dns_answer(uint8_t *out, size_t cap, const struct dns_question *q,
                          const uint8_t *query, enum dns_rcode rcode,
                          const struct addr *addr, uint32_t ttl_s);

/*
 * Makes `name` a label of RFC 1035 section 2.3.1, with digits first allowed (RFC 1123):
 * "Anna's PC" becomes "anna-s-pc", one without letters and digits "host". No label has
 * two hyphens in a row.
 */
void dns_label(const char *name, char *label, size_t cap);

#endif
