/*
 * Strangers that wait to be introduced to one host: who is next, and whether the host's
 * line has room for one. Knows messages as bytes; times, and what the host has
 * acknowledged, are arguments.
 *
 * Next is who comes from where the longest nobody was introduced from: the widest block
 * of addresses counts first, then those within it, then who waits longest. So whoever
 * comes from a new place is next, however many are before him and however often they
 * try. Where there is no room for another, one of the block with most of them leaves.
 *
 * Who shows the pass of an invite that the host has open takes turns with all others
 * together, and those first by invite: nobody who has none keeps them waiting, from
 * wherever he comes.
 *
 * The line is learned by what it does: a few go at once, then none until the host has
 * acknowledged them. What that took longer than a round trip they were on the line;
 * four times that it is left to everybody else, but for one from a new place, or with
 * an invite that nobody came by just now, for whom the pause is put off. A line that
 * takes them in no time gets twice as much at once the next time.
 */
#ifndef POSTERN_BROKER_LOBBY_H
#define POSTERN_BROKER_LOBBY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "broker/admission.h"
#include "core/list.h"
#include "core/proto.h"

enum {
    LOBBY_MAX = 64,
    LOBBY_WINDOW_MIN = 1024, /* at least one goes, whatever its size */
    LOBBY_WINDOW_FIRST = 4096,
    LOBBY_WINDOW_MAX = 65536,
    LOBBY_PATIENCE_MS = 20000, /* whose client has asked again by then */
};

struct lobby_guest {
    struct list link;
    struct addr from;
    uint64_t blocks[ADDR_LEVELS + 1]; /* of the lobby; the last is the invite */
    bool invited;                     /* shows a good pass: */
    uint8_t pass[KEY_LEN];
    uint64_t since_ms;
    uint8_t client[KEY_LEN], conv[CONV_LEN];
    size_t len;
    struct lobby_guest *then; /* owned: what is said right after it; or NULL */
    uint8_t message[];        /* encoded */
};

struct lobby {
    struct list guests;
    unsigned count, invited;
    bool invited_last;    /* was next */
    bool on_way;          /* some were sent and are not acknowledged */
    uint64_t sent_ms;     /* the first of them */
    uint64_t end;         /* of the host's bytes, where the last of them ends */
    size_t bytes, window; /* of them; how many may be */
    uint64_t rest_until_ms;
};

void lobby_init(struct lobby *l);
void lobby_fini(struct lobby *l);
/* Another connection leads to the host: its line is not known. */
void lobby_forget_line(struct lobby *l);

/* NULL: out of memory. The caller's until it has entered. */
struct lobby_guest *lobby_guest_new(const uint8_t *message, size_t len);
void lobby_guest_free(struct lobby_guest *g);
/* Of that client and approach, if it waits here; else NULL. */
struct lobby_guest *lobby_find(struct lobby *l, const uint8_t client[static KEY_LEN],
                               const uint8_t conv[static CONV_LEN]);
/* What `g` says next, instead of what it would have said; takes `then`. */
void lobby_guest_then(struct lobby_guest *g, struct lobby_guest *then);
/*
 * `g` waits, instead of what the same client said before in this approach. Returns who
 * has no place then, to be freed by the caller; NULL as a rule.
 */
struct lobby_guest *lobby_enter(struct lobby *l, struct lobby_guest *g);
/*
 * Who is next, and waits no more: to be freed by the caller. NULL: nobody, or it is a
 * pause of the line's.
 */
struct lobby_guest *lobby_leave(struct lobby *l, struct admission *a,
                                const uint8_t host[static KEY_LEN], uint64_t now_ms);
/* One that waits, whoever it is: to be freed by the caller. NULL: nobody waits. */
struct lobby_guest *lobby_take_any(struct lobby *l);

/*
 * Whether nothing is on the line. `acked` of all bytes that were said to the host it
 * has acknowledged; `rtt_ms` of an empty line.
 */
bool lobby_is_clear(struct lobby *l, uint64_t acked, uint32_t rtt_ms, uint64_t now_ms);
/* So many bytes were sent, up to `end` of all. */
void lobby_sent(struct lobby *l, size_t bytes, uint64_t end, uint64_t now_ms);

#endif
