/*
 * One process for each sender, forked when `serve` hands its connection over: it may
 * block, and what befalls it befalls no other.
 */
#include "host/receive.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "core/utf8.h"
#include "core/wire.h"
#include "host/receive_crowd.h"
#include "host/receive_store.h"
#include "host/taker.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/ready.h"
#include "io/sock.h"
#include "io/stop.h"

enum {
    LET_READ_MS = 10000,
    LOOK_MS = 200,
    LIST_SILENT_S = 30, /* before it is known what is sent */
    SILENT_S = 300,     /* after that */
    ALIVE_US = 4000000, /* more often than send complains */
};

/* ------------------------------------------------------------------------ one sender
 */

struct incoming {
    int fd;
    char who[64];
    const struct statedir *state;
    struct events *out;
    struct store *store;
    struct transfer_file *files;
    uint8_t *have_whole; /* for each file */
    size_t count, room;
    struct store_part part;
    size_t current; /* the file of `part` */
    uint64_t kept;  /* bytes that are there already */
    uint64_t max;   /* that may be sent at once, all files together; 0: any */
    struct crowd_place *place;
    uint64_t heard_us; /* when something moved last */
    uint64_t alive_us; /* when that was said last */
    bool listed, ready;
    bool failed; /* both ends were told why */
    uint8_t buf[TRANSFER_FRAME_MAX];
};

static void note_heard(struct incoming *in)
{
    in->heard_us = clock_us();
    atomic_store(&in->place->heard_us, in->heard_us);
}

/* Not for ever, nor while another needs the place: _TIMEOUT, _INUSE. */
static int wait_sender(struct incoming *in, int wanted)
{
    struct ready r = {.fd = in->fd, .wanted = wanted};
    uint64_t patience_s = in->listed ? SILENT_S : LIST_SILENT_S;
    (void)!ready_wait(&r, 1, LOOK_MS);
    return r.is != 0                                          ? 0
           : clock_us() - in->heard_us > patience_s * 1000000 ? POSTERN_ERR_TIMEOUT
           : atomic_load(&in->place->leave)                   ? POSTERN_ERR_INUSE
                                                              : 0;
}

