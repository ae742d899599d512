/* A mutex, a list and a wake; see mailbox.h. */
#include "broker/mailbox.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "broker/limits.h"
#include "io/channel.h"
#include "io/loop.h"

struct mailbox {
    struct wake wake;
    pthread_mutex_t lock;
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

static void on_wake(void *ctx)
{
    struct mailbox *b = ctx;
    (void)pthread_mutex_lock(&b->lock);
    struct mail *m = b->head;
    b->head = NULL;
    b->tail = &b->head;
    b->count = 0;
    (void)pthread_mutex_unlock(&b->lock);
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
    int rc = wake_open(&b->wake, loop, on_wake, b);
    if (rc != 0) {
        free(b);
        return rc;
    }
    (void)pthread_mutex_init(&b->lock, NULL); /* never fails on Linux */
    *out = b;
    return 0;
}

int mailbox_post(struct mailbox *b, struct mail *m)
{
    int rc = 0;
    (void)pthread_mutex_lock(&b->lock);
    if (b->closed) {
        rc = POSTERN_ERR_CLOSED;
    } else if (b->count >= LIMIT_MAILBOX && m->type < MAIL_DRAIN) {
        rc = POSTERN_ERR_LIMIT;
    } else {
        m->next = NULL;
        *b->tail = m;
        b->tail = &m->next;
        if (b->count++ == 0)
            wake_up(&b->wake);
    }
    (void)pthread_mutex_unlock(&b->lock);
    return rc;
}

void mailbox_close(struct mailbox *b)
{
    (void)pthread_mutex_lock(&b->lock);
    b->closed = true;
    (void)pthread_mutex_unlock(&b->lock);
    wake_close(&b->wake);
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
    (void)pthread_mutex_destroy(&b->lock);
    free(b);
}
