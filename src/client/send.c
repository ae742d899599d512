/*
 * Files over one connection as `postern nc` makes it: that runs in a process of its
 * own, and this one reads files and may block. What the other end answers is taken
 * whenever it comes, so that neither waits for the other to read.
 */
#include "client/send.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/nc.h"
#include "client/send_list.h"
#include "core/utf8.h"
#include "core/wire.h"
#include "io/clock.h"
#include "io/lack.h"
#include "io/log.h"
#include "io/ready.h"
#include "io/sock.h"
#include "io/stop.h"

#define SERVICE "receive"
#define NOTHING " receives nothing now"

enum {
    DRAW_US = 200000,
    TELL_US = 5000000,
    HELLO_US = 5000000,
    LOOK_MS = 200,
    END_MS = 5000
};

/* From its last sign of life: said; over, before its first word and later on. */
enum { SAY_S = 2, FIRST_S = 30, LATE_S = 300 };

/* A host that comes back publishes what its programs take a moment later. */
enum { AGAIN_MS = 500, LONG_MS = 1000, GRACE_MS = 3000 };

struct sending {
    struct client_config config; /* its wait is what is left of it */
    unsigned wait_ms;            /* of --wait; 0: none */
    const char *host;
    struct send_list list;
    pid_t nc;
    sigset_t signals; /* as they were */
    int fd, word;     /* to and from nc; why it failed */
    int opened;       /* a flag: the other end has the connection */
    struct fault *f;
    bool ready, over; /* the other end has said what it has; it has ended */
    size_t answers;   /* due: STORED of what was sent */
    int unread;       /* of errno, where a file failed; 0: it was shorter */
    uint64_t total, done, resumed; /* bytes of files */
    uint64_t began_us, drawn_us, told_us, hello_us;
    uint64_t moved_us, looked_us; /* when something went or came; was looked for that */
    bool open, heard, told_wait;
    const struct send_item *current;
    size_t have; /* in `in` */
    uint8_t in[TRANSFER_HEAD + TRANSFER_PATH_LEN + 64];
    uint8_t block[TRANSFER_BLOCK];
};

/* ------------------------------------------------------------------------- progress */

static void rate_words(char *out, size_t cap, double rate, uint64_t left)
{
    static const char *const units[] = {"B/s", "kB/s", "MB/s", "GB/s"};
    size_t unit = 0;
    double shown = rate;
    uint64_t s = rate > 0 ? (uint64_t)((double)left / rate + 0.5) : 0;
    for (; shown >= 1000 && unit < 3; unit++)
        shown /= 1000;
    (void)snprintf(out, cap, "%.1f %s, %llu:%02llu left", shown, units[unit],
                   (unsigned long long)s / 60, (unsigned long long)s % 60);
}

/* On a terminal a bar; else, and for programs, a line now and then. */
static void tell_progress(struct sending *s)
{
    uint64_t now = clock_us(), past = now - s->began_us;
    if (now - s->drawn_us < DRAW_US || s->total == 0)
        return;
    s->drawn_us = now;
    double rate = past > 0 ? (double)(s->done - s->resumed) * 1e6 / (double)past : 0;
    unsigned percent = (unsigned)(s->done * 100 / s->total);
    char words[64], bar[21] = "....................";
    rate_words(words, sizeof(words), rate, s->total - s->done);
    memset(bar, '#', percent < 100 ? percent / 5 : 20);
    const char *name = s->current != NULL ? s->current->file.path : "";
    if (isatty(STDERR_FILENO))
        log_progress("[%s] %u %%  %s  %s", bar, percent, words, name);
    if ((isatty(STDERR_FILENO) && !s->config.out->json) || now - s->told_us < TELL_US)
        return;
    struct event e;
    s->told_us = now;
    event_begin(&e, "progress");
    event_text(&e, "file", name);
    event_int(&e, "percent", percent);
    event_int(&e, "bytes", (int64_t)s->done);
    event_int(&e, "of", (int64_t)s->total);
    event_text(&e, "words", words);
    events_print(s->config.out, &e);
}