static int read_all(struct incoming *in, uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = sock_read(in->fd, buf, len);
        int err = n == POSTERN_ERR_AGAIN ? wait_sender(in, WATCH_READ)
                  : n <= 0               ? POSTERN_ERR_CLOSED
                                         : 0;
        if (err != 0)
            return err;
        if (n <= 0)
            continue;
        note_heard(in);
        atomic_fetch_add(&in->place->moved, (uint64_t)n);
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

static int write_all(struct incoming *in, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = sock_write(in->fd, buf, len);
        int err = n == POSTERN_ERR_AGAIN ? wait_sender(in, WATCH_WRITE)
                  : n <= 0               ? POSTERN_ERR_CLOSED
                                         : 0;
        if (err != 0)
            return err;
        if (n <= 0)
            continue;
        note_heard(in);
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

static int say(struct incoming *in, enum transfer_type type, const void *data,
               size_t len)
{
    uint8_t frame[TRANSFER_HEAD + TRANSFER_PATH_LEN + 64];
    transfer_head(frame, type, len);
    if (data != NULL)
        memcpy(frame + TRANSFER_HEAD, data, len);
    return write_all(in, frame, TRANSFER_HEAD + len);
}

/* What is closed with bytes unread is reset, and the last word would be lost. */
static void let_read(int fd)
{
    uint8_t waste[4096];
    struct ready r = {.fd = fd, .wanted = WATCH_READ};
    ssize_t n = POSTERN_ERR_AGAIN;
    uint64_t until_us = clock_us() + LET_READ_MS * 1000ull;
    sock_end_writing(fd);
    while ((n > 0 || n == POSTERN_ERR_AGAIN) && clock_us() < until_us &&
           ready_wait(&r, 1, LET_READ_MS) == 1)
        n = sock_read(fd, waste, sizeof(waste));
}

/* Both ends are told; the sender's is the one who reads it. */
static int fail(struct incoming *in, int err, const char *advice, const char *what)
{
    struct fault f;
    char words[sizeof(f.what) + sizeof(f.advice)];
    in->failed = true;
    atomic_store(&in->place->leave, false); /* it does */
    in->heard_us = clock_us();
    (void)snprintf(words, sizeof(words), "%s; %s", what, advice);
    bool told = say(in, TRANSFER_FAIL, words, strlen(words)) == 0;
    (void)fault_set(&f, err, advice, "from %.60s: %.240s", in->who, what);
    events_fault(in->out, &f);
    if (told)
        let_read(in->fd);
    return err;
}

static int fail_file(struct incoming *in, int err, const struct transfer_file *file)
{
    char what[200];
    const char *advice = "send it again";
    const char *why = postern_strerror(err);
    if (err == POSTERN_ERR_FULL) {
        why = "the disk is full";
        advice = "free some space there and send it again: it goes on where it was";
    } else if (err == POSTERN_ERR_INUSE) {
        why = "it is being received already";
        advice = "wait for the other one to end";
    } else if (err == POSTERN_ERR_INVALID) {
        why = "a link or a file stands there where its directory would be";
        advice = "move that away there, or send it under another name";
    } else if (err == POSTERN_ERR_CORRUPT) {
        why = "what came is not what was sent";
    } else if (err == POSTERN_ERR_PERM) {
        advice = "let 'postern receive' write there";
    }
    (void)snprintf(what, sizeof(what), "%.120s cannot be stored: %s", file->path, why);
    return fail(in, err, advice, what);
}

static int on_file(struct incoming *in, const uint8_t *data, size_t len)
{
    if (in->listed)
        return POSTERN_ERR_PROTO;
    if (in->count == TRANSFER_FILES_MAX)
        return POSTERN_ERR_LIMIT;
    if (in->count == in->room) {
        size_t room = in->room == 0 ? 16 : 2 * in->room;
        void *files = realloc(in->files, room * sizeof(*in->files));
        if (files == NULL)
            return POSTERN_ERR_NOMEM;
        in->files = files;
        in->room = room;
    }
    struct transfer_file *file = &in->files[in->count];
    int err = transfer_get_file(file, data, len);
    if (err == 0)
        err = transfer_clean_path(file->path);
    in->count += err == 0;
    return err;
}

/* What its list says in all, before a byte of it comes. */
static int check_max(struct incoming *in)
{
    char what[160];
    uint64_t sum = 0;
    for (size_t i = 0; i < in->count; i++)
        sum += in->files[i].directory ? 0 : in->files[i].size;
    if (in->max == 0 || sum <= in->max)
        return 0;
    (void)snprintf(what, sizeof(what),
                   "it is more than is taken here: %llu bytes, of %llu at most "
                   "(--max)",
                   (unsigned long long)sum, (unsigned long long)in->max);
    return fail(in, POSTERN_ERR_LIMIT,
                "send less at once, or ask for a larger --max of 'postern receive'",
                what);
}

/* The sender does not wait for ever; what cannot be said is noticed later. */
static void say_alive(void *ctx)
{
    struct incoming *in = ctx;
    uint8_t msg[13 + TRANSFER_HASH_LEN] = {0};
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    if (clock_us() - in->alive_us < ALIVE_US)
        return;
    in->alive_us = clock_us();
    wire_put_u32(&w, (uint32_t)in->current);
    (void)!say(in, in->ready ? TRANSFER_READY : TRANSFER_HAVE, msg,
               in->ready ? 0 : sizeof(msg));
}

static int say_have(struct incoming *in, size_t i)
{
    uint8_t hash[TRANSFER_HASH_LEN], msg[13 + TRANSFER_HASH_LEN];
    bool whole = false;
    const struct transfer_file *file = &in->files[i];
    in->current = i;
    uint64_t blocks =
        file->directory ? 0 : store_have(in->store, in->who, file, &whole, hash);
    if (blocks == 0 && !whole)
        return 0;
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    wire_put_u32(&w, (uint32_t)i);
    wire_put_u8(&w, whole);
    wire_put_u64(&w, blocks);
    wire_put_bytes(&w, hash, sizeof(hash));
    in->kept += whole ? file->size : blocks * TRANSFER_BLOCK;
    return say(in, TRANSFER_HAVE, msg, w.used);
}

static int on_listed(struct incoming *in, struct wire_reader *r)
{
    char what[160];
    uint64_t bytes = wire_get_u64(r), room = store_room(in->store);
    if (in->listed || wire_end(r) != 0)
        return POSTERN_ERR_PROTO;
    in->listed = true;
    atomic_store(&in->place->listed, true);
    int over = check_max(in);
    if (over != 0)
        return over;
    for (size_t i = 0; i < in->count; i++) {
        int err = say_have(in, i);
        if (err != 0)
            return err;
    }
    if (bytes > in->kept && bytes - in->kept > room) {
        (void)snprintf(what, sizeof(what),
                       "the disk is too full: %llu MB more are needed, %llu MB are "
                       "free",
                       (unsigned long long)((bytes - in->kept) / 1000000 + 1),
                       (unsigned long long)(room / 1000000));
        return fail(in, POSTERN_ERR_FULL, "free some space there", what);
    }
    in->ready = true;
    return say(in, TRANSFER_READY, NULL, 0);
}

/* `event`: whether it came, or was here. */
static int say_stored(struct incoming *in, size_t i, const char *path,
                      const char *event)
{
    uint8_t msg[4 + TRANSFER_PATH_LEN];
    struct event e;
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    wire_put_u32(&w, (uint32_t)i);
    wire_put_bytes(&w, path, strlen(path));
    if (!in->files[i].directory) {
        event_begin(&e, event);
        event_text(&e, "file", path);
        event_text(&e, "from", in->who);
        event_int(&e, "bytes", (int64_t)in->files[i].size);
        events_print(in->out, &e);
    }
    return say(in, TRANSFER_STORED, msg, w.used);
}

static int on_start(struct incoming *in, struct wire_reader *r)
{
    uint32_t i = wire_get_u32(r);
    uint64_t from = wire_get_u64(r);
    if (wire_end(r) != 0 || !in->listed || i >= in->count || in->part.fd >= 0 ||
        from > transfer_blocks(in->files[i].size))
        return POSTERN_ERR_PROTO;
    const struct transfer_file *file = &in->files[i];
    in->current = i;
    int err = file->directory ? store_make_dir(in->store, file->path)
                              : store_begin(in->store, &in->part, in->who, file, from);
    if (err != 0)
        return fail_file(in, err, file);
    return file->directory ? say_stored(in, i, file->path, "received") : 0;
}

static int on_block(struct incoming *in, enum transfer_type type, const uint8_t *data,
                    size_t len)
{
    const struct transfer_file *file = &in->files[in->current];
    struct wire_reader r = wire_reader(data, len);
    if (in->part.fd < 0)
        return POSTERN_ERR_PROTO;
    uint64_t left = transfer_blocks(file->size) - in->part.blocks;
    uint64_t n = type == TRANSFER_ZEROS ? wire_get_u64(&r) : 1;
    if (n == 0 || n > left || (type == TRANSFER_ZEROS && wire_end(&r) != 0))
        return POSTERN_ERR_PROTO;
    if (type == TRANSFER_ZEROS) {
        store_zeros(&in->part, n);
        return 0;
    }
    uint64_t rest = file->size - in->part.blocks * TRANSFER_BLOCK;
    if (len != (rest < TRANSFER_BLOCK ? rest : TRANSFER_BLOCK))
        return POSTERN_ERR_PROTO;
    int err = store_block(&in->part, data, len);
    return err != 0 ? fail_file(in, err, file) : 0;
}

static int on_end(struct incoming *in, const uint8_t *hash, size_t len)
{
    char path[TRANSFER_PATH_LEN];
    if (in->part.fd < 0 || len != TRANSFER_HASH_LEN)
        return POSTERN_ERR_PROTO;
    bool there;
    int err =
        store_end(in->store, &in->part, &in->files[in->current], hash, path, &there);
    if (err != 0)
        return fail_file(in, err, &in->files[in->current]);
    return say_stored(in, in->current, path, there ? "already-here" : "received");
}

static int on_same(struct incoming *in, struct wire_reader *r)
{
    uint8_t msg[4];
    char path[TRANSFER_PATH_LEN];
    uint32_t i = wire_get_u32(r);
    const uint8_t *hash = wire_get_bytes(r, TRANSFER_HASH_LEN);
    if (wire_end(r) != 0 || i >= in->count || in->files[i].directory)
        return POSTERN_ERR_PROTO;
    if (store_is(in->store, &in->files[i], hash, path))
        return say_stored(in, i, path, "already-here");
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    wire_put_u32(&w, i);
    return say(in, TRANSFER_DIFFERS, msg, w.used);
}

static int on_frame(struct incoming *in, enum transfer_type type, size_t len)
{
    struct wire_reader r = wire_reader(in->buf, len);
    switch (type) {
    case TRANSFER_HELLO:
        return wire_get_u32(&r) == TRANSFER_VERSION
                   ? 0
                   : fail(in, POSTERN_ERR_PROTO, "update the older one",
                          "this is another version of Postern");
    case TRANSFER_FILE:
        return on_file(in, in->buf, len);
    case TRANSFER_LISTED:
        return on_listed(in, &r);
    case TRANSFER_START:
        return on_start(in, &r);
    case TRANSFER_DATA:
    case TRANSFER_ZEROS:
        return on_block(in, type, in->buf, len);
    case TRANSFER_END:
        return on_end(in, in->buf, len);
    case TRANSFER_SAME:
        return on_same(in, &r);
    case TRANSFER_ABORT:
        store_leave(in->store, &in->part, true);
        return 0;
    default:
        return POSTERN_ERR_PROTO;
    }
}

/* One that was killed holds its lock for a moment longer than its connections. */
static bool serve_runs(const struct incoming *in)
{
    struct statedir_holder h;
    for (int i = 0; i < 5 && statedir_held(in->state, "serve", &h); i++)
        (void)!ready_wait(NULL, 0, 50);
    return statedir_held(in->state, "serve", &h);
}

/* Whatever ends it, but that he went away himself, he is told; here and nowhere else.
 */
static void refuse(struct incoming *in, int err)
{
    const char *what = postern_strerror(err), *advice = "send it again";
    if (err == POSTERN_ERR_PROTO) {
        what = "what it sends makes no sense";
        advice = "update the older one";
    } else if (err == POSTERN_ERR_INVALID) {
        what = "a path in its list has no name";
        advice = "send it under another name";
    } else if (err == POSTERN_ERR_LIMIT) {
        what = "its list has too many files";
        advice = "send fewer at once, or an archive";
    } else if (err == POSTERN_ERR_TIMEOUT) {
        what = in->listed ? "nothing came for 5 minutes" : "nothing came for 30 s";
        advice = "send it again: it goes on where it was";
    } else if (err == POSTERN_ERR_INUSE) {
        what = "another device sends, too, and this one held most of the places or was "
               "silent";
        advice = "send it again: it goes on where it was";
    } else if (err == POSTERN_ERR_NOMEM) {
        what = "this machine has no memory left for its list";
        advice = "send fewer at once, or an archive";
    }
    if (!in->failed && err != POSTERN_ERR_CLOSED)
        (void)fail(in, err, advice, what);
}

static void serve_sender(struct incoming *in)
{
    uint8_t head[TRANSFER_HEAD];
    enum transfer_type type;
    size_t len;
    int err = 0;
    in->part.fd = -1;
    while (err == 0) {
        err = read_all(in, head, sizeof(head));
        if (err == 0)
            err = transfer_parse_head(head, &type, &len);
        if (err == 0)
            err = read_all(in, in->buf, len);
        if (err == 0)
            err = on_frame(in, type, len);
        if (err == 0 && atomic_load(&in->place->leave))
            err = POSTERN_ERR_INUSE;
    }
    bool half = in->part.fd >= 0;
    store_leave(in->store, &in->part, false);
    store_tidy(in->store);
    refuse(in, err);
    bool own = err == POSTERN_ERR_CLOSED && half && !serve_runs(in);
    if (err == POSTERN_ERR_CLOSED && half)
        log_warn("%s%s in the middle of %.200s: when %s sends that again, it goes on "
                 "where it was",
                 own ? "the 'postern serve' of this machine" : in->who,
                 own ? " ended" : " went away", in->files[in->current].path, in->who);
}

/* ------------------------------------------------------------------------- all of them
 */

struct receive {
    struct loop *loop;
    struct events *out;
    const char *dir;
    const struct statedir *state;
    uint64_t max;
    struct crowd crowd;
};

_Noreturn static void run_sender(struct receive *r, int fd, const char *who,
                                 const struct crowd_sender *s, bool served)
{
    struct incoming *in = calloc(1, sizeof(*in));
    struct store store;
    struct fault f;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (in == NULL)
        _exit(1);
    in->fd = fd;
    in->out = r->out;
    in->place = s->place;
    in->max = r->max;
    in->state = r->state;
    in->heard_us = clock_us();
    in->store = &store;
    (void)snprintf(in->who, sizeof(in->who), "%.63s", who);
    utf8_make_plain(in->who);
    if (!served)
        (void)fail(in, POSTERN_ERR_LIMIT, "send it again in a while",
                   "as much is sent here at once as may be, and nobody sends more at "
                   "once than this device");
    else if (store_open(&store, r->dir, &f) != 0)
        (void)fail(in, f.code, f.advice, f.what);
    else {
        store.alive = say_alive;
        store.ctx = in;
        serve_sender(in);
    }
    _exit(0);
}

static void on_connection(void *ctx, int fd, const char *who)
{
    struct receive *r = ctx;
    bool served;
    struct crowd_sender *s = crowd_enter(&r->crowd, who, clock_us(), &served);
    (void)fflush(NULL);
    pid_t pid = s != NULL ? fork() : 0;
    if (pid == 0 && s != NULL)
        run_sender(r, fd, who, s, served);
    if (pid < 0)
        log_error("no process can be started for a sender: %s; let some others end",
                  strerror(errno));
    if (s != NULL)
        crowd_started(&r->crowd, s, pid);
    (void)close(fd);
}

static void on_stop(void *ctx, int signum)
{
    (void)signum;
    loop_stop(((struct receive *)ctx)->loop);
}

static void tell_ready(void *ctx)
{
    struct receive *r = ctx;
    struct event e;
    event_begin(&e, "ready");
    event_text(&e, "into", r->dir);
    events_print(r->out, &e);
}

int receive_run(const struct statedir *state, const char *dir, uint64_t max,
                struct events *out, struct fault *f)
{
    static const struct taker_events events = {on_connection, tell_ready};
    struct receive r = {.out = out, .dir = dir, .state = state, .max = max};
    struct store store;
    struct taker *taker = NULL;
    struct stop *stop = NULL;
    int err = store_open(&store, dir, f);
    if (err != 0)
        return err;
    store_tidy(&store);
    store_close(&store);
    if ((err = crowd_open(&r.crowd)) != 0)
        return fault_lack(f, err);
    if ((err = loop_open(&r.loop)) != 0) {
        crowd_close(&r.crowd);
        return fault_lack(f, err);
    }
    err = stop_open(&stop, r.loop, on_stop, &r);
    if (err != 0)
        (void)fault_lack(f, err);
    if (err == 0)
        err = taker_open(&taker, r.loop, state, RECEIVE_SERVICE "=" RECEIVE_PORT,
                         "postern receive", &events, &r, f);
    if (err == 0) {
        tell_ready(&r);
        loop_run(r.loop);
    }
    taker_close(taker);
    stop_close(stop);
    loop_poll(r.loop);
    loop_close(r.loop);
    crowd_close(&r.crowd);
    return err;
}
