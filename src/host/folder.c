/*
 * libmicrohttpd answers, on the command's own loop, on connections that `serve` hands
 * over: given to a thread of its own it locked up for good once its limit was reached.
 * The directory is walked name by name from one open descriptor. Ranges are served, so
 * that films can be wound and downloads resumed.
 */
#include "host/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <microhttpd.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "host/folder_places.h"
#include "host/taker.h"
#include "io/lack.h"
#include "io/stop.h"

enum { IDLE_S = 120, SWEEP_MS = 2000 };

struct folder {
    int dir;
    struct MHD_Daemon *http;
    struct watch watch;
    struct timer turn, sweep; /* the daemon's next turn */
    struct places places;
    struct loop *loop;
    const char *name;
    struct events *out;
    struct fault *f;
};

/* --------------------------------------------------------------------------- pages */

static void put_escaped(FILE *to, const char *text)
{
    for (; *text != '\0'; text++) {
        switch (*text) {
        case '<':
            (void)fputs("&lt;", to);
            break;
        case '>':
            (void)fputs("&gt;", to);
            break;
        case '&':
            (void)fputs("&amp;", to);
            break;
        case '"':
            (void)fputs("&quot;", to);
            break;
        default:
            (void)fputc((unsigned char)*text < 0x20 ? '?' : *text, to);
        }
    }
}

/* As a part of a URL's path (RFC 3986 section 2.3). */
static void put_quoted(FILE *to, const char *text)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789-._~";
    for (; *text != '\0'; text++)
        (void)fprintf(to, strchr(plain, *text) != NULL ? "%c" : "%%%02X",
                      (unsigned char)*text);
}

static void put_entry(FILE *to, int dir, const char *name)
{
    struct stat st;
    struct tm tm;
    char when[32] = "";
    if (name[0] == '.' || fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
        (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)))
        return;
    const char *slash = S_ISDIR(st.st_mode) ? "/" : "";
    if (gmtime_r(&st.st_mtim.tv_sec, &tm) != NULL)
        (void)strftime(when, sizeof(when), "%Y-%m-%d %H:%M", &tm);
    (void)fputs("<tr><td><a href=\"./", to);
    put_quoted(to, name);
    (void)fprintf(to, "%s\">", slash);
    put_escaped(to, name);
    (void)fprintf(to, "%s</a><td>", slash);
    if (S_ISREG(st.st_mode))
        (void)fprintf(to, "%lld", (long long)st.st_size);
    (void)fprintf(to, "<td>%s\n", when);
}

/* The page of an open directory, which is closed; to be freed. */
static char *list_page(int dir, const char *path, size_t *len)
{
    static const char head[] =
        "<!doctype html><meta charset=utf-8><meta name=viewport "
        "content=\"width=device-width\"><style>body{font:16px sans-serif;margin:2em}"
        "td{padding:.2em 1em .2em 0}td+td{text-align:right;color:#777}"
        "@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}"
        "a{color:#8bf}}</style><title>";
    char *page = NULL;
    struct dirent **names = NULL;
    FILE *to = open_memstream(&page, len);
    if (to == NULL) {
        (void)close(dir);
        return NULL;
    }
    char open_dir[32]; /* not every libc has scandirat(3) */
    (void)snprintf(open_dir, sizeof(open_dir), "/proc/self/fd/%d", dir);
    int n = scandir(open_dir, &names, NULL, alphasort);
    (void)fputs(head, to);
    put_escaped(to, path);
    (void)fputs("</title><h1>", to);
    put_escaped(to, path);
    (void)fputs("</h1><table>\n", to);
    if (strcmp(path, "/") != 0)
        (void)fputs("<tr><td><a href=\"../\">..</a><td><td>\n", to);
    for (int i = 0; i < n; i++) {
        put_entry(to, dir, names[i]->d_name);
        free(names[i]);
    }
    free(names);
    (void)fputs("</table>\n", to);
    (void)close(dir);
    if (fclose(to) == 0)
        return page;
    free(page);
    return NULL;
}

/* ------------------------------------------------------------------------- requests */