/* --------------------------------------------------------------- what comes back */

static int on_have(struct sending *s, struct wire_reader *r)
{
    uint32_t i = wire_get_u32(r);
    bool whole = wire_get_u8(r) != 0;
    uint64_t blocks = wire_get_u64(r);
    const uint8_t *hash = wire_get_bytes(r, TRANSFER_HASH_LEN);
    if (wire_end(r) != 0 || i >= s->list.count || s->ready ||
        blocks > transfer_blocks(s->list.items[i].file.size))
        return POSTERN_ERR_PROTO;
    s->list.items[i].whole = whole;
    s->list.items[i].have = blocks;
    memcpy(s->list.items[i].hash, hash, TRANSFER_HASH_LEN);
    return 0;
}

static int on_stored(struct sending *s, struct wire_reader *r)
{
    uint32_t i = wire_get_u32(r);
    char name[TRANSFER_PATH_LEN];
    struct event e;
    size_t n = r->left;
    const uint8_t *path = wire_get_bytes(r, n);
    if (path == NULL || i >= s->list.count || n >= sizeof(name) || s->answers == 0)
        return POSTERN_ERR_PROTO;
    struct send_item *item = &s->list.items[i];
    (void)snprintf(name, sizeof(name), "%.*s", (int)n, (const char *)path);
    item->stored = true;
    s->answers--;
    if (item->file.directory)
        return 0;
    event_begin(&e, "sent");
    event_text(&e, "file", item->file.path);
    event_text(&e, "peer", s->host);
    event_int(&e, "bytes", (int64_t)item->file.size);
    event_text(&e, "as", strcmp(name, item->file.path) != 0 ? name : NULL);
    if (item->whole)
        event_text(&e, "note", "it was there already");
    events_print(s->config.out, &e);
    return 0;
}

/* It is sent after all. */
static int on_differs(struct sending *s, struct wire_reader *r)
{
    uint32_t i = wire_get_u32(r);
    if (wire_end(r) != 0 || i >= s->list.count || s->answers == 0 ||
        !s->list.items[i].whole)
        return POSTERN_ERR_PROTO;
    s->answers--;
    s->list.items[i].whole = false;
    s->done -= s->list.items[i].file.size;
    s->resumed -= s->list.items[i].file.size;
    return 0;
}

/* The last "; " parts what went wrong from what to do; both are another's words. */
static int on_fail(struct sending *s, size_t len)
{
    char words[TRANSFER_PATH_LEN];
    size_t n = len < sizeof(words) ? len : sizeof(words) - 1;
    memcpy(words, s->in + TRANSFER_HEAD, n);
    words[n] = '\0';
    utf8_make_plain(words);
    char *advice = "";
    for (char *at = words; (at = strstr(at, "; ")) != NULL; at += 2)
        advice = at;
    if (*advice != '\0') {
        *advice = '\0';
        advice += 2;
    }
    return fault_set(s->f, POSTERN_ERR_REFUSED,
                     *advice != '\0' ? advice : "send it again", "%s: %.250s", s->host,
                     *words != '\0' ? words : "refused without a reason");
}

static int on_answer(struct sending *s, enum transfer_type type, size_t len)
{
    struct wire_reader r = wire_reader(s->in + TRANSFER_HEAD, len);
    switch (type) {
    case TRANSFER_HAVE:
        return on_have(s, &r);
    case TRANSFER_READY:
        s->ready = true;
        return 0;
    case TRANSFER_STORED:
        return on_stored(s, &r);
    case TRANSFER_DIFFERS:
        return on_differs(s, &r);
    case TRANSFER_FAIL:
        return on_fail(s, len);
    default:
        return POSTERN_ERR_PROTO;
    }
}

