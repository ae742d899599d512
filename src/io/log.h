/*
 * The log: one line an entry on stderr. Levels are set once for each thread, before
 * it does anything; a thread that sets nothing reports warnings and errors.
 *
 * What a peer caused is logged at debug; an error is ours and says what to do.
 */
#ifndef POSTERN_IO_LOG_H
#define POSTERN_IO_LOG_H

#include <stdbool.h>

#include "core/err.h"

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* For the calling thread only: hand log_level() to a thread that you start. */
void log_set_level(enum log_level level);
enum log_level log_level(void);

/* Line breaks and control characters inside the text are shown as '?'. */
void log_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_warn(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_info(const char *fmt, ...) PRINTF_LIKE(1, 2);
void log_debug(const char *fmt, ...) PRINTF_LIKE(1, 2);
/*
 * What is under way, on a terminal: a line without an end, which the next one, of the
 * log or on stdout, takes the place of. Where stderr is none nothing is written.
 */
void log_progress(const char *fmt, ...) PRINTF_LIKE(1, 2);
/* Whether that is shown: else whoever waits has to be told by a line of the log. */
bool log_shows_progress(void);
/* Takes it away; harmless when there is none. */
void log_progress_end(void);
/* An error line made of a fault: what, then what to do. */
void log_fault(enum log_level level, const struct fault *f);

#endif
