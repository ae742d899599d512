/*
 * A code that one person tells another: "7-crossover-clockwork@meet.example.org". The
 * number is a place at a broker and no secret; the words are the secret of one exchange
 * (core/pake.h), by which the giver gives the taker a text, an invite's link. Nobody
 * between the two learns it; who guesses has one guess in 65,536, and each is seen.
 *
 *   taker                giver
 *     HELLO   ------------>          its share
 *            <------------ ANSWER    its share
 *     PROOF   ------------>          that the keys are the same
 *            <------------ GIFT      the text in a box (or WRONG)
 *     THANKS  ------------>          that it came
 *
 * The taker proves first: a giver says nothing by which words could be tried out later.
 */
#ifndef POSTERN_CORE_SPOKEN_H
#define POSTERN_CORE_SPOKEN_H

#include "core/link.h"
#include "core/pake.h"

#define SPOKEN_WORD_COUNT 256
#define SPOKEN_NUMBER_MAX 9999
#define SPOKEN_WORDS_LEN 64   /* "7-crossover-clockwork" with NUL */
#define SPOKEN_PACKET_MAX 560 /* of one step */
#define SPOKEN_SEED_LEN 80    /* random bytes for an exchange */
#define SPOKEN_TRIES 3        /* with wrong words, and the code is worth nothing */

extern const char *const spoken_long_words[SPOKEN_WORD_COUNT];
extern const char *const spoken_short_words[SPOKEN_WORD_COUNT];

struct spoken_code {
    unsigned number;              /* 1 to SPOKEN_NUMBER_MAX */
    char words[SPOKEN_WORDS_LEN]; /* with the number, lower case: the secret */
    char host[LINK_HOST_LEN];     /* the broker's; "" when none was said */
    uint16_t port;
};

/* `random` says which words. */
void spoken_make(struct spoken_code *c, unsigned number,
                 const uint8_t random[static 2]);
/*
 * As people write what they heard: capital letters; blanks, points, commas, long dashes
 * or, behind the number, nothing for hyphens; "at" for the sign; quotes around it.
 * POSTERN_ERR_NOTFOUND: it begins with no number, so it is something else.
 * POSTERN_ERR_USAGE: it does, and `f` says what is wrong with it.
 */
MUST_CHECK int spoken_parse(struct spoken_code *c, const char *text, struct fault *f);

struct spoken;

struct spoken_packet {
    size_t len; /* 0: nothing is to be sent */
    uint8_t bytes[SPOKEN_PACKET_MAX];
};

enum spoken_outcome {
    SPOKEN_GOES_ON,
    SPOKEN_GIVEN, /* giver: the other has the text; taker: it is there */
    SPOKEN_WRONG, /* the words were not the same */
    SPOKEN_BAD,   /* not understood, or not now: this exchange is over */
};

/* `gift`: what a giver gives, at most LINK_TEXT_LEN with NUL; NULL is a taker. */
MUST_CHECK int spoken_new(struct spoken **out, const struct spoken_code *c,
                          const char *gift, const uint8_t seed[static SPOKEN_SEED_LEN]);
/* Wipes. NULL is fine. */
void spoken_free(struct spoken *s);
/* A taker's first packet. */
MUST_CHECK int spoken_begin(struct spoken *s, struct spoken_packet *out);
/* A packet of the other's; `out` is what to say to it, whatever the outcome. */
enum spoken_outcome spoken_on_packet(struct spoken *s, const uint8_t *buf, size_t len,
                                     struct spoken_packet *out);
/* After SPOKEN_GIVEN, of a taker. */
const char *spoken_gift(const struct spoken *s);

#endif
