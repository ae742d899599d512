/* Codes and their exchange; knows no broker, and not how packets get there. */
#include "core/spoken.h"

#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/guess.h"
#include "core/state.h"
#include "core/wire.h"

/* ---------------------------------------------------------------------- the code */

enum { WORD_LEN = 16 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool is_letter(char c)
{
    return lower(c) >= 'a' && lower(c) <= 'z';
}

/* How long the mark is that stands there between two words: what people type who hear
 * them, quotes around them, and the dashes that programs make of a hyphen. */
static size_t gap_len(const char *at)
{
    static const char *const dashes[] = {
        "\xe2\x80\x90", "\xe2\x80\x91", "\xe2\x80\x92", "\xe2\x80\x93",
        "\xe2\x80\x94", "\xe2\x80\x95", "\xe2\x88\x92", "\xc2\xa0",
    };
    if (*at != '\0' && strchr("-_.,:;+'\"\t\r\n ", *at) != NULL)
        return 1;
    for (size_t i = 0; i < sizeof(dashes) / sizeof(dashes[0]); i++)
        if (strncmp(at, dashes[i], strlen(dashes[i])) == 0)
            return strlen(dashes[i]);
    return 0;
}

void spoken_make(struct spoken_code *c, unsigned number, const uint8_t random[static 2])
{
    *c = (struct spoken_code){.number = number};
    (void)snprintf(c->words, sizeof(c->words), "%u-%s-%s", number,
                   spoken_long_words[random[0]], spoken_short_words[random[1]]);
}

static const char *skip_gaps(const char *at)
{
    for (size_t len; (len = gap_len(at)) > 0;)
        at += len;
    return at;
}

/* NULL: what stands there is no word. */
static const char *take_word(char word[static WORD_LEN], const char *at)
{
    size_t n = 0;
    at = skip_gaps(at);
    for (; is_letter(*at); at++)
        if (n + 1 < WORD_LEN)
            word[n++] = lower(*at);
    word[n] = '\0';
    return n > 0 ? at : NULL;
}

static int check_word(const char *word, const char *const *list, struct fault *f)
{
    struct guess g;
    char advice[160];
    guess_begin(&g, word);
    for (size_t i = 0; i < SPOKEN_WORD_COUNT; i++) {
        if (strcmp(list[i], word) == 0)
            return 0;
        guess_offer(&g, list[i]);
    }
    guess_advice(&g, advice, sizeof(advice), "let it be said once more");
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "'%s' is no word that such a code has there", word);
}

static const char advice[] = "write it as in 7-crossover-clockwork@meet.example.org";

/* "@meet.example.org:8443", or "at" for the sign, as it is said */
static int take_broker(struct spoken_code *c, const char *at, struct fault *f)
{
    c->port = LINK_DEFAULT_PORT;
    at = skip_gaps(at);
    if (*at == '\0')
        return 0;
    bool said = lower(at[0]) == 'a' && lower(at[1]) == 't' && gap_len(at + 2) > 0;
    if (*at != '@' && !said)
        return fault_set(f, POSTERN_ERR_USAGE, advice,
                         "behind the two words of the code stands '%.40s'", at);
    at = skip_gaps(at + (said ? 2 : 1));
    struct link l = {0};
    size_t len = strcspn(at, " \t\r\n/'\",;");
    if (*skip_gaps(at + len) != '\0' || link_parse_address(&l, at, len) != 0)
        return fault_set(f, POSTERN_ERR_USAGE, advice,
                         "'%.80s' is not the name of a broker", at);
    memcpy(c->host, l.host, sizeof(c->host));
    c->port = l.port;
    return 0;
}

/* A number, and then no two words. */
static int formless(struct fault *f)
{
    return fault_set(f, POSTERN_ERR_USAGE, advice,
                     "this is no code: that is a number from 1 to %d, and two words",
                     SPOKEN_NUMBER_MAX);
}

int spoken_parse(struct spoken_code *c, const char *text, struct fault *f)
{
    char one[WORD_LEN], two[WORD_LEN];
    const char *at = skip_gaps(text);
    *c = (struct spoken_code){0};
    if (*at < '0' || *at > '9')
        return POSTERN_ERR_NOTFOUND;
    for (; *at >= '0' && *at <= '9' && c->number <= SPOKEN_NUMBER_MAX; at++)
        c->number = c->number * 10 + (unsigned)(*at - '0');
    if (c->number == 0 || c->number > SPOKEN_NUMBER_MAX ||
        (at = take_word(one, at)) == NULL || gap_len(at) == 0 ||
        (at = take_word(two, at)) == NULL)
        return formless(f);
    int rc = check_word(one, spoken_long_words, f);
    if (rc == 0)
        rc = check_word(two, spoken_short_words, f);
    if (rc == 0)
        rc = take_broker(c, at, f);
    (void)snprintf(c->words, sizeof(c->words), "%u-%s-%s", c->number, one, two);
    return rc;
}