/* All whole answers that are there. */
static int take_answers(struct sending *s)
{
    for (;;) {
        enum transfer_type type;
        size_t len, want = TRANSFER_HEAD;
        if (s->have >= TRANSFER_HEAD) {
            if (transfer_parse_head(s->in, &type, &len) != 0 ||
                len > sizeof(s->in) - TRANSFER_HEAD)
                return POSTERN_ERR_PROTO;
            want += len;
        }
        if (s->have == want) {
            int err = on_answer(s, type, len);
            s->have = 0;
            if (err != 0)
                return err;
            continue;
        }
        ssize_t n = sock_read(s->fd, s->in + s->have, want - s->have);
        if (n == POSTERN_ERR_AGAIN)
            return 0;
        if (n <= 0)
            return POSTERN_ERR_CLOSED;
        s->have += (size_t)n;
        s->heard = true;
        s->told_wait = false;
        s->moved_us = clock_us();
    }
}

/* Not for ever; how long it takes to connect is the connection's own matter. */
static int look_for_silence(struct sending *s)
{
    struct ready flag = {.fd = s->opened, .wanted = WATCH_READ};
    uint64_t now = clock_us(), limit_s = s->heard ? LATE_S : FIRST_S;
    bool open = s->open;
    s->open = open || ready_wait(&flag, 1, 0) == 1;
    /* This process was stopped itself, or has read files. */
    if (!open || now - s->looked_us > 10 * LOOK_MS * 1000ull)
        s->moved_us = now;
    s->looked_us = now;
    uint64_t silent_s = (now - s->moved_us) / 1000000;
    if (silent_s >= limit_s)
        return fault_set(
            s->f, POSTERN_ERR_TIMEOUT,
            "see what keeps 'postern receive' there, and send it again: it "
            "goes on where it was",
            "nothing came from the receiver on %s for %llu s", s->host,
            (unsigned long long)limit_s);
    if (silent_s >= SAY_S && !s->told_wait) {
        s->told_wait = true;
        log_warn("waiting: the receiver on %s does not answer; this ends after %llu s",
                 s->host, (unsigned long long)limit_s);
    }
    return 0;
}

/* What is not sent must not look as if it were: `send FILE HOST && rm FILE`. */
static int look_for_end(struct sending *s)
{
    return !stop_is_due() ? 0
                          : fault_set(s->f, POSTERN_ERR_CLOSED, "run it again to go on",
                                      "not sent: interrupted");
}

/* Waits for what the other end says, or to be able to send. */
static int wait_for(struct sending *s, int wanted)
{
    struct ready r = {.fd = s->fd, .wanted = wanted | WATCH_READ};
    (void)!ready_wait(&r, 1, LOOK_MS);
    int err = take_answers(s);
    if (err == 0)
        err = look_for_silence(s);
    return err != 0 ? err : look_for_end(s);
}

/* ------------------------------------------------------------------------- sending */

static int send_bytes(struct sending *s, const uint8_t *buf, size_t len)
{
    while (len > 0) {
        ssize_t n = sock_write(s->fd, buf, len);
        int err = 0;
        if (n == POSTERN_ERR_AGAIN)
            err = wait_for(s, WATCH_WRITE);
        else if (n <= 0) /* it may have said why */
            err = (err = take_answers(s)) != 0 ? err : POSTERN_ERR_CLOSED;
        if (err != 0)
            return err;
        if (n <= 0)
            continue;
        s->moved_us = clock_us();
        buf += n;
        len -= (size_t)n;
    }
    return 0;
}

static int send_frame(struct sending *s, enum transfer_type type, const void *data,
                      size_t len)
{
    uint8_t head[TRANSFER_HEAD];
    transfer_head(head, type, len);
    int err = send_bytes(s, head, sizeof(head));
    return err == 0 && len > 0 ? send_bytes(s, data, len) : err;
}

static int send_numbers(struct sending *s, enum transfer_type type, const size_t *index,
                        const uint64_t *number)
{
    uint8_t buf[12];
    struct wire_writer w = wire_writer(buf, sizeof(buf));
    if (index != NULL)
        wire_put_u32(&w, (uint32_t)*index);
    if (number != NULL)
        wire_put_u64(&w, *number);
    return send_frame(s, type, buf, w.used);
}