static const char *type_of(const char *path)
{
    static const char *const types[][2] = {
        {"html", "text/html"},
        {"txt", "text/plain; charset=utf-8"},
        {"md", "text/plain; charset=utf-8"},
        {"css", "text/css"},
        {"js", "text/javascript"},
        {"jpg", "image/jpeg"},
        {"jpeg", "image/jpeg"},
        {"png", "image/png"},
        {"gif", "image/gif"},
        {"webp", "image/webp"},
        {"svg", "image/svg+xml"},
        {"pdf", "application/pdf"},
        {"mp4", "video/mp4"},
        {"webm", "video/webm"},
        {"mp3", "audio/mpeg"},
        {"ogg", "audio/ogg"},
        {"json", "application/json"},
    };
    const char *dot = strrchr(path, '.');
    for (size_t i = 0; dot != NULL && i < sizeof(types) / sizeof(types[0]); i++)
        if (strcasecmp(dot + 1, types[i][0]) == 0)
            return types[i][1];
    return "application/octet-stream";
}

/* What the path leads to inside the directory, or -1: also for what is hidden. */
static int open_below(int dir, const char *path)
{
    char name[NAME_MAX + 1];
    int at = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (at >= 0 && *(path += strspn(path, "/")) != '\0') {
        size_t len = strcspn(path, "/");
        int next = -1;
        if (path[0] != '.' && len < sizeof(name)) {
            (void)snprintf(name, sizeof(name), "%.*s", (int)len, path);
            next = openat(at, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        }
        (void)close(at);
        at = next;
        path += len;
    }
    return at;
}

static enum MHD_Result answer(struct MHD_Connection *c, unsigned status,
                              struct MHD_Response *r, const char *type)
{
    if (r == NULL)
        return MHD_NO;
    (void)MHD_add_response_header(r, "Content-Type", type);
    (void)MHD_add_response_header(r, "X-Content-Type-Options", "nosniff");
    (void)MHD_add_response_header(r, "Cache-Control", "no-cache");
    enum MHD_Result rc = MHD_queue_response(c, status, r);
    MHD_destroy_response(r);
    return rc;
}

static enum MHD_Result answer_words(struct MHD_Connection *c, unsigned status,
                                    const char *words)
{
    return answer(c, status,
                  MHD_create_response_from_buffer(
                      strlen(words), (void *)(uintptr_t)words, MHD_RESPMEM_PERSISTENT),
                  "text/plain");
}

/* Digits only; false where there are none. More than any file has counts as that. */
static bool take_number(const char **at, uint64_t *v)
{
    const char *start = *at;
    for (*v = 0; **at >= '0' && **at <= '9'; (*at)++)
        *v = *v > UINT64_MAX / 100 ? UINT64_MAX / 10 : *v * 10 + (uint64_t)(**at - '0');
    return *at != start;
}

/*
 * "bytes=A-B", "bytes=A-" or "bytes=-N" of one range; others count as none (RFC 9110
 * section 14.2). 1: it is [from, from + len); 0: none; -1: outside of the file.
 */
static int parse_range(const char *text, uint64_t size, uint64_t *from, uint64_t *len)
{
    uint64_t a = 0, b = 0;
    *from = 0;
    *len = size;
    if (text == NULL || strncmp(text, "bytes=", 6) != 0)
        return 0;
    text += 6;
    bool first = take_number(&text, &a);
    if (*text++ != '-')
        return 0;
    bool last = take_number(&text, &b);
    if (*text != '\0' || (!first && !last) || (first && last && b < a))
        return 0;
    if (!first) {
        a = b < size ? size - b : 0;
        last = b > 0;
        b = size;
    }
    if (a >= size || (!first && !last))
        return -1;
    *from = a;
    *len = (last && b < size ? b + 1 : size) - a;
    return 1;
}

static enum MHD_Result answer_file(struct MHD_Connection *c, int fd, uint64_t size,
                                   const char *path)
{
    uint64_t from, len;
    char range[80];
    int part = parse_range(MHD_lookup_connection_value(c, MHD_HEADER_KIND, "Range"),
                           size, &from, &len);
    if (part < 0) {
        (void)close(fd);
        return answer_words(c, MHD_HTTP_RANGE_NOT_SATISFIABLE, "It is not so long.\n");
    }
    struct MHD_Response *r = MHD_create_response_from_fd_at_offset64(len, fd, from);
    if (r == NULL) {
        (void)close(fd);
        return MHD_NO;
    }
    (void)MHD_add_response_header(r, "Accept-Ranges", "bytes");
    (void)snprintf(range, sizeof(range), "bytes %" PRIu64 "-%" PRIu64 "/%" PRIu64, from,
                   from + len - 1, size);
    if (part > 0)
        (void)MHD_add_response_header(r, "Content-Range", range);
    return answer(c, part > 0 ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK, r,
                  type_of(path));
}

static enum MHD_Result answer_list(struct MHD_Connection *c, int dir, const char *path)
{
    size_t len = 0;
    if (path[strlen(path) - 1] != '/') { /* names in it are relative */
        char place[2 * NAME_MAX];
        const char *slash = strrchr(path, '/');
        FILE *to = fmemopen(place, sizeof(place), "w");
        (void)close(dir);
        if (to == NULL)
            return MHD_NO;
        (void)fputs("./", to);
        put_quoted(to, slash + 1);
        (void)fputc('/', to);
        (void)fclose(to);
        struct MHD_Response *r =
            MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
        if (r != NULL)
            (void)MHD_add_response_header(r, "Location", place);
        return answer(c, MHD_HTTP_FOUND, r, "text/plain");
    }
    char *page = list_page(dir, path, &len);
    if (page == NULL)
        return MHD_NO;
    struct MHD_Response *r =
        MHD_create_response_from_buffer(len, page, MHD_RESPMEM_MUST_FREE);
    if (r == NULL)
        free(page);
    else
        (void)MHD_add_response_header(r, "Content-Security-Policy",
                                      "default-src 'none'; style-src 'unsafe-inline'");
    return answer(c, MHD_HTTP_OK, r, "text/html; charset=utf-8");
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *c, const char *url,
                                  const char *method, const char *version,
                                  const char *data, size_t *len, void **state)
{
    struct folder *f = ctx;
    struct stat st;
    (void)version, (void)data, (void)len;
    *state = f; /* or on_completed is not called */
    places_asked(c);
    if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 &&
        strcmp(method, MHD_HTTP_METHOD_HEAD) != 0)
        return answer_words(c, MHD_HTTP_METHOD_NOT_ALLOWED, "This can only be read.\n");
    int fd = url[0] == '/' ? open_below(f->dir, url) : -1;
    if (fd >= 0 && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
        return answer_list(c, fd, url);
    if (fd >= 0 && S_ISREG(st.st_mode))
        return answer_file(c, fd, (uint64_t)st.st_size, url);
    if (fd >= 0)
        (void)close(fd);
    return answer_words(c, MHD_HTTP_NOT_FOUND, "There is nothing here.\n");
}

/* ------------------------------------------------------------------------- the command
 */

static void on_completed(void *ctx, struct MHD_Connection *c, void **state,
                         enum MHD_RequestTerminationCode why)
{
    (void)state, (void)why;
    places_answered(&((struct folder *)ctx)->places, c);
}

/* A name has no NUL; libmicrohttpd would end the path there. */
static size_t on_unescape(void *ctx, struct MHD_Connection *c, char *text)
{
    (void)ctx, (void)c;
    if (strstr(text, "%00") == NULL)
        return MHD_http_unescape(text);
    text[0] = '\0'; /* there is nothing of that name */
    return 0;
}

static void turn(struct folder *f)
{
    MHD_UNSIGNED_LONG_LONG ms;
    f->places.now_ms = loop_now_ms(f->loop);
    (void)MHD_run(f->http);
    if (MHD_get_timeout(f->http, &ms) == MHD_YES)
        timer_start(&f->turn, ms);
}

static void on_ready(void *ctx, int events)
{
    (void)events;
    turn(ctx);
}

static void on_turn(void *ctx)
{
    turn(ctx);
}

static void on_sweep(void *ctx)
{
    struct folder *f = ctx;
    f->places.now_ms = loop_now_ms(f->loop);
    places_sweep(&f->places);
    timer_start(&f->sweep, SWEEP_MS);
    turn(f);
}

static void on_connection(void *ctx, int fd, const char *who)
{
    struct folder *f = ctx;
    /* MHD wants an address, of which an end of a pair has none. */
    struct {
        unsigned short family;
    } none = {1};
    f->places.now_ms = loop_now_ms(f->loop);
    if (places_add(&f->places, fd, who) != 0)
        (void)close(fd);
    else if (MHD_add_connection(f->http, fd, (const struct sockaddr *)&none,
                                sizeof(none)) != MHD_YES)
        places_refused(&f->places); /* it closed it */
    timer_start(&f->turn, 0);
}

static void tell_ready(void *ctx)
{
    struct folder *f = ctx;
    struct event e;
    event_begin(&e, "ready");
    event_text(&e, "shares", f->name);
    events_print(f->out, &e);
}

static void on_stop(void *ctx, int signum)
{
    (void)signum;
    loop_stop(((struct folder *)ctx)->loop);
}

static int start_http(struct folder *f)
{
    timer_init(&f->turn, f->loop, on_turn, f);
    timer_init(&f->sweep, f->loop, on_sweep, f);
    // clang-format off
    f->http = MHD_start_daemon(
        MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET, 0, NULL, NULL, on_request, f,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, f,
        MHD_OPTION_NOTIFY_CONNECTION, places_notify, &f->places,
        MHD_OPTION_UNESCAPE_CALLBACK, on_unescape, NULL,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
        MHD_OPTION_CONNECTION_LIMIT, (unsigned)PLACES_MAX + PLACES_ENDING_MAX,
        MHD_OPTION_END);
    // clang-format on
    if (f->http == NULL)
        return POSTERN_ERR_NOMEM;
    const union MHD_DaemonInfo *info =
        MHD_get_daemon_info(f->http, MHD_DAEMON_INFO_EPOLL_FD);
    timer_start(&f->sweep, SWEEP_MS);
    return info == NULL ? POSTERN_ERR_NOMEM
                        : watch_start(&f->watch, f->loop, info->epoll_fd, WATCH_READ,
                                      on_ready, f);
}

static int open_all(struct folder *f, const char *dir)
{
    f->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (f->dir < 0)
        return fault_set(f->f, POSTERN_ERR_NOTFOUND, "name a directory",
                         "%.200s cannot be shared: %s", dir, strerror(errno));
    int err = loop_open(&f->loop);
    if (err == 0)
        err = start_http(f);
    return err != 0 ? fault_lack(f->f, err) : 0;
}

int folder_run(const struct statedir *state, const char *dir, struct events *out,
               struct fault *f)
{
    static const struct taker_events events = {on_connection, tell_ready};
    struct folder folder = {.dir = -1, .name = dir, .out = out, .f = f};
    struct taker *taker = NULL;
    struct stop *stop = NULL;
    places_init(&folder.places);
    int err = open_all(&folder, dir);
    if (err == 0 && (err = stop_open(&stop, folder.loop, on_stop, &folder)) != 0)
        (void)fault_lack(f, err);
    if (err == 0)
        err = taker_open(&taker, folder.loop, state, FOLDER_SERVICE "=" FOLDER_PORT,
                         "postern share", &events, &folder, f);
    if (err == 0) {
        tell_ready(&folder);
        loop_run(folder.loop);
    }
    taker_close(taker);
    stop_close(stop);
    watch_close(&folder.watch);
    if (folder.loop != NULL) {
        timer_stop(&folder.turn);
        timer_stop(&folder.sweep);
    }
    if (folder.http != NULL)
        MHD_stop_daemon(folder.http);
    places_fini(&folder.places);
    if (folder.loop != NULL)
        loop_poll(folder.loop);
    loop_close(folder.loop);
    if (folder.dir >= 0)
        (void)close(folder.dir);
    return err;
}
