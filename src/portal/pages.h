/*
 * The portal's pages as functions from a view to HTML. They know neither HTTP nor where
 * a view comes from, and escape whatever they print. Everything in a view is borrowed
 * for the call; text may be hostile.
 */
#ifndef POSTERN_PORTAL_PAGES_H
#define POSTERN_PORTAL_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text that grows; `failed` when memory ran out, and then it is worth nothing. */
struct html {
    char *text; /* owned, NUL-terminated; NULL while empty */
    size_t len, cap;
    bool failed;
};

void html_fini(struct html *h);

#define PAGE_CSRF_LEN 44 /* the hidden field "csrf" of each form, with its NUL */

/* What each page shows of the login; account NULL: nobody is logged in. */
struct page_login_state {
    const char *broker; /* the broker's public name */
    const char *account;
    const char *csrf;
    const char *notice;  /* one line of good news above the rest; or NULL */
    const char *problem; /* one line about what went wrong; or NULL */
};

/*
 * GET /login. The form posts name, password, next and csrf to /login. When `ask_code`,
 * it posts name, code, step, next and csrf instead; the password is not sent again.
 */
struct login_view {
    struct page_login_state state;
    const char *name; /* as typed before; or NULL */
    bool ask_code;    /* the password was right, a one-time code is wanted */
    const char *step; /* with ask_code: a token that proves the first step */
    const char *next; /* local path to go on to; or NULL */
};
void page_login(struct html *out, const struct login_view *v);

/*
 * GET /join: what to do with an invite, for who was given one. `broker` is what stands
 * behind the @ of a code.
 */
void page_join(struct html *out, const struct page_login_state *s, const char *broker);

struct service_view {
    const char *host, *host_key; /* name, and key text for the forms */
    const char *name, *title;    /* title: what people see; "" or NULL: none */
    uint16_t port;
    bool udp;
    bool up;               /* as far as known */
    const char *why_down;  /* or NULL */
    const char *url;       /* https://SERVICE--HOST.NAME[:PORT]/ when it can be reached
                              so; or NULL */
    const char *name_note; /* why its name alone does not lead there; or NULL */
    const char *address; /* BROKER:PORT when it is open for this address now; or NULL */
    const char *port_note; /* why that is not the service's own port; or NULL */
    const char *plain; /* HOST:PORT for what is no TLS there, where browsers would not
                          go to `address` without; or NULL */
    bool tls; /* at that port the host speaks TLS by the service's name, as at `url` */
    uint32_t connections; /* under way through it */
};
struct host_view {
    const char *name, *key;
    bool online;
};
/*
 * GET /: the services, each with a button: POST /open or /close with host, service and
 * csrf. Hosts that the account owns link to /host/KEY. POST /logout logs out.
 */
struct home_view {
    struct page_login_state state;
    const struct service_view *services;
    size_t service_count;
    const struct host_view *owned;
    size_t owned_count;
    const char *client_address;  /* as the broker sees the browser */
    unsigned login_ends_minutes; /* at the latest */
};
void page_home(struct html *out, const struct home_view *v);

struct session_view { /* a device's session to the host */
    const char *device, *kind, *remote;
    double rtt_ms;       /* 0: not measured yet on this path */
    double rate_bytes_s; /* both directions */
    unsigned streams;
};
struct device_view {
    const char *name, *key, *services; /* services: "" is all */
    bool connected;
};
struct log_view {
    const char *time, *what, *who, *from, *object, *detail;
};
/*
 * GET /host/KEY, for an owner: the picture of live paths, devices with a button each
 * (POST /host/KEY/revoke: device (its key), csrf), a form for an invite (POST
 * /host/KEY/invite: services, names with commas between or empty for all; expires, in
 * seconds: 3600, 86400 or 604800; csrf), and the audit log.
 */
struct owner_view {
    struct page_login_state state;
    struct host_view host;
    const struct session_view *sessions;
    size_t session_count;
    const struct device_view *devices;
    size_t device_count;
    const struct log_view *log;
    size_t log_count;
    const char *invite_link; /* just made: shown once, with its QR code; or NULL */
};
void page_owner(struct html *out, const struct owner_view *v);
/*
 * GET /host/KEY/picture: the picture of live paths and the table of the same facts, as
 * a fragment of HTML (text/html) that page.js puts in place of the last one. Of the
 * view it reads `state.broker`, `host` and `sessions`.
 */
void page_picture(struct html *out, const struct owner_view *v);

/* Any other answer: "not found", "too many attempts"... */
struct message_view {
    struct page_login_state state;
    const char *title, *text;
};
void page_message(struct html *out, const struct message_view *v);

/* The files that the pages ask for: "/style.css", "/page.js", "/icon.svg". */
struct page_file {
    const char *path, *type;
    const char *text;
    size_t len;
};
/* Ends with a row whose path is NULL. */
extern const struct page_file page_files[];

#endif
