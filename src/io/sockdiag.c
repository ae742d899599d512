/* inet_diag dumps, and /proc for who holds a socket. */
#include "io/sockdiag.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BUFFER_BYTES = 32768, STATE_LISTEN = 10, STATE_UNCONNECTED = 7 };

static void tell(const struct inet_diag_msg *m, bool tcp, sockdiag_cb cb, void *ctx)
{
    struct sockdiag_socket s = {
        .tcp = tcp, .inode = m->idiag_inode, .uid = m->idiag_uid};
    uint16_t port = ntohs(m->id.idiag_sport);
    s.cookie = (uint64_t)m->id.idiag_cookie[1] << 32 | m->id.idiag_cookie[0];
    if (port != 0 && addr_from_bytes(&s.local, (const uint8_t *)m->id.idiag_src,
                                     m->idiag_family == AF_INET ? 4 : 16, port) == 0)
        cb(ctx, &s);
}

/* 1 at the end of the dump, 0 when more follows, -1 on an error. */
static int walk(const uint8_t *at, size_t left, bool tcp, sockdiag_cb cb, void *ctx)
{
    struct nlmsghdr h;
    while (left >= sizeof(h)) {
        memcpy(&h, at, sizeof(h));
        if (h.nlmsg_len < sizeof(h) || h.nlmsg_len > left ||
            h.nlmsg_type == NLMSG_ERROR)
            return -1;
        if (h.nlmsg_type == NLMSG_DONE)
            return 1;
        struct inet_diag_msg m;
        if (h.nlmsg_len >= NLMSG_LENGTH(sizeof(m))) {
            memcpy(&m, at + NLMSG_HDRLEN, sizeof(m));
            tell(&m, tcp, cb, ctx);
        }
        size_t step = NLMSG_ALIGN((size_t)h.nlmsg_len);
        at += step < left ? step : left;
        left -= step < left ? step : left;
    }
    return 0;
}

static bool dump(int fd, int family, bool tcp, sockdiag_cb cb, void *ctx)
{
    struct {
        struct nlmsghdr h;
        struct inet_diag_req_v2 r;
    } ask = {.h = {.nlmsg_len = sizeof(ask),
                   .nlmsg_type = SOCK_DIAG_BY_FAMILY,
                   .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
             .r = {.sdiag_family = (uint8_t)family,
                   .sdiag_protocol = tcp ? IPPROTO_TCP : IPPROTO_UDP,
                   .idiag_states = 1u << (tcp ? STATE_LISTEN : STATE_UNCONNECTED)}};
    uint8_t *buf = malloc(BUFFER_BYTES);
    int rc =
        buf != NULL && send(fd, &ask, sizeof(ask), 0) == (ssize_t)sizeof(ask) ? 0 : -1;
    while (rc == 0) {
        ssize_t n = recv(fd, buf, BUFFER_BYTES, 0);
        if (n < 0 && errno == EINTR)
            continue;
        rc = n > 0 ? walk(buf, (size_t)n, tcp, cb, ctx) : -1;
    }
    free(buf);
    return rc == 1;
}

bool sockdiag_listeners(sockdiag_cb cb, void *ctx)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
    bool good = fd >= 0;
    for (int i = 0; good && i < 4; i++)
        good = dump(fd, i < 2 ? AF_INET : AF_INET6, i % 2 == 0, cb, ctx);
    if (fd >= 0)
        close(fd);
    return good;
}

static bool holds(const char *pid, const char *link)
{
    char path[300], target[64];
    (void)snprintf(path, sizeof(path), "/proc/%s/fd", pid);
    DIR *dir = opendir(path);
    bool found = false;
    struct dirent *e;
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        (void)snprintf(path, sizeof(path), "/proc/%.20s/fd/%.20s", pid, e->d_name);
        ssize_t n = readlink(path, target, sizeof(target) - 1);
        target[n > 0 ? n : 0] = '\0';
        found = strcmp(target, link) == 0;
    }
    if (dir != NULL)
        (void)closedir(dir);
    return found;
}

bool sockdiag_owner(uint32_t inode, int *pid, char name[static 16])
{
    char link[32], path[300];
    DIR *dir = opendir("/proc");
    bool found = false;
    struct dirent *e;
    (void)snprintf(link, sizeof(link), "socket:[%u]", inode);
    while (dir != NULL && !found && (e = readdir(dir)) != NULL) {
        if (!isdigit((unsigned char)e->d_name[0]) || !holds(e->d_name, link))
            continue;
        found = true;
        *pid = (int)strtol(e->d_name, NULL, 10);
        (void)snprintf(path, sizeof(path), "/proc/%.20s/comm", e->d_name);
        FILE *in = fopen(path, "re");
        name[0] = '\0';
        if (in != NULL && fgets(name, 16, in) != NULL)
            name[strcspn(name, "\n")] = '\0';
        if (in != NULL)
            (void)fclose(in);
    }
    if (dir != NULL)
        (void)closedir(dir);
    return found;
}
