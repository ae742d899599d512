/*
 * HTTP of the portal: connections that the broker hands over, requests as a whole,
 * headers of answers. What a page means is the business of who handles the requests.
 */
#ifndef POSTERN_PORTAL_WEB_H
#define POSTERN_PORTAL_WEB_H

#include "core/form.h"
#include "portal/logins.h"
#include "portal/pages.h"
#include "portal/rooms.h"

struct MHD_Connection;
struct web;

/* The fields of all forms; "" when one was not sent. */
struct fields {
    char csrf[64], name[256], password[256], code[16], step[LOGIN_TOKEN_TEXT_LEN];
    char next[256], host[KEY_TEXT_LEN], service[ROUTES_SERVICE_LEN];
    char device[64], services[200], expires[16];
};

/* One request of a browser. */
struct request {
    struct list link;
    struct web *web;
    const struct rooms *rooms;
    struct MHD_Connection *http;
    bool post;
    struct form_path path;
    struct addr client;
    uint64_t login; /* 0: nobody is logged in */
    struct fields fields;
    char *body; /* owned */
    size_t body_len;
    unsigned problem; /* a status, when the request itself cannot be right */
    bool parked;      /* the answer comes later */
    bool answered;
    unsigned status;
    struct html html; /* the answer's body */
    const char *type;
    const struct page_file *file; /* instead of `html` */
    char location[256];           /* of a redirect */
    char cookie[192];             /* to set */
    char device_cookie[448];      /* likewise */
    unsigned retry_s;             /* Retry-After */
    unsigned pending;             /* questions to hosts that it waits for */
    char said[200];               /* a problem, for the page's state */
};

MUST_CHECK int web_new(struct web **out, const struct rooms *rooms, struct fault *f);
/*
 * Answers what is parked. Connections have a moment for their last bytes, so the loop
 * must run on before web_free.
 */
void web_close(struct web *w);
/* NULL is fine, for both. */
void web_free(struct web *w);
/* Takes `fd`, a TLS connection from which nothing was read. */
void web_take(struct web *w, int fd);
void web_sweep(struct web *w);

/* Each answers, now or when it was parked; `html` is filled by the caller before. */
void request_answer(struct request *r, unsigned status);
void request_redirect(struct request *r, const char *path);
void request_message(struct request *r, unsigned status, const char *title,
                     const char *text);
/* The answer will come from the loop. */
void request_park(struct request *r);
/* For every page. The texts live as long as the request. */
void request_state(struct request *r, struct page_login_state *s);
struct login *request_login(const struct request *r);
/* As the browser sent them, or NULL; borrowed of the request. */
const char *request_cookies(const struct request *r);

#endif
