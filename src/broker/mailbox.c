/* A mutex, a list and a uv_async; see mailbox.h. */
#include "broker/mailbox.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/limits.h"
#include "io/channel.h"
#include "io/loop_uv.h"

struct mailbox {
    uv_async_t async;
    uv_mutex_t lock;
    struct mail *head, **tail; /* under `lock`, as all below */
    size_t count;
    bool closed;
    mailbox_cb on_mail;
    void *ctx;
};

struct mail *mail_new(enum mail_type type, const void *bytes, size_t len)
{
    struct mail *m = calloc(1, sizeof(*m) + len);
    if (m == NULL)
        return NULL;
    m->type = type;
    m->fd = -1;
    m->len = len;
    if (len > 0)
        memcpy(m->bytes, bytes, len);
    return m;
}

void mail_free(struct mail *m)
{
    if (m == NULL)
        return;
    if (m->fd >= 0)
        close(m->fd);
    channel_free(m->channel);
    free(m);
}

static void on_async(uv_async_t *async)
{
    struct mailbox *b = async->data;
    uv_mutex_lock(&b->lock);
    struct mail *m = b->head;
    b->head = NULL;
    b->tail = &b->head;
    b->count = 0;
    uv_mutex_unlock(&b->lock);
    while (m != NULL) {
        struct mail *next = m->next;
        if (b->closed) /* only this thread sets it */
            mail_free(m);
        else
            b->on_mail(b->ctx, m);
        m = next;
    }
}

int mailbox_open(struct mailbox **out, struct loop *loop, mailbox_cb on_mail, void *ctx)
{
    struct mailbox *b = calloc(1, sizeof(*b));
    if (b == NULL)
        return POSTERN_ERR_NOMEM;
    b->tail = &b->head;
    b->on_mail = on_mail;
    b->ctx = ctx;
    if (uv_mutex_init(&b->lock) != 0) {
        free(b);
        return POSTERN_ERR_NOMEM;
    }
    if (uv_async_init(loop_uv(loop), &b->async, on_async) != 0) {
        uv_mutex_destroy(&b->lock);
        free(b);
        return POSTERN_ERR_IO;
    }
    b->async.data = b;
    *out = b;
    return 0;
}

int mailbox_post(struct mailbox *b, struct mail *m)
{
    int rc = 0;
    uv_mutex_lock(&b->lock);
    if (b->closed) {
        rc = POSTERN_ERR_CLOSED;
    } else if (b->count >= LIMIT_MAILBOX && m->type != MAIL_STOP) {
        rc = POSTERN_ERR_LIMIT;
    } else {
        m->next = NULL;
        *b->tail = m;
        b->tail = &m->next;
        if (b->count++ == 0)
            (void)uv_async_send(&b->async);
    }
    uv_mutex_unlock(&b->lock);
    return rc;
}

void mailbox_close(struct mailbox *b)
{
    uv_mutex_lock(&b->lock);
    b->closed = true;
    uv_mutex_unlock(&b->lock);
    uv_close((uv_handle_t *)&b->async, NULL);
}

void mailbox_free(struct mailbox *b)
{
    if (b == NULL)
        return;
    while (b->head != NULL) {
        struct mail *m = b->head;
        b->head = m->next;
        mail_free(m);
    }
    uv_mutex_destroy(&b->lock);
    free(b);
}