/* ------------------------------------------------------------------ the exchange */

/*
 * A giver goes NEW, TRIED (round two was said), GIVING (the text was), OVER; a taker
 * NEW, ASKED (HELLO was said), TRIED (PROOF was), OVER. Whatever does not fit ends it.
 */
enum spoken_state {
    STATE_NEW,
    STATE_ASKED,
    STATE_TRIED,
    STATE_GIVING,
    STATE_OVER,
};

// clang-format off
static const uint8_t spoken_next[] = {
    [STATE_NEW]    = 1u << STATE_ASKED | 1u << STATE_TRIED | 1u << STATE_OVER,
    [STATE_ASKED]  = 1u << STATE_TRIED | 1u << STATE_OVER,
    [STATE_TRIED]  = 1u << STATE_GIVING | 1u << STATE_OVER,
    [STATE_GIVING] = 1u << STATE_OVER,
    [STATE_OVER]   = 0,
};
// clang-format on

enum packet_type {
    PACKET_HELLO = 1,
    PACKET_ANSWER,
    PACKET_PROOF,
    PACKET_GIFT,
    PACKET_THANKS,
    PACKET_WRONG,
};

enum { PROOF_LEN = 32 };

struct spoken {
    enum spoken_state state;
    bool giver;
    char words[SPOKEN_WORDS_LEN];
    uint8_t sid[PAKE_SID_LEN];
    uint8_t scalar[PAKE_SCALAR_LEN];
    struct pake pake;
    uint8_t key[PAKE_KEY_LEN]; /* once both have it */
    char text[LINK_TEXT_LEN];
};

static void go(struct spoken *s, enum spoken_state to)
{
    STATE_GO(spoken_next, s->state, to);
}

int spoken_new(struct spoken **out, const struct spoken_code *c, const char *gift,
               const uint8_t seed[static SPOKEN_SEED_LEN])
{
    _Static_assert(SPOKEN_SEED_LEN ==
                       PAKE_SID_LEN + crypto_core_ristretto255_NONREDUCEDSCALARBYTES,
                   "an id, and a scalar without bias");
    struct spoken *s = calloc(1, sizeof(*s));
    if (s == NULL)
        return POSTERN_ERR_NOMEM;
    s->giver = gift != NULL;
    if (s->giver)
        (void)snprintf(s->text, sizeof(s->text), "%s", gift);
    memcpy(s->words, c->words, sizeof(s->words));
    memcpy(s->sid, seed, PAKE_SID_LEN);
    crypto_core_ristretto255_scalar_reduce(s->scalar, seed + PAKE_SID_LEN);
    *out = s;
    return 0;
}

void spoken_free(struct spoken *s)
{
    if (s == NULL)
        return;
    sodium_memzero(s, sizeof(*s));
    free(s);
}

static struct pake_texts texts_of(const struct spoken *s)
{
    return (struct pake_texts){.words = s->words,
                               .about = "postern spoken code",
                               .by_first = "taker",
                               .by_second = "giver"};
}

/* A key for each use of what was agreed on. */
static void derive(uint8_t out[static 32], const struct spoken *s, const char *use)
{
    key_hash(out, use, strlen(use), s->key, sizeof(s->key));
}

static void put_proof(struct wire_writer *w, const struct spoken *s, const char *use)
{
    uint8_t proof[PROOF_LEN];
    derive(proof, s, use);
    wire_put_bytes(w, proof, sizeof(proof));
}

static bool is_proof(struct wire_reader *r, const struct spoken *s, const char *use)
{
    uint8_t proof[PROOF_LEN];
    const uint8_t *got = wire_get_bytes(r, sizeof(proof));
    derive(proof, s, use);
    return wire_end(r) == 0 && sodium_memcmp(got, proof, sizeof(proof)) == 0;
}

int spoken_begin(struct spoken *s, struct spoken_packet *out)
{
    struct wire_writer w = wire_writer(out->bytes, sizeof(out->bytes));
    const struct pake_texts t = texts_of(s);
    int rc = pake_begin(&s->pake, true, &t, s->sid, s->scalar);
    wire_put_u8(&w, PACKET_HELLO);
    wire_put_bytes(&w, s->sid, PAKE_SID_LEN);
    wire_put_bytes(&w, s->pake.share, PAKE_SHARE_LEN);
    out->len = rc == 0 ? w.used : 0;
    go(s, rc == 0 ? STATE_ASKED : STATE_OVER);
    return rc;
}

/* Giver. Which exchange it is says the taker; the giver's share is another each time.
 */
