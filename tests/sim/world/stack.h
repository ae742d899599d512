/*
 * The sockets of one node: UDP, and a TCP that does what programs see of it (handshake,
 * simultaneous open, ordered bytes, window, retransmission, FIN, RST, keepalive).
 * Errors are negative errno, as the kernel's. Nothing blocks; a socket's owner is told
 * when it changed and asks vsock_ready.
 */
#ifndef POSTERN_SIM_STACK_H
#define POSTERN_SIM_STACK_H

#include "net.h"

struct vstack;
struct vsock;

struct vstack *vstack_new(struct vnet_node *node);
/* With all its sockets, without a word to anybody. */
void vstack_free(struct vstack *s);
/* Sockets that a program holds; and all, those that still say goodbye included. */
size_t vstack_sockets(const struct vstack *s);
size_t vstack_lingering(const struct vstack *s);
/* Those at which the world outside may knock: UDP, and TCP that listens; not at
 * loopback. */
size_t vstack_doors(const struct vstack *s);

/* `edges` of POLLIN and POLLOUT: something new of that kind, whether or not it was
 * ready before. */
typedef void (*vsock_cb)(void *ctx, int edges);

struct vsock *vsock_new(struct vstack *s, enum vproto proto, enum addr_family family);
void vsock_watch(struct vsock *s, vsock_cb cb, void *ctx);
/* Gives it up; a connection says goodbye by itself. */
void vsock_close(struct vsock *s);

enum vsock_option {
    VSOCK_V6ONLY,
    VSOCK_REUSE_ADDRESS,
    VSOCK_REUSE_PORT,
    VSOCK_TTL,
    VSOCK_MIN_TTL,
    VSOCK_SEGMENT_MAX,
    VSOCK_ABORT,   /* reset when closed (SO_LINGER of zero) */
    VSOCK_LINGER2, /* below zero: reset when closed and all is acknowledged */
    VSOCK_KEEPALIVE,
    VSOCK_KEEP_IDLE_S,
    VSOCK_KEEP_GAP_S,
    VSOCK_KEEP_COUNT,
    VSOCK_GIVE_UP_MS,
    VSOCK_PKTINFO,
    VSOCK_OPTIONS
};
void vsock_set(struct vsock *s, enum vsock_option o, int value);
int vsock_get(const struct vsock *s, enum vsock_option o);

int vsock_bind(struct vsock *s, const struct addr *at);
int vsock_listen(struct vsock *s, int backlog);
/* -EINPROGRESS of TCP; 0 of UDP. */
int vsock_connect(struct vsock *s, const struct addr *to);
/* The next connection, not watched, or NULL. */
struct vsock *vsock_accept(struct vsock *s);

/* Bytes, 0 at the end, -EAGAIN. */
long vsock_read(struct vsock *s, void *buf, size_t cap, bool peek);
long vsock_write(struct vsock *s, const void *buf, size_t len);
/* One packet, cut off at `cap`; `to` is where it was sent. */
long vsock_receive(struct vsock *s, void *buf, size_t cap, bool peek, struct addr *from,
                   struct addr *to);
/* `from` ADDR_NONE: as bound or as the routes say; `to` NULL: as connected. */
long vsock_send(struct vsock *s, const void *buf, size_t len, const struct addr *from,
                const struct addr *to);
/* SHUT_WR, SHUT_RD, SHUT_RDWR. */
int vsock_shutdown(struct vsock *s, int how);

/* POLLIN, POLLOUT, POLLRDHUP, POLLHUP, POLLERR. */
int vsock_ready(const struct vsock *s);
/* SO_ERROR: positive, told once. */
int vsock_error(struct vsock *s);
enum vproto vsock_proto(const struct vsock *s);
enum addr_family vsock_family(const struct vsock *s);
bool vsock_is_listening(const struct vsock *s);
void vsock_local(const struct vsock *s, struct addr *a);
/* -ENOTCONN. */
int vsock_remote(const struct vsock *s, struct addr *a);
size_t vsock_unsent(const struct vsock *s);
size_t vsock_unread(const struct vsock *s);

struct vsock_facts {
    uint32_t rtt_us, min_rtt_us;
    uint32_t data_ms; /* since data came */
    uint32_t sent_ms; /* since data was sent */
    uint32_t ack_ms;  /* since anything did */
    unsigned retransmits;
    uint32_t segments_in, data_segments_in;
    bool half_closed; /* the other end has sent all */
};
void vsock_facts(const struct vsock *s, struct vsock_facts *f);

#endif