/* Also now and then while this end only reads: who is silent is put out. */
static int send_hello(struct sending *s)
{
    uint8_t buf[4];
    struct wire_writer w = wire_writer(buf, sizeof(buf));
    wire_put_u32(&w, TRANSFER_VERSION);
    s->hello_us = clock_us();
    return send_frame(s, TRANSFER_HELLO, buf, w.used);
}

static int send_list(struct sending *s)
{
    uint8_t buf[TRANSFER_PATH_LEN + 64];
    uint64_t bytes = 0;
    int err = send_hello(s);
    for (size_t i = 0; i < s->list.count && err == 0; i++) {
        const struct send_item *item = &s->list.items[i];
        bytes += item->bytes;
        s->total += item->file.size;
        err = send_frame(s, TRANSFER_FILE, buf,
                         transfer_put_file(buf, sizeof(buf), &item->file));
    }
    if (err == 0)
        err = send_numbers(s, TRANSFER_LISTED, NULL, &bytes);
    while (err == 0 && !s->ready)
        err = wait_for(s, 0);
    return err;
}

static bool has_changed(int fd, const struct send_item *item)
{
    struct stat st;
    return fstat(fd, &st) != 0 || (uint64_t)st.st_size != item->file.size ||
           st.st_mtim.tv_sec != item->mtime.tv_sec ||
           st.st_mtim.tv_nsec != item->mtime.tv_nsec;
}

/* More is there than the kernel says: so it is with files of /proc. */
static bool is_longer(int fd, const struct send_item *item)
{
    uint8_t more;
    return pread(fd, &more, 1, (off_t)item->file.size) == 1;
}

/* How many blocks from `i` on are a hole, as far as the file system knows. */
static uint64_t hole_at(int fd, uint64_t i, uint64_t blocks)
{
    off_t data = lseek(fd, (off_t)(i * TRANSFER_BLOCK), SEEK_DATA);
    if (data < 0)
        return errno == ENXIO ? blocks - i : 0;
    uint64_t first = (uint64_t)data / TRANSFER_BLOCK;
    return (first < blocks ? first : blocks) - i;
}

/* One block, or a hole of several; how many, or an error: _IO is the file's. */
static int64_t send_block(struct sending *s, int fd, struct transfer_hash *h,
                          uint64_t i, const struct send_item *item, bool quiet)
{
    uint64_t blocks = transfer_blocks(item->file.size);
    uint64_t from = i * TRANSFER_BLOCK, zeros = hole_at(fd, i, blocks), one = 1;
    uint64_t rest = item->file.size - from;
    size_t len = rest < TRANSFER_BLOCK ? (size_t)rest : TRANSFER_BLOCK;
    int err = 0;
    if (zeros > 0) {
        transfer_hash_zeros(h, zeros);
        s->done += zeros * TRANSFER_BLOCK < rest ? zeros * TRANSFER_BLOCK : rest;
        err = quiet ? 0 : send_numbers(s, TRANSFER_ZEROS, NULL, &zeros);
        return err != 0 ? err : (int64_t)zeros;
    }
    ssize_t n = pread(fd, s->block, len, (off_t)from);
    if (n != (ssize_t)len) {
        s->unread = n < 0 ? errno : 0;
        return POSTERN_ERR_IO;
    }
    transfer_hash_block(h, s->block, len);
    if (!quiet)
        err = transfer_is_zero(s->block, len)
                  ? send_numbers(s, TRANSFER_ZEROS, NULL, &one)
                  : send_frame(s, TRANSFER_DATA, s->block, len);
    s->done += len;
    return err != 0 ? err : 1;
}

