/*
 * Lines on stderr. The level belongs to the thread, so that nothing is shared and a
 * library user's other threads are left alone; the log knows no role and no file.
 */
#include "io/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/utf8.h"

static _Thread_local enum log_level thread_level = LOG_LEVEL_WARN;
static _Thread_local bool progress_shown;

void log_set_level(enum log_level level)
{
    thread_level = level;
}

enum log_level log_level(void)
{
    return thread_level;
}

/* One write a line, so that the lines of several threads do not mix. */
static void log_line(enum log_level level, const char *fmt, va_list ap)
{
    static const char *const names[] = {"error", "warning", "info", "debug"};
    char line[1024];
    if (level > thread_level)
        return;
    int saved = errno;
    log_progress_end();
    int head = snprintf(line, sizeof(line), "postern: %s: ", names[level]);
    int n = vsnprintf(line + head, sizeof(line) - (size_t)head - 1, fmt, ap);
    size_t len = (size_t)head + (n > 0 ? (size_t)n : 0);
    if (len > sizeof(line) - 2)
        len = sizeof(line) - 2;
    line[len] = '\0';
    utf8_make_plain(line);
    line[len++] = '\n';
    ssize_t done = write(STDERR_FILENO, line, len);
    (void)done; /* nowhere to complain to */
    errno = saved;
}

#define CLEAR_LINE "\r\033[K"

bool log_shows_progress(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && (term == NULL || strcmp(term, "dumb") != 0);
}

void log_progress(const char *fmt, ...)
{
    enum { WIDTH = 79 };
    char line[sizeof(CLEAR_LINE) + 4 * WIDTH] = CLEAR_LINE;
    va_list ap;
    if (!log_shows_progress())
        return;
    va_start(ap, fmt);
    (void)vsnprintf(line + strlen(CLEAR_LINE), WIDTH + 1, fmt, ap);
    va_end(ap);
    utf8_make_plain(line + strlen(CLEAR_LINE));
    ssize_t done = write(STDERR_FILENO, line, strlen(line));
    (void)done;
    progress_shown = true;
}

void log_progress_end(void)
{
    if (!progress_shown)
        return;
    progress_shown = false;
    ssize_t done = write(STDERR_FILENO, CLEAR_LINE, strlen(CLEAR_LINE));
    (void)done;
}

void log_error(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(LOG_LEVEL_ERROR, fmt, ap);
    va_end(ap);
}

void log_warn(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(LOG_LEVEL_WARN, fmt, ap);
    va_end(ap);
}

void log_info(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(LOG_LEVEL_INFO, fmt, ap);
    va_end(ap);
}

void log_debug(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(LOG_LEVEL_DEBUG, fmt, ap);
    va_end(ap);
}

static void log_at(enum log_level level, const char *fmt, ...) PRINTF_LIKE(2, 3);

static void log_at(enum log_level level, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    log_line(level, fmt, ap);
    va_end(ap);
}

void log_fault(enum log_level level, const struct fault *f)
{
    if (f->advice[0] == '\0')
        log_at(level, "%s", f->what);
    else
        log_at(level, "%s; %s", f->what, f->advice);
}
