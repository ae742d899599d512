/*
 * Whether a path still carries packets, from what was sent and received on it. Knows
 * times and counts; knows no packet. Quiet when idle: pings are asked for once at a
 * change from activity to silence, and repeated only while unanswered.
 *
 * Suspect: streams are open, data moved, then nothing was received for max(1 s, 4
 * round trips) and nothing unanswered is under way: ping. Dead: at least
 * LIVENESS_MIN_SENT packets (more when no stream is open) that demand an answer, none
 * answered, the first of them max(0.6 s, 3 probe timeouts) ago. A ping without an
 * answer is repeated after a probe timeout until that many were sent (QUIC's own
 * retransmissions count as well).
 */
#ifndef POSTERN_CORE_LIVENESS_H
#define POSTERN_CORE_LIVENESS_H

#include <stdbool.h>
#include <stdint.h>

#define LIVENESS_SILENCE_MIN_US 1000000ull
#define LIVENESS_DEAD_MIN_US 600000ull
#define LIVENESS_MIN_SENT 3
#define LIVENESS_MIN_SENT_IDLE 6 /* no stream is open: nobody waits, so be sure */
#define LIVENESS_RTT_UNKNOWN_US 250000u

enum liveness_verdict {
    LIVENESS_FINE, /* nothing to do until liveness_deadline_us */
    LIVENESS_PING, /* send one packet that demands an answer, and report it sent */
    LIVENESS_DEAD, /* a black hole; stays so until something is received */
};

struct liveness {
    uint64_t received_us;   /* last packet from the peer on this path */
    uint64_t first_sent_us; /* first unanswered packet that demands an answer */
    uint64_t last_sent_us;  /* last such packet */
    unsigned unanswered;    /* such packets since the last one received */
    uint32_t rtt_us, pto_us;
    unsigned streams;
    bool armed; /* data moved since the last ping was asked for */
    bool pinging;
    bool dead; /* reported, and nothing received since */
};

void liveness_init(struct liveness *l, uint64_t now_us);
/* Any authentic packet of the peer arrived on the path. */
void liveness_on_received(struct liveness *l, uint64_t now_us);
/* A packet went out that demands an answer (in QUIC: ack-eliciting), pings included. */
void liveness_on_sent(struct liveness *l, uint64_t now_us);
/* Stream data or datagrams moved either way; pings and bare ACKs are no activity. */
void liveness_on_activity(struct liveness *l);
void liveness_on_rtt(struct liveness *l, uint32_t smoothed_us, uint32_t variation_us);
void liveness_set_streams(struct liveness *l, unsigned streams);
/* Asks for a ping at the next check although nothing moved (keepalive, doubt). */
void liveness_suspect(struct liveness *l);
enum liveness_verdict liveness_check(struct liveness *l, uint64_t now_us);
uint64_t liveness_deadline_us(const struct liveness *l);

#endif
