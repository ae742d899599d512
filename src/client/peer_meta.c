/*
 * What a client and a host say to each other on the session's Meta stream: the invite's
 * proof, the list of services, new keys. Knows no path and no retry.
 */
#include "client/peer_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/patience.h"
#include "io/clock.h"
#include "io/log.h"

static void send_join(struct peer *p)
{
    Meta m = {.which_body = Meta_join_tag};
    uint8_t exporter[32];
    if (session_exporter(peer_session(p), exporter) != 0)
        return;
    link_invite_id(m.body.join.invite_id, p->config.secret);
    link_invite_proof(m.body.join.proof, p->config.secret, exporter, sizeof(exporter));
    (void)snprintf(m.body.join.name, sizeof(m.body.join.name), "%s",
                   p->config.own_name);
    if (session_send_meta(peer_session(p), &m) != 0)
        log_debug("the invite could not be shown");
}

static void send_rotation(struct peer *p)
{
    Meta m = {.which_body = Meta_rotate_tag};
    if (p->config.rotated == NULL)
        return;
    memcpy(m.body.rotate.new_key, p->config.rotated->pub, KEY_LEN);
    key_sign_rotation(m.body.rotate.signature, m.body.rotate.new_key,
                      &p->tied->net.own);
    m.body.rotate.proof.size = KEY_SIG_LEN;
    key_prove_rotation(m.body.rotate.proof.bytes, p->tied->net.own.pub,
                       p->config.rotated);
    if (session_send_meta(peer_session(p), &m) != 0)
        log_debug("the new key could not be announced");
}

void peer_rotated(struct peer *p, const struct keypair *newest)
{
    p->config.rotated = newest;
    if (peer_is_ready(p))
        send_rotation(p);
}

/* Which programs of this device live; the host ends what the dead ones held. */
static void send_alive(struct peer *p)
{
    enum { MAX = sizeof(((Alive *)NULL)->convs.bytes) / CONV_LEN };
    Meta *m = calloc(1, sizeof(*m));
    if (m == NULL)
        return;
    m->which_body = Meta_alive_tag;
    Alive *a = &m->body.alive;
    size_t count = 0;
    a->sleeps = live_machine_sleeps();
    a->listed = p->live != NULL;
    a->since_us = a->listed ? live_since_us(p->live) : 0;
    a->whole = p->config.state != NULL &&
               live_list(p->config.state, p->config.key, a->scope.bytes, &a->at_us,
                         a->convs.bytes, MAX, &count);
    a->convs.size = (pb_size_t)(count * CONV_LEN);
    a->scope.size = a->whole ? LIVE_SCOPE_LEN : 0;
    if (session_send_meta(peer_session(p), m) != 0)
        log_debug("live programs could not be told");
    free(m);
}

/* A host that does not know of them takes it for nothing. */
static void say_copies(struct peer *p)
{
    Meta m = {.which_body = Meta_copies_tag, .body.copies = true};
    if (session_send_meta(peer_session(p), &m) != 0)
        log_debug("the host could not be told that copies are taken");
}

void peer_meta_begin(struct peer *p)
{
    if (p->config.visiting) {
        /* A session's first stream is Meta's, also where there is nothing to say. */
        Meta ping = {.which_body = Meta_ping_tag};
        if (session_send_meta(peer_session(p), &ping) != 0)
            log_debug("the stream for messages could not be opened");
        return;
    }
    send_alive(p);
    say_copies(p);
    if (p->config.joining && !p->joined) {
        send_join(p);
        return;
    }
    Meta list = {.which_body = Meta_list_tag, .body.list = true};
    if (session_send_meta(peer_session(p), &list) != 0)
        log_debug("the list of services could not be asked for");
    send_rotation(p);
}

static bool is_signed(const Rotate *r, const uint8_t old_key[static KEY_LEN])
{
    if (key_verify_rotation(r->signature, r->new_key, old_key) == 0)
        return true;
    log_debug("a new key of the host is not signed by its old one");
    return false;
}

/* The host had another key before the one that it has now. */
static void take_earlier(struct peer *p, const Rotate *r)
{
    if (memcmp(r->new_key, p->key, KEY_LEN) == 0 && is_signed(r, r->old_key.bytes) &&
        p->config.events->on_earlier != NULL)
        p->config.events->on_earlier(p->config.ctx, p, r->old_key.bytes);
}

static void take_rotation(struct peer *p, const Rotate *r)
{
    if (r->old_key.size == KEY_LEN) {
        take_earlier(p, r);
        return;
    }
    if (p->config.rotated != NULL &&
        memcmp(r->new_key, p->config.rotated->pub, KEY_LEN) == 0) {
        if (p->config.events->on_own_rotated != NULL)
            p->config.events->on_own_rotated(p->config.ctx, p, r->new_key);
        return;
    }
    if (is_signed(r, p->config.key) && p->config.events->on_rotated != NULL)
        p->config.events->on_rotated(p->config.ctx, p, r->new_key);
}

void peer_meta_take(void *ctx, const Meta *m)
{
    struct peer *p = ctx;
    struct fault f;
    switch (m->which_body) {
    case Meta_services_tag:
        p->joined = true;
        if (p->services == NULL)
            p->services = malloc(sizeof(*p->services));
        if (p->services != NULL)
            *p->services = m->body.services;
        if (p->config.events->on_services != NULL)
            p->config.events->on_services(p->config.ctx, p, &m->body.services);
        break;
    case Meta_pong_tag:
        if (p->config.events->on_pong != NULL)
            p->config.events->on_pong(p->config.ctx, p, m->body.pong.nonce);
        break;
    case Meta_alive_tag:
        if (!p->config.visiting) /* it has no programs, and a host denies all it says */
            send_alive(p);
        break;
    case Meta_pressed_tag:
        p->pressed_us = clock_us();
        break;
    case Meta_rotate_tag:
        take_rotation(p, &m->body.rotate);
        break;
    case Meta_denied_tag:
        (void)fault_set(&f, POSTERN_ERR_DENIED,
                        m->body.denied.code == REFUSE_LIMIT
                            ? "tell the host's owner; then try again, the invite is as "
                              "good as before"
                            : "ask the host's owner for a new invite",
                        "%.64s: %.160s", p->config.name, m->body.denied.reason);
        peer_restart(p, &f, patience_ends(f.code, PATIENCE_HOST));
        break;
    default:
        break;
    }
}