/* Blocks [i, end) are hashed, and sent unless `quiet`. */
static int send_blocks(struct sending *s, int fd, struct transfer_hash *h, uint64_t i,
                       uint64_t end, const struct send_item *item, bool quiet)
{
    while (i < end) {
        int64_t n = send_block(s, fd, h, i, item, quiet);
        if (n < 0)
            return (int)n;
        i += (uint64_t)n;
        tell_progress(s);
        int err = look_for_end(s);
        if (err == 0 && quiet) /* the other end may have ended, and nothing is sent */
            err = take_answers(s);
        if (err == 0 && quiet && clock_us() - s->hello_us > HELLO_US)
            err = send_hello(s);
        if (err != 0)
            return err;
    }
    return 0;
}

/*
 * What the other end has is compared with what is here, and passed over when it is the
 * same. `from`: from which block on to send; `h` has what is before it.
 */
static int find_start(struct sending *s, int fd, struct transfer_hash *h,
                      const struct send_item *item, uint64_t *from)
{
    uint8_t own[TRANSFER_HASH_LEN];
    uint64_t had = s->done, end = item->have * TRANSFER_BLOCK;
    transfer_hash_begin(h);
    *from = 0;
    if (item->have == 0)
        return 0;
    int err = send_blocks(s, fd, h, 0, item->have, item, true);
    transfer_hash_so_far(h, end, own);
    if (err == 0 && memcmp(own, item->hash, sizeof(own)) == 0) {
        s->resumed += s->done - had;
        *from = item->have;
        return 0;
    }
    transfer_hash_begin(h);
    s->done = had;
    return err == POSTERN_ERR_IO ? 0 : err; /* that is met again, and said */
}

static int give_up_file(struct sending *s, struct send_item *item, const char *why)
{
    item->failed = true;
    log_warn("%s is not sent: %s", item->file.path, why);
    return send_frame(s, TRANSFER_ABORT, NULL, 0);
}

static int send_content(struct sending *s, size_t i, int fd)
{
    struct send_item *item = &s->list.items[i];
    struct transfer_hash h;
    uint8_t hash[TRANSFER_HASH_LEN];
    uint64_t blocks = transfer_blocks(item->file.size);
    uint64_t from;
    int err = find_start(s, fd, &h, item, &from);
    if (err != 0)
        return err;
    s->answers++;
    err = send_numbers(s, TRANSFER_START, &i, &from);
    if (err == 0)
        err = send_blocks(s, fd, &h, from, blocks, item, false);
    if (err != 0 && err != POSTERN_ERR_IO)
        return err;
    bool changed = has_changed(fd, item);
    if (err != 0 || changed || is_longer(fd, item)) {
        s->answers--;
        return give_up_file(
            s, item,
            err != 0 && s->unread != 0 ? strerror(s->unread)
            : changed ? "it changed while it was sent; send it again when it stands "
                        "still"
                      : "its size is not what the kernel says, as in /proc and /sys; "
                        "send a copy of it: cat it into a file");
    }
    transfer_hash_so_far(&h, item->file.size, hash);
    return send_frame(s, TRANSFER_END, hash, sizeof(hash));
}

static int send_item(struct sending *s, size_t i)
{
    struct send_item *item = &s->list.items[i];
    uint64_t from = 0;
    s->current = item;
    if (item->file.directory) {
        s->answers++;
        return send_numbers(s, TRANSFER_START, &i, &from);
    }
    int fd = open(item->from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        item->failed = true;
        log_warn("%s is not sent: %s", item->file.path, strerror(errno));
        return 0;
    }
    int err = send_content(s, i, fd);
    (void)close(fd);
    return err;
}