static enum spoken_outcome on_hello(struct spoken *s, struct wire_reader *r,
                                    struct wire_writer *w)
{
    const struct pake_texts t = texts_of(s);
    const uint8_t *sid = wire_get_bytes(r, PAKE_SID_LEN);
    const uint8_t *share = wire_get_bytes(r, PAKE_SHARE_LEN);
    if (wire_end(r) != 0 || pake_begin(&s->pake, false, &t, sid, s->scalar) != 0 ||
        pake_key(&s->pake, &t, share, s->key) != 0)
        return SPOKEN_BAD;
    wire_put_u8(w, PACKET_ANSWER);
    wire_put_bytes(w, s->pake.share, PAKE_SHARE_LEN);
    go(s, STATE_TRIED);
    return SPOKEN_GOES_ON;
}

/* Taker. */
static enum spoken_outcome on_answer(struct spoken *s, struct wire_reader *r,
                                     struct wire_writer *w)
{
    const struct pake_texts t = texts_of(s);
    const uint8_t *share = wire_get_bytes(r, PAKE_SHARE_LEN);
    if (wire_end(r) != 0 || pake_key(&s->pake, &t, share, s->key) != 0)
        return SPOKEN_BAD;
    wire_put_u8(w, PACKET_PROOF);
    put_proof(w, s, "postern spoken proof");
    go(s, STATE_TRIED);
    return SPOKEN_GOES_ON;
}

/* The key is of this exchange alone and makes one box: it needs no nonce. */
static const uint8_t no_nonce[crypto_secretbox_NONCEBYTES];

/* Giver. */
static enum spoken_outcome on_proof(struct spoken *s, struct wire_reader *r,
                                    struct wire_writer *w)
{
    uint8_t box[LINK_TEXT_LEN + crypto_secretbox_MACBYTES], key[32];
    if (!is_proof(r, s, "postern spoken proof")) {
        wire_put_u8(w, PACKET_WRONG);
        return SPOKEN_WRONG;
    }
    derive(key, s, "postern spoken gift");
    (void)crypto_secretbox_easy(box, (const uint8_t *)s->text, sizeof(s->text),
                                no_nonce, key);
    sodium_memzero(key, sizeof(key));
    wire_put_u8(w, PACKET_GIFT);
    wire_put_bytes(w, box, sizeof(box));
    go(s, STATE_GIVING);
    return SPOKEN_GOES_ON;
}

/* Taker. */
static enum spoken_outcome on_gift(struct spoken *s, struct wire_reader *r,
                                   struct wire_writer *w)
{
    const size_t len = sizeof(s->text) + crypto_secretbox_MACBYTES;
    const uint8_t *box = wire_get_bytes(r, len);
    uint8_t key[32];
    derive(key, s, "postern spoken gift");
    bool good = wire_end(r) == 0 && crypto_secretbox_open_easy((uint8_t *)s->text, box,
                                                               len, no_nonce, key) == 0;
    sodium_memzero(key, sizeof(key));
    s->text[sizeof(s->text) - 1] = '\0';
    if (!good)
        return SPOKEN_BAD;
    wire_put_u8(w, PACKET_THANKS);
    put_proof(w, s, "postern spoken thanks");
    return SPOKEN_GIVEN;
}

// clang-format off
static const struct step {
    bool giver;
    enum spoken_state state;
    enum packet_type type;
    enum spoken_outcome (*handle)(struct spoken *s, struct wire_reader *r, struct wire_writer *w);
} steps[] = {
    {true,  STATE_NEW,   PACKET_HELLO,  on_hello},
    {false, STATE_ASKED, PACKET_ANSWER, on_answer},
    {true,  STATE_TRIED, PACKET_PROOF,  on_proof},
    {false, STATE_TRIED, PACKET_GIFT,   on_gift},
};
// clang-format on

static enum spoken_outcome take(struct spoken *s, struct wire_reader *r,
                                struct wire_writer *w)
{
    uint8_t type = wire_get_u8(r);
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++)
        if (steps[i].giver == s->giver && steps[i].state == s->state &&
            steps[i].type == type)
            return steps[i].handle(s, r, w);
    if (s->giver && s->state == STATE_GIVING && type == PACKET_THANKS)
        return is_proof(r, s, "postern spoken thanks") ? SPOKEN_GIVEN : SPOKEN_BAD;
    /* Whoever says so: then nothing was given. */
    if (!s->giver && s->state == STATE_TRIED && type == PACKET_WRONG)
        return SPOKEN_WRONG;
    return SPOKEN_BAD;
}

enum spoken_outcome spoken_on_packet(struct spoken *s, const uint8_t *buf, size_t len,
                                     struct spoken_packet *out)
{
    struct wire_reader r = wire_reader(buf, len);
    struct wire_writer w = wire_writer(out->bytes, sizeof(out->bytes));
    enum spoken_outcome o = take(s, &r, &w);
    out->len = o != SPOKEN_BAD && !w.failed ? w.used : 0;
    if (o != SPOKEN_GOES_ON && s->state != STATE_OVER)
        go(s, STATE_OVER);
    return o;
}

const char *spoken_gift(const struct spoken *s)
{
    return s->text;
}