/* Asks whether what is there is the same; what cannot be read send_item says. */
static int ask_same(struct sending *s, size_t i)
{
    struct send_item *item = &s->list.items[i];
    uint8_t msg[4 + TRANSFER_HASH_LEN], hash[TRANSFER_HASH_LEN];
    struct wire_writer w = wire_writer(msg, sizeof(msg));
    struct transfer_hash h;
    uint64_t had = s->done;
    int fd = open(item->from, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    s->current = item;
    transfer_hash_begin(&h);
    int err = fd < 0 ? POSTERN_ERR_IO
                     : send_blocks(s, fd, &h, 0, transfer_blocks(item->file.size), item,
                                   true);
    if (err == 0 && is_longer(fd, item))
        err = POSTERN_ERR_IO;
    if (fd >= 0)
        (void)close(fd);
    item->whole = err == 0;
    if (err != 0) {
        s->done = had;
        return err == POSTERN_ERR_IO ? 0 : err;
    }
    s->done = had + item->file.size;
    s->resumed += item->file.size;
    s->answers++;
    transfer_hash_so_far(&h, item->file.size, hash);
    wire_put_u32(&w, (uint32_t)i);
    wire_put_bytes(&w, hash, sizeof(hash));
    return send_frame(s, TRANSFER_SAME, msg, w.used);
}

static int send_all(struct sending *s)
{
    int err = send_list(s);
    s->began_us = s->told_us = clock_us();
    for (size_t i = 0; i < s->list.count && err == 0; i++)
        if (s->list.items[i].whole)
            err = ask_same(s, i);
    while (err == 0 && s->answers > 0)
        err = wait_for(s, 0);
    for (size_t i = 0; i < s->list.count && err == 0; i++)
        if (!s->list.items[i].stored)
            err = send_item(s, i);
    while (err == 0 && s->answers > 0)
        err = wait_for(s, 0);
    return err;
}

/* ------------------------------------------------------------------ the connection */

_Noreturn static void run_nc(const struct sending *s, int fd, int tell)
{
    struct fault f = {0};
    struct client_config c = s->config;
    struct events none = {.out = NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
    (void)pthread_sigmask(SIG_SETMASK, &s->signals, NULL);
    c.out = &none;
    if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0)
        _exit(1);
    (void)close(fd);
    int err = nc_run(&c, s->host, SERVICE, s->opened, &f);
    if (err != 0)
        (void)!write(tell, &f, sizeof(f)); /* fits into a pipe at once */
    _exit(err == 0 ? 0 : 1);
}

static int start_nc(struct sending *s)
{
    int pair[2], word[2];
    if (sock_pair(pair) != 0)
        return fault_lack(s->f, POSTERN_ERR_LIMIT);
    if (pipe2(word, O_CLOEXEC) != 0) {
        (void)close(pair[0]);
        (void)close(pair[1]);
        return fault_lack(s->f, POSTERN_ERR_LIMIT);
    }
    s->opened = ready_flag_open();
    (void)fflush(NULL);
    s->nc = fork();
    if (s->nc == 0)
        run_nc(s, pair[1], word[1]);
    (void)close(pair[1]);
    (void)close(word[1]);
    s->fd = pair[0];
    s->word = word[0];
    return s->nc > 0 ? 0 : fault_lack(s->f, POSTERN_ERR_LIMIT);
}

static int fault_ended(struct sending *s)
{
    return fault_set(s->f, POSTERN_ERR_CLOSED,
                     "run 'postern receive' there, and send it again: it goes on where "
                     "it was",
                     "the receiver on %s ended in the middle", s->host);
}

/* The connection's own reason comes before what was seen of it here. */
static int end_nc(struct sending *s, int err)
{
    struct fault why;
    struct ready word = {.fd = s->word, .wanted = WATCH_READ};
    int status = 0;
    if (stop_is_due())
        (void)kill(s->nc, SIGTERM);
    sock_end(s->fd);
    (void)close(s->fd);
    /* Its path may be dead just now, and all that it could tell is told. */
    if (ready_wait(&word, 1, END_MS) == 0)
        (void)kill(s->nc, SIGTERM);
    bool told = read(s->word, &why, sizeof(why)) == (ssize_t)sizeof(why);
    (void)close(s->word);
    if (s->opened >= 0)
        (void)close(s->opened);
    bool orderly = waitpid(s->nc, &status, 0) == s->nc && status == 0;
    if (err == 0 || s->f->what[0] != '\0')
        return err;
    if (told && why.code == POSTERN_ERR_NOTFOUND &&
        strstr(why.what, "'" SERVICE "'") != NULL)
        return fault_set(s->f, why.code, "run 'postern receive' there", "%s" NOTHING,
                         s->host);
    if (told && strstr(why.what, "broken before its end") != NULL)
        return fault_ended(s);
    if (told) {
        *s->f = why;
        return why.code;
    }
    if (err == POSTERN_ERR_PROTO)
        return fault_set(s->f, err, "update the older one",
                         "what %s answers makes no sense", s->host);
    if (orderly)
        return fault_ended(s);
    return fault_set(s->f, err, "send it again: it goes on where it was",
                     "%s ended the connection in the middle", s->host);
}

static bool receives_nothing(const struct sending *s)
{
    return s->f->code == POSTERN_ERR_NOTFOUND && strstr(s->f->what, NOTHING) != NULL;
}

/* One connection, and all that goes over it. */
static int send_once(struct sending *s)
{
    s->total = 0;
    s->open = false;
    s->moved_us = s->looked_us = 0;
    int err = start_nc(s);
    if (err != 0)
        return err;
    log_progress("connecting to %s ...", s->host);
    err = send_all(s);
    if (err != 0 && s->f->what[0] == '\0')
        (void)look_for_end(s); /* the connection had the signal first */
    err = end_nc(s, err);
    log_progress_end();
    return err;
}

/* How long it may go on, from `began_us` on: as --wait says, or as the host was away.
 */
static uint64_t end_of_wait(const struct sending *s, uint64_t began_us)
{
    uint64_t now_us = clock_us();
    if (s->wait_ms > 0)
        return began_us + s->wait_ms * 1000ull;
    return now_us - began_us > LONG_MS * 1000ull ? now_us + GRACE_MS * 1000ull : 0;
}

static int send_patiently(struct sending *s)
{
    uint64_t began_us = clock_us(), end_us = 0;
    bool told = false;
    for (;;) {
        int err = send_once(s);
        uint64_t now_us = clock_us();
        if (err == 0 || !receives_nothing(s))
            return err;
        if (end_us == 0)
            end_us = end_of_wait(s, began_us);
        if (now_us + AGAIN_MS * 1000ull >= end_us || stop_is_due())
            return err;
        if (!told && s->wait_ms > 0)
            log_warn("waiting: %s; %s", s->f->what, s->f->advice);
        told = true;
        *s->f = (struct fault){0};
        (void)!ready_wait(NULL, 0, AGAIN_MS);
        now_us = clock_us();
        if (s->wait_ms > 0)
            s->config.wait_ms =
                now_us < end_us ? (unsigned)((end_us - now_us) / 1000) + 1 : 1;
    }
}

static int conclude(const struct sending *s)
{
    size_t failed = s->list.passed_over;
    for (size_t i = 0; i < s->list.count; i++)
        failed += s->list.items[i].failed;
    return failed == 0 ? 0
                       : fault_set(s->f, POSTERN_ERR_INVALID, "see the warnings",
                                   "%zu of %zu were not sent", failed,
                                   s->list.count + s->list.passed_over);
}

int send_run(const struct client_config *c, const char *const *paths, size_t count,
             const char *host, struct fault *f)
{
    struct sending *s = calloc(1, sizeof(*s));
    int err = 0;
    if (s == NULL)
        return fault_lack(f, POSTERN_ERR_NOMEM);
    s->config = *c;
    s->config.soon = true;
    s->wait_ms = c->wait_ms;
    s->host = host;
    s->f = f;
    for (size_t i = 0; i < count && err == 0; i++)
        err = send_list_add(&s->list, paths[i], f);
    send_list_tell_odd(&s->list);
    stop_hold(&s->signals);
    if (err == 0)
        err = send_patiently(s);
    if (err == 0)
        err = conclude(s);
    if (err == 0)
        stop_forget(&s->signals);
    send_list_fini(&s->list);
    free(s);
    return err;
}
